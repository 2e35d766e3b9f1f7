"""Labels, start coefficients and shapes, as scikit-learn has them."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Names
from dsoftmax.data.open import is_dask, is_lazy, require_column
from dsoftmax.data.source import Source
from dsoftmax.errors import DataError, OptionError
from dsoftmax.estimators.sklearn import DataConversionWarning
from dsoftmax.results.model import Model

Float = NDArray[np.float64]

NAMES = Names()


def _given_start(coef: Any, intercept: Any, source: Source) -> Float | None:
    """Return θ from coefficients in scikit-learn's shapes; None where none were given.

    Raises
    ------
    DataError
        Shapes that do not fit each other or the features, or values that are not finite.
    """
    if coef is None:
        if intercept is not None:
            raise OptionError(
                "intercept_init does nothing without coef_init. Give both, or leave it out."
            )
        return None
    W = np.atleast_2d(np.asarray(coef, np.float64))
    b = np.zeros(len(W)) if intercept is None else np.asarray(intercept, np.float64).reshape(-1)
    if W.ndim != 2 or W.shape[1] != source.n_features or b.shape != (len(W),):
        raise DataError(
            f"coef_init has shape {W.shape} and intercept_init {b.shape}; needed are (K, {source.n_features}) and (K,), with "
            "one row for two classes."
        )
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise DataError(
            "coef_init or intercept_init holds NaN or infinity; needed are finite numbers to start from."
        )
    theta = np.column_stack([W, b])
    return theta if len(theta) > 1 else np.vstack([-theta / 2, theta / 2])


def coefficients(model: Model) -> tuple[Float, Float]:
    """Return θ in scikit-learn's shapes: one row θ₁ − θ₀ for two classes, else a row per class."""
    theta = model.theta[1:] - model.theta[:1] if len(model.classes) == 2 else model.theta
    return theta[:, :-1].copy(), theta[:, -1].copy()


def _column(y: Any, name: str) -> Any:
    """Return labels as array; a column becomes one dimension, with scikit-learn's warning."""
    require_column(y, name)
    y = y if is_lazy(y) else np.asarray(y)
    if len(y.shape) != 2 or y.shape[1] != 1 or (is_lazy(y) and not is_dask(y)):
        return y
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples, ), for example "
        "using ravel().",
        DataConversionWarning,
        stacklevel=4,
    )
    return y[:, 0]
