"""Checks of all values: finite features, valid weights, few enough labels."""

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.checks import require_weights
from dsoftmax.data.features import Features
from dsoftmax.errors import DataError
from dsoftmax.first_pass.labels import MAX_CLASSES

Float = NDArray[np.float64]
LARGEST = np.float64(1e150)
"""Largest magnitude of a value of X. The square of a larger value may overflow."""


SKIP_ROWS = "Fill in such values, or pass nodata={0} (--nodata {0}) to skip their rows."
"""Advice for a value that is not finite."""


def check_finite(block: Block, cure: str = SKIP_ROWS) -> None:
    """Raise if X contains NaN, infinity or a magnitude above `LARGEST`.

    The message names the array, the row, the column and the value, and ends with ``cure``.

    Raises
    ------
    DataError
    """
    X: Features = block.X
    values = X.data if scipy.sparse.issparse(X) else X
    if (
        values.dtype.kind != "f"
        or values.size == 0
        or (values.min() >= -LARGEST and values.max() <= LARGEST)
    ):
        return
    wrong = ~(np.abs(values) <= LARGEST)
    if scipy.sparse.issparse(X):
        place = int(np.argmax(wrong))
        row, column = int(np.searchsorted(X.indptr, place, side="right")) - 1, int(X.indices[place])
    else:
        row, column = (int(i) for i in np.unravel_index(np.argmax(wrong), values.shape))
    value = X[row, column]
    what = (
        "Its square overflows: does it mark a missing value?"
        if np.isfinite(value)
        else "(Input X contains NaN or infinity)."
    )
    raise DataError(
        f"{block.names.X} row {block.origin + row:,}, column {column}: the value is {value}; "
        f"expected finite numbers up to {LARGEST:g}. {what} {cure.format(value)}"
    )


def checked_weights(block: Block) -> Float:
    """Return the weights of a block, ones if it has none.

    Raises
    ------
    DataError
        A weight is negative, NaN or infinite; the message names its row.
    """
    if block.weights is None:
        return np.ones(block.n_rows)
    require_weights(block.weights, block.names.weights, block.origin)
    return block.weights


def check_count(n_labels: int, block: Block | None) -> None:
    """Raise if there are more than `MAX_CLASSES` different labels.

    Raises
    ------
    DataError
    """
    if n_labels > MAX_CLASSES:
        where = "y" if block is None else block.names.y
        raise DataError(
            f"{where} contains {n_labels:,} different labels; expected at most {MAX_CLASSES:,} "
            "classes. Is it a row number or a measurement? Pass one class for each row."
        )
