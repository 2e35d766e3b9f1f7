"""Labels and start coefficients as scikit-learn's users pass them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.containers import require_dimensions
from dsoftmax.data.kind import has_columns, is_dask, is_lazy
from dsoftmax.data.missing import is_masked
from dsoftmax.data.open import admitted_column
from dsoftmax.data.source import Source
from dsoftmax.errors import DataError, OptionError
from dsoftmax.estimators.sklearn import DataConversionWarning
from dsoftmax.results.model import theta_from

Float = NDArray[np.float64]


def label_column(y: Any, name: str) -> Any:
    """Return labels as an array of one dimension.

    A column, (n, 1), becomes (n,), with scikit-learn's warning to the caller of the caller of the
    caller.

    Raises
    ------
    DataError
        ``y`` is no array.
    """
    y = admitted_column(y, name)
    if not (is_lazy(y) or is_masked(y)):
        container, y = y, np.asarray(y)
        require_dimensions(y, container, name)
    if len(y.shape) != 2 or y.shape[1] != 1 or (is_lazy(y) and not is_dask(y)):
        return y
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y "
        "to (n_samples, ), for example using ravel().",
        DataConversionWarning,
        stacklevel=4,
    )
    return y[:, 0]


@contextmanager
def numbers_only(X: Any, name: str) -> Iterator[None]:
    """Name the cure if a frame has columns that are no numbers, and the block cannot convert them.

    Raises
    ------
    DataError
    """
    try:
        yield
    except ValueError as error:
        if not (has_columns(X) and "could not convert" in str(error)):
            raise
        raise DataError(
            f"{name} has a column of strings or categories ({error}); expected numbers. Pass "
            "categorical_features='from_dtype' to code such columns one-hot, or leave them out."
        ) from error


def given_start(coef: Any, intercept: Any, source: Source) -> Float | None:
    """Return θ, (K, p+1), from coefficients in scikit-learn's shapes; None if none were given.

    Raises
    ------
    OptionError
        Intercepts without coefficients.
    DataError
        The shapes do not fit each other or the features, or values are not finite.
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
            f"coef_init has shape {W.shape} and intercept_init {b.shape}; expected "
            f"(K, {source.n_features}) and (K,). Pass one row for two classes, else one per class."
        )
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise DataError(
            "coef_init or intercept_init holds NaN or infinity; expected finite numbers to start "
            "from. Replace them, or leave coef_init out."
        )
    return theta_from(W, b)
