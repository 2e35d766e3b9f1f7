"""Columns of a frame, read by spans of rows: labels, weights, groups, and rows with a null."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer
from dsoftmax.data.columns import value_bytes
from dsoftmax.data.frames.encode import column_values, null_rows
from dsoftmax.data.frames.pieces import Pieces, Reader
from dsoftmax.data.frames.types import numpy_dtype
from dsoftmax.data.rows import Rows, Stored


@dataclass(frozen=True)
class FrameColumn(Stored):
    """A column of a frame: labels, weights or groups.

    Attributes
    ----------
    pieces : Pieces
    column : str
    """

    pieces: Pieces
    column: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.pieces.piece_rows.sum()),)

    @property
    def dtype(self) -> np.dtype:
        return numpy_dtype(self.pieces.types[self.column])

    @property
    def place(self) -> str:
        return f"{self.pieces.place}[{self.column}]"

    @property
    def lazy(self) -> bool:
        """Whether the frame is one of dask."""
        return self.pieces.lazy

    def rows(self, name: str, missing_chunks: str) -> Rows:
        nulls = self.column in self.pieces.nullable
        return ColumnRows(Reader(self.pieces, [self.column]), self.dtype, nulls)


@dataclass(frozen=True)
class ColumnRows(Rows):
    """A reader of a column. Nulls are masked.

    Attributes
    ----------
    reader : Reader
    stored_dtype : numpy dtype
    nulls : bool
        Whether there may be nulls.
    """

    reader: Reader
    stored_dtype: np.dtype
    nulls: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.reader.n_rows,)

    @property
    def dtype(self) -> np.dtype:
        return self.stored_dtype

    @property
    def masked(self) -> bool:
        return self.nulls

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        (name,) = self.reader.names
        tables = [table for _, table in self.reader.tables(start, stop)]
        chunks = [chunk for table in tables for chunk in table.column(name).chunks]
        return column_values(chunks, self.dtype)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        return ColumnRows(self.reader.only(starts, stops), self.stored_dtype, self.nulls)

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.reader.cached_rows(starts) * value_bytes(self.dtype)

    def smaller_chunks(self, rows: int) -> str:
        return self.reader.pieces.smaller(rows)

    def describe(self) -> dict[str, Any]:
        pieces = self.reader.pieces
        return {
            **pieces.describe(),
            "column": self.reader.names[0],
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": [int(pieces.piece_rows.max(initial=0))],
            **({"missing": ["null"]} if self.nulls else {}),
        }


@dataclass(frozen=True)
class FrameNulls(Stored):
    """The rows of a frame in which a feature is null, as reasons to skip them.

    Attributes
    ----------
    pieces : Pieces
    names : tuple of str
        Columns that may have nulls.
    """

    pieces: Pieces
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.pieces.piece_rows.sum()),)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def place(self) -> str:
        return self.pieces.place

    def rows(self, name: str, missing_chunks: str) -> Rows:
        return NullRows(Reader(self.pieces, self.names))


@dataclass(frozen=True)
class NullRows(Rows):
    """A reader of the reasons to skip rows: 1 if a feature is null, otherwise 0.

    Attributes
    ----------
    reader : Reader
        Columns that may have nulls.
    """

    reader: Reader

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.reader.n_rows,)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        names = self.reader.names
        found = [null_rows(table, names) for _, table in self.reader.tables(start, stop)]
        return np.concatenate([np.zeros(0, bool), *found]).astype(np.uint8)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        return NullRows(self.reader.only(starts, stops))

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.reader.cached_rows(starts) * 8 * len(self.reader.names)

    def describe(self) -> dict[str, Any]:
        return {
            **self.reader.pieces.describe(),
            "column": "nulls",
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": [int(self.reader.pieces.piece_rows.max(initial=0))],
        }
