"""A frame as a matrix of features, read by spans of rows."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer, array_in
from dsoftmax.data.coding import Coding
from dsoftmax.data.features import Features
from dsoftmax.data.frames.columns import FrameNulls
from dsoftmax.data.frames.encode import fill_rows
from dsoftmax.data.frames.pieces import Pieces, Reader
from dsoftmax.data.frames.types import is_number, matrix_dtype, numpy_dtype
from dsoftmax.data.rows import Rows, Stored

CODE_BYTES = 4
"""Bytes of the code of a category, as Arrow and CSR store it."""


@dataclass(frozen=True)
class FrameMatrix(Stored):
    """The features of a frame.

    Attributes
    ----------
    pieces : Pieces
    coding : Coding
    """

    pieces: Pieces
    coding: Coding

    @property
    def shape(self) -> tuple[int, ...]:
        return int(self.pieces.piece_rows.sum()), self.coding.n_features

    @property
    def dtype(self) -> np.dtype:
        types = self.pieces.types
        numbers = [one.name for one in self.coding.columns if one.categories is None]
        return matrix_dtype([types[name] for name in numbers], self.sparse)

    @property
    def sparse(self) -> bool:
        return self.coding.sparse

    @property
    def place(self) -> str:
        return self.pieces.place

    @property
    def lazy(self) -> bool:
        """Whether the frame is one of dask."""
        return self.pieces.lazy

    def rows(self, name: str, missing_chunks: str) -> Rows:
        reader = Reader(self.pieces, self.coding.names)
        return FrameRows(reader, self.coding, self.dtype, name)

    def skipped(self) -> Stored | None:
        """Return the column of rows with a null; None if there is none."""
        names = [name for name in self.coding.names if name in self.pieces.nullable]
        return FrameNulls(self.pieces, tuple(names)) if names else None


@dataclass(frozen=True)
class FrameRows(Rows):
    """A reader of the features of a frame.

    Attributes
    ----------
    reader : Reader
    coding : Coding
    stored_dtype : numpy dtype
    name : str
        Name of the frame in messages.
    """

    reader: Reader
    coding: Coding
    stored_dtype: np.dtype
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.reader.n_rows, self.coding.n_features

    @property
    def dtype(self) -> np.dtype:
        return self.stored_dtype

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        rows, m = stop - start, len(self.coding.columns)
        if not self.coding.sparse:
            dense = array_in(buffer, (rows, m), self.dtype)
            for first, table in self.reader.tables(start, stop):
                part = dense[first - start : first - start + table.num_rows]
                fill_rows(table, self.coding, part, None, first, self.name)
            return dense
        values = np.empty((rows, m), self.dtype)
        indices = np.empty((rows, m), self._index_dtype)
        for first, table in self.reader.tables(start, stop):
            span = slice(first - start, first - start + table.num_rows)
            fill_rows(table, self.coding, values[span], indices[span], first, self.name)
        found = scipy.sparse.csr_array(self.shape_of(rows), dtype=self.dtype)
        # The constructor would copy these arrays.
        found.data, found.indices = values.reshape(-1), indices.reshape(-1)
        wide = rows * m > np.iinfo(np.int32).max
        found.indptr = np.arange(0, rows * m + 1, m, dtype=np.int64 if wide else np.int32)
        return found

    def shape_of(self, rows: int) -> tuple[int, int]:
        """Return the shape of a block of some rows."""
        return rows, self.coding.n_features

    @property
    def _index_dtype(self) -> np.dtype:
        most = np.iinfo(np.int32).max
        return np.dtype(np.int32 if self.coding.n_features <= most else np.int64)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a block."""
        value = self.dtype.itemsize
        if self.coding.sparse:
            return len(self.coding.columns) * (value + self._index_dtype.itemsize) + CODE_BYTES
        return len(self.coding.columns) * value

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        reader = self.reader.only(starts, stops)
        return FrameRows(reader, self.coding, self.stored_dtype, self.name)

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.reader.cached_rows(starts) * self._table_row_bytes

    @property
    def _table_row_bytes(self) -> int:
        types = self.reader.pieces.types
        kinds = [types[name] for name in self.coding.names]
        return sum(numpy_dtype(kind).itemsize if is_number(kind) else CODE_BYTES for kind in kinds)

    def smaller_chunks(self, rows: int) -> str:
        return self.reader.pieces.smaller(rows)

    def describe(self) -> dict[str, Any]:
        record = repr(self.coding.as_json()).encode()
        pieces = self.reader.pieces
        largest = int(pieces.piece_rows.max(initial=0))
        n_categories = sum(len(one.categories or ()) for one in self.coding.columns)
        names = self.coding.names
        csr = {"values": self.shape[0] * len(names), "one_hot": n_categories}
        return {
            **pieces.describe(),
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": [largest, len(names)],
            **(csr if self.coding.sparse else {}),
            **({"missing": ["null"]} if pieces.nullable.intersection(names) else {}),
            "coding": blake2b(record, digest_size=16).hexdigest(),
        }
