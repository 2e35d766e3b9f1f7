"""The bytes that labels, weights and groups take."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.source import Columns

STRING_BYTES = 96
"""What a string of any length is taken to have: a Python object with about 40 characters, and what refers to it (bytes)."""
COMPARED_BYTES = 160
"""What it has in an array of fixed width, in which labels are compared (bytes)."""
LEAF_ROW_BYTES = 80
"""What a row of a leaf takes beside its features and copies of its label: codes, weights, hashes, chances (bytes)."""


class Column(Protocol):
    """What is to be known of labels, weights or groups before they are read."""

    @property
    def dtype(self) -> np.dtype: ...


def columns_of(
    starts: NDArray[np.int64], y: Column | None, weights: Column | None, groups: Column | None
) -> Columns:
    """Return what labels, weights and groups take.

    Parameters
    ----------
    starts : (n_chunks,) int64
        Rows at which the chunks begin.
    y, weights, groups : Rows or dask array, optional
        What is not `Rows` is taken to be read anew for each block.
    """
    row = stored = label = leaf = units = 0
    for column, kind in (
        (y, None),
        (weights, np.float64),
        (groups, np.uint64),
    ):  # what they are converted to
        if column is None:
            continue
        if not getattr(column, "resident", False):
            stored += value_bytes(column.dtype)
            row += value_bytes(column.dtype) if kind is None else 8
        elif kind is not None and column.dtype != kind:
            row += 8
        units += column.kept_bytes(starts) if hasattr(column, "kept_bytes") else 0
    if groups is not None and groups.dtype.kind not in "biuf":  # words, one by one
        stored += STRING_BYTES
    if y is not None:
        plain = y.dtype.kind not in "OT"
        label = y.dtype.itemsize if plain else COMPARED_BYTES
        leaf = LEAF_ROW_BYTES + 3 * label + (0 if plain else STRING_BYTES)
    return Columns(row, stored, label, leaf, units)


def value_bytes(dtype: np.dtype) -> int:
    """Return the bytes of a value of a column, of strings of any length those they are taken to have."""
    return STRING_BYTES if dtype.kind in "OT" else dtype.itemsize
