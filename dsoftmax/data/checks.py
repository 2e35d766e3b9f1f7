"""Checks of the shapes and dtypes of X, labels, weights and groups."""

from math import prod
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.cures import cure_of_column, cure_of_features
from dsoftmax.data.kind import expression
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError


def check_shapes(
    shapes: Table[tuple[int, ...]],
    arrays: Table[Any] | None = None,
    n_features: int | None = None,
) -> None:
    """Raise unless X is (n, p) with n, p > 0 and every column is (n,).

    Parameters
    ----------
    shapes : Table of tuple of int
    arrays : Table of arrays, optional
        The arrays as their user passed them, for the expressions in messages.
    n_features : int, optional
        Features of the model, for X in messages.

    Raises
    ------
    DataError
        The message names the array, its shape, and the cure.
    """
    X, name = shapes.X, shapes.names.X
    arrays = shapes if arrays is None else arrays
    if len(X) != 2:
        n_rows = None if shapes.y is None else prod(shapes.y)
        found = expression(arrays.X, name)
        raise DataError(
            f"{name} has {len(X)} dimensions {X}; expected two, rows and features. "
            f"{cure_of_features(name, found, X, n_rows, n_features)}"
        )
    values = dict(arrays.named())
    for column, shape in list(shapes.named())[1:]:
        found = expression(values.get(column), column)
        _check_column(column, found, shape, name, X[0])
    if X[0] == 0:
        raise DataError(f"{name} has 0 rows (shape {X}) while a minimum of 1 is required.")
    if X[1] == 0:
        raise DataError(f"{name} has 0 feature(s) (shape={X}) while a minimum of 1 is required.")


def _check_column(name: str, found: str, shape: tuple[int, ...], features: str, n: int) -> None:
    if len(shape) != 1:
        raise DataError(
            f"{name} has shape {shape}; expected one value per row, ({n},). "
            f"{cure_of_column(name, found, shape, n)}"
        )
    if shape[0] != n:
        raise DataError(
            f"{name} has {shape[0]:,} rows and {features} has {n:,}; expected one value per row. "
            "Check that both come from the same data, in the same order."
        )


def every_row(weights: Any, n: tuple[int, ...]) -> Any:
    """Return one number as the weight of every row, (n,); other weights unchanged.

    The result has one number in memory, not one per row.
    """
    return np.broadcast_to(np.float64(weights), n) if isinstance(weights, Real) else weights


def require_numbers(name: str, dtype: np.dtype) -> None:
    """Raise unless the dtype holds real numbers.

    Raises
    ------
    DataError
    """
    if dtype.kind not in "biuf":
        kind = "Complex data not supported: " if dtype.kind == "c" else ""
        raise DataError(
            f"{kind}{name} has dtype {dtype}; expected real numbers. Convert it with "
            "astype(float), or encode it. Columns of categories in a frame are encoded by "
            "categorical_features='from_dtype'."
        )


def require_weights(weights: NDArray[np.float64], name: str, first_row: Any = 0) -> None:
    """Raise if a weight is negative, NaN or infinite; the message names its row.

    Parameters
    ----------
    weights : (n,) float64
    name : str
        The weights, as their user spells them.
    first_row : int or RowNumbers
        Number of the first row; the sum with i is the number of row i.

    Raises
    ------
    DataError
    """
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{name} row {first_row + row:,}: the weight is {weights[row]}; expected finite "
            "weights of at least 0. Pass weight 0 to leave out a row."
        )


def real_weights(weights: Any, name: str) -> NDArray[np.float64]:
    """Return weights as float64.

    Raises
    ------
    DataError
        The weights are not real numbers.
    """
    weights = np.asarray(weights)
    if weights.dtype.kind == "O" and all(isinstance(one, Real) for one in weights.flat):
        weights = weights.astype(np.float64)  # as nullable columns of pandas are
    require_numbers(name, weights.dtype)
    return weights.astype(np.float64, copy=False)
