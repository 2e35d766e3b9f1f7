"""Frames of dask: partitions as blocks of features, labels and reasons to skip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.coding import Coding
from dsoftmax.data.features import Features
from dsoftmax.data.frames.columns import FrameColumn
from dsoftmax.data.frames.encode import column_values, distinct_values, null_rows
from dsoftmax.data.frames.matrix import FrameMatrix, FrameRows
from dsoftmax.data.frames.pieces import Pieces, Reader, Table
from dsoftmax.data.frames.tables import ArrowPieces, arrow_table


class DaskPieces(Pieces):
    """The partitions of a dask DataFrame.

    Parameters
    ----------
    frame : dask DataFrame
    """

    def __init__(self, frame: Any) -> None:
        self.frame = frame

    @property
    def lazy(self) -> bool:
        return True

    @cached_property
    def types(self) -> Mapping[str, Any]:
        """Types of an example of a partition, which dask knows without reading."""
        example = arrow_table(self.frame._meta_nonempty, "X")
        return dict(zip(example.schema.names, example.schema.types, strict=True))

    @property
    def nullable(self) -> frozenset[str]:
        return frozenset(self.types)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each partition. They are counted in one computation."""
        lengths = [dask.delayed(len)(part) for part in self.parts(list(self.types)[:1])]
        return tuple(int(n) for n in dask.compute(*lengths))

    @property
    def piece_rows(self) -> NDArray[np.int64]:
        return np.array(self.sizes, np.int64)

    @property
    def place(self) -> str:
        return "X"

    def parts(self, names: Sequence[str]) -> list[Any]:
        """Return the partitions of some columns, delayed. Other columns are not read.

        dask's whole optimisation would join small partitions, and others for other columns.
        """
        own = {str(name): name for name in self.frame.columns}
        chosen = self.frame[[own[name] for name in names]]
        found: list[Any] = chosen.simplify().to_delayed(optimize_graph=False)
        return found

    def table(self, piece: int, names: Sequence[str]) -> Table:
        return arrow_table(self.parts(names)[piece].compute(), f"partition {piece} of X")

    def distinct(self, names: Sequence[str]) -> Iterator[tuple[str, set[Any]]]:
        """Yield the distinct values of columns, in one computation for all of them."""
        parts = self.parts(names) if names else []
        for found in dask.compute(*(dask.delayed(_distinct)(part, names) for part in parts)):
            yield from found.items()

    def describe(self) -> dict[str, Any]:
        return {"kind": "dask", "store": str(self.frame._name)}


def _distinct(part: Any, names: Sequence[str]) -> dict[str, set[Any]]:
    table = arrow_table(part, "a partition of X")
    return {name: set().union(*map(distinct_values, table.column(name).chunks)) for name in names}


def features_of(matrix: FrameMatrix, known: bool) -> tuple[da.Array, da.Array]:
    """Return features, (n, p), and the reasons to skip their rows, (n,), as dask arrays.

    Parameters
    ----------
    matrix : FrameMatrix
        Its pieces are those of dask.
    known : bool
        Whether to count the rows of the partitions, if they are not counted yet.
    """
    pieces: Any = matrix.pieces
    coding, dtype = matrix.coding, matrix.dtype
    p = coding.n_features
    empty: Any = np.empty((0, p), dtype)
    if coding.sparse:
        empty = scipy.sparse.csr_array((0, p), dtype=dtype)
    parts = pieces.parts(coding.names)
    X = _joined(pieces, parts, known, (p,), empty, lambda i: (encode, coding, dtype, i))
    reasons = np.empty(0, np.uint8)
    return X, _joined(pieces, parts, known, (), reasons, lambda i: (nulls, coding.names))


def column_of(column: FrameColumn, known: bool) -> da.Array:
    """Return a column of a frame of dask as a dask array, (n,). Nulls are masked."""
    pieces: Any = column.pieces
    parts = pieces.parts([column.column])
    empty: NDArray = np.empty(0, column.dtype)
    return _joined(pieces, parts, known, (), empty, lambda i: (values, column.column, column.dtype))


def _joined(
    pieces: DaskPieces,
    parts: list[Any],
    known: bool,
    width: tuple[int, ...],
    meta: Any,
    call: Callable[[int], tuple[Any, ...]],
) -> da.Array:
    """Return the array whose blocks are a function of each partition that has rows."""
    blocks: list[da.Array] = []
    for number, part in enumerate(parts):
        rows: float = pieces.sizes[number] if known else np.nan
        if rows != 0 or (number == len(parts) - 1 and not blocks):
            function, *args = call(number)
            block = dask.delayed(function, pure=True)(part, *args)
            shape = (rows, *width)
            blocks.append(da.from_delayed(block, shape, dtype=meta.dtype, meta=meta))
    return da.concatenate(blocks, allow_unknown_chunksizes=True)


def encode(part: Any, coding: Coding, dtype: np.dtype, number: int) -> Features:
    """Return the features of a partition."""
    name = f"partition {number} of X,"
    table = arrow_table(part, name)
    rows = FrameRows(Reader(ArrowPieces.of(table), coding.names), coding, dtype, name)
    return rows.read(0, table.num_rows)


def nulls(part: Any, names: Sequence[str]) -> NDArray[np.uint8]:
    """Return the reasons to skip rows of a partition: 1 if a feature is null."""
    return null_rows(arrow_table(part, "a partition of X"), names).astype(np.uint8)


def values(part: Any, name: str, dtype: np.dtype) -> NDArray:
    """Return the values of a column of a partition."""
    return column_values(arrow_table(part, "a partition").column(name).chunks, dtype)
