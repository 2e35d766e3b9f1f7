"""A fitted ``LogisticRegression`` of scikit-learn, from a model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OptionError
from dsoftmax.exports.model import Linear, require_plain


def to_sklearn(model: Linear, classes: NDArray | None = None, names: NDArray | None = None) -> Any:
    """Return a fitted ``sklearn.linear_model.LogisticRegression``.

    Parameters
    ----------
    model : Linear
    classes : (K,) ndarray, optional
        Its labels in another dtype; those of the model when None.
    names : (p,) ndarray of str, optional
        Names of the features.

    Raises
    ------
    OptionError
        The model does more than a product and softmax, or scikit-learn is not installed.
    """
    require_plain(model, "a LogisticRegression")
    return logistic(model, classes, names)


def logistic(model: Linear, classes: NDArray | None = None, names: NDArray | None = None) -> Any:
    """Return `to_sklearn`'s estimator without a check of the model's record."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise OptionError(
            "to_sklearn needs scikit-learn; expected it to be installed. Run "
            "pip install 'dsoftmax[sklearn]'."
        ) from error
    about = model.about
    known: dict[str, Any] = {}
    if "C" in about:
        known = {
            "C": float(about["C"]),
            "l1_ratio": float(about.get("l1_ratio", 0.0)),
            "fit_intercept": bool(about.get("fit_intercept", True)),
        }
        if known["l1_ratio"] > 0:
            known["solver"] = "saga"  # the one solver that has such a penalty
    found = LogisticRegression(**known)
    found.classes_ = np.array(model.classes if classes is None else classes)
    found.coef_, found.intercept_ = model.coef_, model.intercept_
    found.n_features_in_ = found.coef_.shape[1]
    found.n_iter_ = np.array([int(about.get("n_iter", 0))], np.int32)
    if names is not None:
        found.feature_names_in_ = np.array([str(name) for name in names], object)
    return found


def identity_scaler(n_features: int) -> Any:
    """Return a fitted ``StandardScaler`` that changes nothing."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=True, with_std=True)
    scaler.mean_, scaler.scale_ = np.zeros(n_features), np.ones(n_features)
    scaler.var_, scaler.n_features_in_ = np.ones(n_features), n_features
    scaler.n_samples_seen_ = 1
    return scaler
