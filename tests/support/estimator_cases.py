"""Data, expectations and engines that the tests of the estimators share."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax

from dsoftmax.engines.serial import SerialEngine

TIGHT = {"tol": 1e-9, "max_iter": 1000, "dtype": "float64"}


THEIRS = {"tol": 1e-10, "max_iter": 10_000}


OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


def make_data(n_classes, n=600, p=5, seed=0):
    """Features of different scales, and classes that overlap: an optimum needs no penalty."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.linspace(0.5, 2, p) + rng.normal(size=p)
    logits = X @ rng.normal(size=(p, n_classes)) / p + rng.normal(size=n_classes) / 2
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return X, y


def objective(estimator, X, y, C, weights=None):
    """F as its definition says, from scikit-learn's coefficients."""
    weights = np.ones(len(y)) if weights is None else weights
    w, b = estimator.coef_, estimator.intercept_
    z = X @ w.T + b
    z = np.column_stack([np.zeros(len(y)), z]) if len(w) == 1 else z
    losses = -log_softmax(z, axis=1)[np.arange(len(y)), np.searchsorted(estimator.classes_, y)]
    return (weights @ losses + (w**2).sum() / (2 * C)) / weights.sum()


def assert_same_model(ours, theirs, rtol=1e-5, atol=1e-6):
    assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.classes_.dtype == theirs.classes_.dtype
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.intercept_.shape == theirs.intercept_.shape
    assert_allclose(ours.coef_, theirs.coef_, rtol=rtol, atol=atol)
    shift = (
        theirs.intercept_.mean() if len(theirs.classes_) > 2 else 0
    )  # free intercepts are equal up to a constant
    assert_allclose(ours.intercept_, theirs.intercept_ - shift, rtol=rtol, atol=atol)


def stored(tmp_path, name, values, chunks):
    """The values as a Zarr array on disk."""
    array = zarr.create_array(
        tmp_path / name, shape=values.shape, chunks=chunks, dtype=values.dtype
    )
    array[:] = values
    return array


def refuse(*args, **kwargs):
    raise AssertionError("something was computed or read as a whole")


class CountingEngine(SerialEngine):
    """Counts passes, and whether its user closed it."""

    def __init__(self):
        super().__init__()
        self.passes, self.closed = 0, False

    def total(self, visit, source):
        self.passes += 1
        assert len(source.chunk_rows) > 1
        return super().total(visit, source)

    def close(self):
        self.closed = True


def run_python(script, *options, **environment):
    command = [sys.executable, *options, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
