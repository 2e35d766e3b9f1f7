"""Checks of the shapes and dtypes of X, labels, weights and groups."""

from math import prod
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.reshape import reshape_command
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError


def check_shapes(shapes: Table[tuple[int, ...]]) -> None:
    """Raise unless X is (n, p) with n, p > 0 and every column is (n,).

    Raises
    ------
    DataError
        The message names the array, its shape, and the cure.
    """
    X, name = shapes.X, shapes.names.X
    if len(X) != 2:
        raise DataError(
            f"{name} has {len(X)} dimensions {X}; expected two, rows and features. "
            f"{_cure_of_features(name, X)}"
        )
    for column, shape in list(shapes.named())[1:]:
        _check_column(column, shape, name, X[0])
    if X[0] == 0:
        raise DataError(f"{name} has 0 rows (shape {X}) while a minimum of 1 is required.")
    if X[1] == 0:
        raise DataError(f"{name} has 0 feature(s) (shape={X}) while a minimum of 1 is required.")


def _cure_of_features(name: str, X: tuple[int, ...]) -> str:
    if not name.isidentifier():  # the path of a stored array
        return _store_again("with two dimensions", name, X, X[-1:] if len(X) > 2 else (1,))
    if len(X) > 2:
        return "Reshape it, for example with X.reshape(-1, X.shape[-1])."
    return "Reshape your data, with X.reshape(-1, 1)."


def _check_column(name: str, shape: tuple[int, ...], features: str, n: int) -> None:
    if len(shape) != 1:
        cure = f"Pass {name}.ravel() or one column."
        if not name.isidentifier():
            cure = (
                _store_again("as one column", name, shape, ())
                if prod(shape) == n
                else "Store one of its columns by itself."
            )
        raise DataError(f"{name} has shape {shape}; expected one value per row, ({n},). {cure}")
    if shape[0] != n:
        raise DataError(
            f"{name} has {shape[0]:,} rows and {features} has {n:,}; expected one value per row. "
            "Check that both come from the same data, in the same order."
        )


def _store_again(how: str, path: str, shape: tuple[int, ...], row: tuple[int, ...]) -> str:
    """Return the advice to store an array again.

    If the array is local, the advice has the command that stores it as rows of this shape.
    """
    if not Path(path).is_absolute() or not shape or not prod(shape):
        return f"Store it {how}."
    command = reshape_command(path, shape, row)
    return f"Store it {how}, for example beside it as {Path(path).name}-rows:\n  {command}"


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
            "astype(float), or encode it."
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
    require_numbers(name, weights.dtype)
    return weights.astype(np.float64, copy=False)
