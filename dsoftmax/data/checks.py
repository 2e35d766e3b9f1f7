"""Shapes and dtypes of X, labels, weights and groups."""

from math import prod
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Names
from dsoftmax.errors import DataError

MISSING_CHUNKS = ("error", "fill")
"""What a stored chunk that is not there may mean."""


def check_shapes(names: Names, X: tuple[int, ...], *columns: tuple[int, ...] | None) -> None:
    """Raise unless X is (n, p) and the columns, which are y, weights and groups, are (n,).

    Raises
    ------
    DataError
        Naming the array, its shape, and the cure.
    """
    if len(X) != 2:
        cure = (
            "Reshape it, for example with X.reshape(-1, X.shape[-1])."
            if len(X) > 2
            else "Reshape your data, with X.reshape(-1, 1)."
        )
        if not names.X.isidentifier():  # the path of what is stored
            cure = _store_again("with two dimensions", names.X, X, X[-1:] if len(X) > 2 else (1,))
        raise DataError(
            f"{names.X} has {len(X)} dimensions {X}; needed are two, rows and features. {cure}"
        )
    for name, shape in zip((names.y, names.weights, names.groups), columns, strict=False):
        if shape is None:
            continue
        if len(shape) != 1:
            cure = f"Pass {name}.ravel() or one column."
            if not name.isidentifier():
                whole = prod(shape) == X[0]
                cure = (
                    _store_again("as one column", name, shape, ())
                    if whole
                    else "Store one column of it by itself."
                )
            raise DataError(
                f"{name} has shape {shape}; needed is one value a row, ({X[0]},). {cure}"
            )
        if shape[0] != X[0]:
            raise DataError(
                f"{name} has {shape[0]:,} rows and {names.X} has {X[0]:,}; needed is one value a row. "
                "Check that both come from the same data, in the same order."
            )
    if X[0] == 0:
        raise DataError(f"{names.X} has 0 rows (shape {X}) while a minimum of 1 is required.")
    if X[1] == 0:
        raise DataError(f"{names.X} has 0 feature(s) (shape={X}) while a minimum of 1 is required.")


def _store_again(how: str, path: str, shape: tuple[int, ...], row: tuple[int, ...]) -> str:
    """Return the sentence that says so, with the command that stores a local array as rows of this shape."""
    if not Path(path).is_absolute() or not shape or not prod(shape):
        return f"Store it {how}."
    from dsoftmax.data.reshape import reshape_command

    return f"Store it {how}, for example beside it as {Path(path).name}-rows:\n  {reshape_command(path, shape, row)}"


def every_row(weights: Any, n: tuple[int, ...]) -> Any:
    """Return one number as the weight of every row, (n,), without memory for each; other weights as they are."""
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
            f"{kind}{name} has dtype {dtype}; needed are real numbers. Convert it with astype(float), or encode it."
        )


def real_weights(weights: Any, name: str) -> NDArray[np.float64]:
    """Return weights as float64.

    Raises
    ------
    DataError
        They are not real numbers.
    """
    weights = np.asarray(weights)
    require_numbers(name, weights.dtype)
    return weights.astype(np.float64, copy=False)
