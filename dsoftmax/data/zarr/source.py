"""Sources of Zarr arrays: one for X, one for y, optionally for weights and groups, cut into chunks by how X is stored."""

import math
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.data.block import Names
from dsoftmax.data.checks import check_shapes, every_row, require_numbers
from dsoftmax.data.leaves import leaf_rows
from dsoftmax.data.memory import MemoryRows
from dsoftmax.data.rows import Rows, RowSource, cut
from dsoftmax.data.zarr.rows import ZarrRows

GROUP_BYTES = 2**20
"""Small stored chunks are read together until they make about this much (bytes)."""
PART_BYTES = 16 * 2**20
"""Large stored chunks that can be read in parts are cut into parts of about this much (bytes)."""


def zarr_source(
    X: zarr.Array,
    y: Any = None,
    weights: Any = None,
    names: Names | None = None,
    missing_chunks: str = "error",
    groups: Any = None,
) -> RowSource:
    """Return a source that reads a Zarr array by its chunks or shards; opening it reads metadata only.

    Parameters
    ----------
    X : (n, p) zarr.Array
        Its chunks or shards cut the rows; small ones are read several at a time, large ones in parts where that is possible
        without decoding them twice: shards, and local chunks of Blosc or that are not compressed.
    y, weights : (n,) zarr.Array or array-like, optional; weights may be one number
        Read by the rows of X, whatever their own chunks.
    names : Names, optional
    missing_chunks : {"error", "fill"}
        What a chunk that is not in the store means.
    groups : (n,) zarr.Array or array-like, optional

    Raises
    ------
    DataError
        Shapes that do not fit, or X without real numbers.
    OptionError
        ``missing_chunks`` is unknown.
    """
    names = names or Names()

    def rows(values: Any, name: str) -> Rows | None:
        if values is None:
            return None
        if isinstance(values, zarr.Array):
            return ZarrRows(values, name, missing_chunks)
        return MemoryRows(np.asarray(values))

    features = ZarrRows(X, names.X, missing_chunks)
    columns = (
        rows(y, names.y),
        rows(every_row(weights, X.shape[:1]), names.weights),
        rows(groups, names.groups),
    )
    check_shapes(
        names, features.shape, *(None if column is None else column.shape for column in columns)
    )
    require_numbers(names.X, features.dtype)
    chunk_rows = row_chunks(features)
    row_bytes = features.shape[1] * features.dtype.itemsize
    labels, sample_weights, row_groups = columns
    return RowSource(
        features,
        labels,
        sample_weights,
        chunk_rows,
        chunk_rows * row_bytes,
        False,
        names,
        row_groups,
    )


def row_chunks(rows: ZarrRows) -> NDArray[np.int64]:
    """Return the rows of the chunks that a stored array makes, (n_chunks,)."""
    n, *width = rows.shape
    p = math.prod(width)
    if n * p == 0:  # refused later, with its name
        return np.array([n], np.int64)
    return cut_stored(n, p, p * rows.dtype.itemsize, rows.stored[0], rows.unit_rows)


def cut_stored(
    n: int, p: int, row_bytes: int, stored_rows: int, unit_rows: int
) -> NDArray[np.int64]:
    """Return the rows of the chunks of a source: a pure function of how X is stored.

    Stored chunks of less than `GROUP_BYTES` are taken several at a time. Those of more than about `PART_BYTES` are cut,
    each alone::

        stored   |           0           |           1           |  2 |
        chunks   |  0  |  1  |  2  |  3  |  4  |  5  |  6  |  7  | 8  |

    Parameters
    ----------
    n, p : int
        Rows and features.
    row_bytes : int
        Of X, decoded.
    stored_rows : int
        Of what is stored as one object: a chunk or a shard.
    unit_rows : int
        What of it can be read without reading more: ``stored_rows`` where it must be decoded whole, an inner chunk of a
        shard, or 1. Of single rows a multiple of `leaf_rows` is taken, so that the leaves are those of the whole chunk.

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


def read_whole(array: zarr.Array, name: str, missing_chunks: str = "error") -> NDArray:
    """Return all values of an array, as labels or weights of rows that are in memory."""
    rows = ZarrRows(array, name, missing_chunks)
    return rows.read(0, rows.shape[0])
