"""Sources of frames: row groups decide how the rows are cut."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.frames.matrix import FrameMatrix, FrameRows
from dsoftmax.data.leaves import MOST_LEAF_ROWS, leaf_rows
from dsoftmax.data.memory import CSR_CHUNK_BYTES, rows_of_chunk
from dsoftmax.data.readers import readers_of
from dsoftmax.data.rows import RowSource, cut
from dsoftmax.data.table import Table
from dsoftmax.data.zarr.source import GROUP_BYTES, PART_BYTES
from dsoftmax.errors import OptionError


def frame_source(table: Table[Any]) -> RowSource:
    """Return a source of the features of a frame. Rows with a null are skipped.

    Parameters
    ----------
    table : Table of arrays
        X is a `FrameMatrix`. Weights may be one number.

    Raises
    ------
    OptionError
        A missing value cannot occur in its array.
    DataError
        Shapes do not fit.
    """
    matrix: FrameMatrix = table.X
    if matrix.sparse and 1 in table.missing.X:
        raise OptionError(
            "nodata=1 (--nodata 1) would skip every row, because the feature of a row's category "
            "is 1. Replace 1 by null in the columns where it means no data."
        )
    readers = readers_of(replace(table, skipped=matrix.skipped()), sparse=matrix.sparse)
    rows: Any = readers.X
    chunk_rows, chunk_bytes = chunks_of(rows)
    return RowSource(readers, chunk_rows, chunk_bytes, sparse=matrix.sparse)


def chunks_of(rows: FrameRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and the bytes of the chunks of a frame."""
    pieces, sparse = rows.reader.pieces, rows.coding.sparse
    if pieces.resident:  # as arrays in memory are cut
        n, p = rows.shape
        found = cut(n, rows_of_chunk(n, p, rows.row_bytes, sparse)) if n else np.zeros(1, np.int64)
        return found, found * rows.row_bytes
    unit = MOST_LEAF_ROWS if sparse else leaf_rows(rows.coding.n_features)
    least = CSR_CHUNK_BYTES if sparse else GROUP_BYTES
    found = cut_pieces(pieces.piece_rows, rows.row_bytes, unit, least)
    return found, found * rows.row_bytes


def cut_pieces(
    piece_rows: NDArray[np.int64], row_bytes: int, unit: int, least: int
) -> NDArray[np.int64]:
    """Return the rows of the chunks of a source: a pure function of the pieces.

    Neighbouring pieces are joined until they have ``least`` bytes. Pieces of more than about
    `PART_BYTES` are cut at multiples of ``unit`` rows, each alone, so that the leaves are those of
    the whole piece::

        pieces   | 0 | 1 | 2 |           3           |           4           |
        chunks   |     0     |  1  |  2  |  3  |  4  |  5  |  6  |  7  |  8  |

    Parameters
    ----------
    piece_rows : (n,) int64
    row_bytes : int
    unit : int
        Rows of a leaf.
    least : int
    """
    chunks: list[int] = []
    waiting = 0
    for rows in piece_rows.tolist():
        n_parts = max(round(rows * row_bytes / PART_BYTES), 1)
        step = max(round(rows / n_parts / unit), 1) * unit
        if n_parts == 1 or step >= rows:
            waiting += rows
            if waiting * row_bytes >= least:
                chunks, waiting = [*chunks, waiting], 0
            continue
        if waiting:
            chunks, waiting = [*chunks, waiting], 0
        whole, rest = divmod(rows, step)
        chunks += [step] * whole + ([rest] if rest else [])
    return np.array([*chunks, waiting] if waiting or not chunks else chunks, np.int64)
