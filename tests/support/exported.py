"""Models and rows for the tests of exports, and their predictions by SciPy."""

import numpy as np
from scipy.special import softmax

from dsoftmax import Model

CLASSES = {
    "strings": np.array(["ash", "öak", "yew"]),
    "integers": np.array([-3, 5, 2**40]),
    "small integers": np.array([1, 2, 7], np.uint8),
    "two strings": np.array(["no", "yes"]),
    "two integers": np.array([3, 8]),
    "booleans": np.array([False, True]),
    "floats": np.array([0.0, 1.0, 2.0], np.float32),
}
"""Labels of every kind, of two classes and of more."""
STEPS = {
    "counts": {"normalize": 1e4, "log1p": True},
    "other counts": {"normalize": 5e3},
    "skipped": {"nodata": ["-9999.0", "nan"]},
    "categories": {
        "frame": {
            "columns": [{"name": "a", "categories": ["x", "y", "z"]}, {"name": "b"}],
            "handle_unknown": "error",
        }
    },
}
"""Records of models that do more than a product and softmax."""


def model_of(classes, p=4, about=None, names=None, seed=0, far=0.0):
    """A model with random coefficients that are centred over the classes.

    Its logits are moderate for rows with the mean ``far``.
    """
    theta = np.random.default_rng(seed).normal(size=(len(classes), p + 1))
    theta[:, -1] -= theta[:, :-1].sum(axis=1) * far
    names = None if names is None else np.array(names, object)
    return Model(theta - theta.mean(axis=0), classes, about or {}, names)


def rows_of(p=4, n=60, far=0.0, seed=1):
    """Random rows, (n, p) float64, with the mean ``far``."""
    return far + np.random.default_rng(seed).normal(size=(n, p))


def expected(model, X):
    """Labels and probabilities, by SciPy."""
    P = softmax(X @ model.theta[:, :-1].T + model.theta[:, -1], axis=1)
    return model.classes[P.argmax(axis=1)], P
