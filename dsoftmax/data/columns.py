"""Bytes of labels, weights and groups."""

from dataclasses import dataclass

import numpy as np

from dsoftmax.data.table import Table

STRING_BYTES = 96
"""Assumed bytes of a string of any length: an object of about 40 characters and its reference."""
COMPARED_BYTES = 160
"""Assumed bytes of that string in an array of fixed width, in which labels are compared."""
LEAF_ROW_BYTES = 80
"""Bytes of a leaf's row for codes, weights, hashes and probabilities; labels count separately."""


@dataclass(frozen=True)
class ColumnBytes:
    """Bytes of the labels, weights and groups of a source.

    Arrays that are in memory anyway count as 0.

    Attributes
    ----------
    row : int
        Bytes of a row in a block.
    stored : int
        Bytes of a row as read, before it is converted.
    label : int
        Bytes of one label in the array in which labels are compared, whether the labels are in
        memory or not.
    leaf : int
        Bytes of a leaf's row during a visit, besides the bytes that the visit states.
    copied : int
        Bytes of a row of X that is copied because other rows are skipped; 0 if none can be.
    units : int
        Bytes of decoded stored chunks that stay between two loads, because chunks of the source
        begin or end inside them. They include those of X in CSR.
    decoded : int
        Bytes of a row of packed features that a leaf, or a sample, decodes to float64; else 0.
    """

    row: int = 0
    stored: int = 0
    label: int = 0
    leaf: int = 0
    units: int = 0
    copied: int = 0
    decoded: int = 0


@dataclass(frozen=True)
class Column:
    """Facts about an array that are known before it is read.

    Attributes
    ----------
    dtype : numpy dtype
        Dtype as stored.
    resident : bool
        Whether all values are in memory anyway.
    cached_bytes : int
        Bytes of its decoded stored chunks that stay between two loads.
    """

    dtype: np.dtype
    resident: bool = False
    cached_bytes: int = 0


def column_bytes(table: Table[Column], copied: int = 0) -> ColumnBytes:
    """Return the bytes of labels, weights and groups in the dtypes of a block.

    Parameters
    ----------
    table : Table of Column
    copied : int
        Bytes of a row of X if rows may be skipped, because the others are then copied; else 0.
    """
    row = stored = label = leaf = units = 0
    converted = {"weights": np.dtype(np.float64), "groups": np.dtype(np.uint64)}
    for part, column in table.columns():
        kind = converted.get(part, column.dtype)
        if not column.resident:
            stored += value_bytes(column.dtype)
            row += value_bytes(kind)
        elif column.dtype != kind:
            row += kind.itemsize
        units += column.cached_bytes
    if table.groups is not None and table.groups.dtype.kind not in "biuf":  # digested one by one
        stored += STRING_BYTES
    if table.y is not None:
        plain = table.y.dtype.kind not in "OT"
        label = table.y.dtype.itemsize if plain else COMPARED_BYTES
        leaf = LEAF_ROW_BYTES + 3 * label + (0 if plain else STRING_BYTES)
    return ColumnBytes(row + (copied > 0), stored, label, leaf, units, copied)


def value_bytes(dtype: np.dtype) -> int:
    """Return the bytes of one value of a column: `STRING_BYTES` for a string of any length."""
    return STRING_BYTES if dtype.kind in "OT" else dtype.itemsize
