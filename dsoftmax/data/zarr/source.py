"""Sources of Zarr arrays and HDF5 datasets: the stored chunks of X decide how the rows are cut."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.leaves import leaf_rows
from dsoftmax.data.readers import readers_of
from dsoftmax.data.rows import RowSource, StoredRows, cut
from dsoftmax.data.table import Table

GROUP_BYTES = 2**20
"""Bytes of joined small stored chunks, because every chunk of a source has a fixed cost."""
PART_BYTES = 16 * 2**20
"""Approximate bytes of the parts of a large stored chunk, so that few bytes are in flight."""


def zarr_source(table: Table[Any]) -> RowSource:
    """Return a source that reads a stored array by its chunks or shards.

    Opening it reads metadata only.

    Small stored chunks are read several at a time. Large ones are cut if that decodes nothing
    twice: shards, uncompressed local chunks, and local chunks of Blosc.

    Parameters
    ----------
    table : Table of zarr.Array, h5py.Dataset or array-like
        X is stored. Columns are read by the rows of X, whatever their own chunks. Weights may
        be one number.

    Raises
    ------
    DataError
        Shapes do not fit, or X is not real numbers.
    """
    readers = readers_of(table)
    X: Any = readers.X
    chunk_rows = row_chunks(X)
    return RowSource(readers, chunk_rows, chunk_rows * X.shape[1] * X.dtype.itemsize)


def row_chunks(rows: StoredRows) -> NDArray[np.int64]:
    """Return the rows of the chunks into which a stored array is cut, (n_chunks,)."""
    n, *width = rows.shape
    p = math.prod(width)
    if n * p == 0:  # refused later, with its name
        return np.array([n], np.int64)
    return cut_stored(n, p, p * rows.dtype.itemsize, rows.stored[0], rows.unit_rows)


def cut_stored(
    n: int, p: int, row_bytes: int, stored_rows: int, unit_rows: int
) -> NDArray[np.int64]:
    """Return the rows of the chunks of a source: a pure function of the storage of X.

    Stored chunks of less than `GROUP_BYTES` are joined. Stored chunks of more than about
    `PART_BYTES` are cut, each alone::

        stored   |           0           |           1           |  2 |
        chunks   |  0  |  1  |  2  |  3  |  4  |  5  |  6  |  7  | 8  |

    Parameters
    ----------
    n, p : int
        Rows and features.
    row_bytes : int
        Bytes of a row of X, decoded.
    stored_rows : int
        Rows of one stored object: a chunk or a shard.
    unit_rows : int
        Rows that can be read without reading others: ``stored_rows`` if the object must be decoded
        whole, those of an inner chunk of a shard, or 1. If it is 1, cuts lie at multiples of
        `leaf_rows`, so that the leaves are those of the whole chunk.

    Returns
    -------
    (n_chunks,) int64
    """
    stored = min(stored_rows, n)
    unit = leaf_rows(p) if unit_rows == 1 else unit_rows
    n_parts = max(round(stored * row_bytes / PART_BYTES), 1)
    step = max(round(stored / n_parts / unit), 1) * unit
    if n_parts == 1 or step >= stored:
        return cut(n, stored * max(GROUP_BYTES // (stored * row_bytes), 1))
    whole, rest = divmod(n, stored)
    parts = [np.tile(cut(stored, step), whole)] + ([cut(rest, step)] if rest else [])
    return np.concatenate(parts)
