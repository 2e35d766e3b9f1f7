"""A model from a fitted classifier of scikit-learn."""

import warnings
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.errors import DataError
from dsoftmax.results.model import Model, theta_from

Float = NDArray[np.float64]
N_PROBES = 8
"""Random rows on which the probabilities of the two models are compared."""
DIFFERENCE = 1e-5
"""Largest difference of a probability: coefficients in float32 differ by 1e-7 from themselves."""


def from_sklearn(estimator: Any) -> Model:
    """Return the model of a fitted ``LogisticRegression``.

    It predicts as the estimator does. `SoftmaxRegression` starts from it by ``coef_init`` and
    ``intercept_init``.

    Parameters
    ----------
    estimator : sklearn.linear_model.LogisticRegression
        Or another classifier whose probabilities are softmax(Xcoefᵀ + intercept): this is checked
        on random rows.

    Raises
    ------
    DataError
        The estimator is not fitted, is no linear classifier, or has other probabilities, such as
        those of one class against the rest.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from dsoftmax import SoftmaxRegression, from_sklearn
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"]
    >>> model = from_sklearn(LogisticRegression().fit(X, y))
    >>> start = {"coef_init": model.coef_, "intercept_init": model.intercept_}
    >>> SoftmaxRegression(C=1.0).fit(X, y, **start).predict([[0.0], [3.0]]).tolist()
    ['a', 'b']
    """
    kind = type(estimator).__name__
    try:
        classes = np.asarray(estimator.classes_)
        coef, intercept = estimator.coef_, estimator.intercept_
    except AttributeError as error:
        raise DataError(
            f"{kind} has no coefficients ({error}); expected a fitted LogisticRegression. Call fit "
            "before, or pass the last step of a pipeline: estimator[-1]."
        ) from error
    coef = np.asarray(coef.toarray() if scipy.sparse.issparse(coef) else coef, np.float64)
    rows = 1 if len(classes) == 2 else len(classes)
    intercept = np.broadcast_to(np.asarray(intercept, np.float64), (rows,))
    if classes.ndim != 1 or len(classes) < 2 or coef.ndim != 2 or len(coef) != rows:
        raise DataError(
            f"{kind} has coefficients of shape {coef.shape} for {len(classes)} classes; expected "
            f"({rows}, p). Pass a LogisticRegression with one column of labels."
        )
    names = getattr(estimator, "feature_names_in_", None)
    if classes.dtype == object:
        classes = np.array(classes.tolist())
    order = np.argsort(classes)
    theta = theta_from(coef, intercept)[order]
    model = Model(theta, classes[order], feature_names=None if names is None else np.array(names))
    _require_softmax(estimator, model, order)
    return model


def _require_softmax(estimator: Any, model: Model, order: NDArray[np.intp]) -> None:
    """Check the probabilities on rows whose logits are neither all alike nor all extreme."""
    kind = type(estimator).__name__
    largest = float(np.abs(model.theta[:, :-1]).max(initial=0.0)) or 1.0
    spread = 2 / (largest * np.sqrt(max(model.n_features, 1)))
    X: Features = spread * np.random.default_rng(0).normal(size=(N_PROBES, model.n_features))
    if not np.isfinite(model.theta).all():
        raise DataError(f"{kind} has coefficients that are not finite; expected numbers. Fit anew.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the rows have no feature names
            theirs = np.asarray(estimator.predict_proba(X))[:, order]
    except AttributeError as error:
        raise DataError(
            f"{kind} has no probabilities ({error}); expected a LogisticRegression. Fit one to the "
            "same rows."
        ) from error
    Z = X @ model.theta[:, :-1].T + model.theta[:, -1]
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    if theirs.shape != P.shape or np.abs(theirs - P).max() > DIFFERENCE:
        raise DataError(
            f"The probabilities of {kind} are not softmax of its logits; expected a multinomial "
            "model. Fit a LogisticRegression with solver='lbfgs', which has no one class against "
            "the rest."
        )
