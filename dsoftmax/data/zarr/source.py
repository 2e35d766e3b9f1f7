"""Sources of Zarr arrays: the stored chunks of X decide how the rows are cut."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.data.checks import check_shapes, every_row, require_numbers
from dsoftmax.data.kind import kind_of
from dsoftmax.data.leaves import leaf_rows
from dsoftmax.data.memory import MemoryRows
from dsoftmax.data.rows import Rows, RowSource, Stored, cut
from dsoftmax.data.skipped import in_dtypes
from dsoftmax.data.table import Table
from dsoftmax.data.zarr.rows import ZarrRows

GROUP_BYTES = 2**20
"""Bytes of joined small stored chunks, because every chunk of a source has a fixed cost."""
PART_BYTES = 16 * 2**20
"""Approximate bytes of the parts of a large stored chunk, so that few bytes are in flight."""


def zarr_source(table: Table[Any]) -> RowSource:
    """Return a source that reads a Zarr array by its chunks or shards.

    Opening it reads metadata only.

    Small stored chunks are read several at a time. Large ones are cut if that decodes nothing
    twice: shards, uncompressed local chunks, and local chunks of Blosc.

    Parameters
    ----------
    table : Table of zarr.Array or array-like
        X is a zarr.Array. Columns are read by the rows of X, whatever their own chunks. Weights may
        be one number.

    Raises
    ------
    DataError
        Shapes do not fit, or X is not real numbers.
    """
    readers = readers_of(table)
    X = readers.X
    chunk_rows = row_chunks(X)
    return RowSource(readers, chunk_rows, chunk_rows * X.shape[1] * X.dtype.itemsize)


def readers_of(table: Table[Any], sparse: bool = False) -> Table[Rows]:
    """Return the readers of a table, with the missing values in the dtypes of its arrays.

    They are those that the user names and those that the storage declares.

    Parameters
    ----------
    table : Table of arrays
        Weights may be one number.
    sparse : bool
        Whether the rows of X are CSR.

    Raises
    ------
    OptionError
        A missing value cannot occur in its array.
    DataError
        Shapes do not fit, or X is not real numbers.
    """
    table = replace(table, weights=every_row(table.weights, table.X.shape[:1]))
    readers: Table[Rows] = table.map(
        lambda values, name: reader_of(values, name, table.missing_chunks)
    )
    check_shapes(readers.map(lambda rows, _: rows.shape))
    require_numbers(table.names.X, readers.X.dtype)
    missing = in_dtypes(table.missing, readers.map(lambda rows, _: rows.dtype), sparse)
    for part, rows in readers.items():
        missing = missing.adding(part, rows.declared) if rows.declared else missing
    return replace(readers, missing=missing)


def reader_of(values: Any, name: str, missing_chunks: str) -> Rows:
    """Return a reader of a Zarr array, of an array in an encoding of its own, or of memory."""
    if kind_of(values) == "stored":
        stored: Stored = values
        return stored.rows(name, missing_chunks)
    if isinstance(values, zarr.Array):
        return ZarrRows(values, name, missing_chunks)
    return MemoryRows(np.asarray(values))


def row_chunks(rows: Any) -> NDArray[np.int64]:
    """Return the rows of the chunks into which a stored array is cut, (n_chunks,).

    Parameters
    ----------
    rows : Rows
        A reader that also states ``stored`` and ``unit_rows``, as `ZarrRows` does.
    """
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
