"""A matrix in CSR in three stored arrays: row pointers in memory, values and columns by spans."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer
from dsoftmax.data.features import Features
from dsoftmax.data.memory import rows_of_chunk
from dsoftmax.data.rows import Rows, cut
from dsoftmax.data.together import read_together
from dsoftmax.errors import DataError, ReadError

Pointers = NDArray[np.int64]


class SparseRows(Rows):
    """Rows of a stored CSR matrix, some or all of them.

    Row i has the values ``data[indptr[i]:indptr[i + 1]]`` in the columns ``indices[…]`` of the same
    span. Nothing is made dense.

    Parameters
    ----------
    data, indices : Rows
        Stored arrays with one entry per stored value.
    indptr : (m,) int64
        Row pointers: the ``n_rows + 1`` of each span, one span after the other.
    shape : (int, int)
        Rows and columns of the whole matrix.
    starts : (k,) int64
        First row of each span, ascending.
    places : (k,) int64
        Position of the first pointer of each span in ``indptr``.
    name : str
        Name of the matrix in messages.
    """

    def __init__(
        self,
        data: Rows,
        indices: Rows,
        indptr: Pointers,
        shape: tuple[int, int],
        starts: Pointers,
        places: Pointers,
        name: str,
    ) -> None:
        self.data, self.indices, self.indptr, self.name = data, indices, indptr, name
        self._shape, self.starts, self.places = shape, starts, places

    @classmethod
    def of(
        cls, data: Rows, indices: Rows, indptr: NDArray, shape: tuple[int, int], name: str
    ) -> "SparseRows":
        """Return a reader of all rows, once the row pointers fit the shape and the values.

        Raises
        ------
        DataError
            They do not fit.
        """
        pointers = np.ascontiguousarray(indptr, np.int64)
        n, n_values = shape[0], data.shape[0]
        found = f"{len(pointers):,} row pointers, {n_values:,} values and {indices.shape[0]:,} "
        fits = len(pointers) == n + 1 and indices.shape[0] == n_values
        fits = fits and pointers[0] == 0 and pointers[-1] == n_values
        if not fits or (pointers[1:] < pointers[:-1]).any():
            raise DataError(
                f"{name} is a CSR matrix of shape {shape} with {found}columns, whose pointers do "
                "not fit them; expected one pointer more than rows, ascending from 0 to the number "
                "of values. The matrix is damaged. Write it again from its origin."
            )
        none = np.zeros(1, np.int64)
        return cls(data, indices, pointers, shape, none, none, name)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.data, self.indices, self.indptr, self._shape, self.starts, self.places)
        return SparseRows, (*parts, self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the blocks: that of the values, except float16, which SciPy does not know."""
        return value_dtype(self.data.dtype)

    @property
    def in_flight(self) -> int:
        return self.data.in_flight

    @property
    def _index_dtype(self) -> np.dtype:
        return np.dtype(np.int32 if self._shape[1] <= np.iinfo(np.int32).max else np.int64)

    def chunks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows and the bytes of the chunks, as `dsoftmax.data.memory` cuts CSR.

        Only a reader of all rows is cut.
        """
        n, p = self._shape
        value = self.dtype.itemsize + self._index_dtype.itemsize
        row_bytes = max(self.data.shape[0] * value // max(n, 1), 1)
        rows = cut(n, rows_of_chunk(n, p, row_bytes, sparse=True))
        values = np.diff(self.indptr[np.concatenate([[0], np.cumsum(rows)])])
        pointers = (rows + 1) * np.where(values > np.iinfo(np.int32).max, 8, 4)
        return rows, values * value + pointers

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        pointers = self.indptr[self._place(start) :][: stop - start + 1]
        first, last = int(pointers[0]), int(pointers[-1])
        values, columns = read_together(
            [partial(part.read, first, last) for part in (self.data, self.indices)],
            self.in_flight > 1,
        )
        self._require_columns(columns, start, stop)
        found = scipy.sparse.csr_array((stop - start, self._shape[1]), dtype=self.dtype)
        # The constructor would copy these arrays.
        found.data = np.ascontiguousarray(values, self.dtype)
        found.indices = np.ascontiguousarray(columns, self._index_dtype)
        most = np.iinfo(np.int32).max
        found.indptr = (pointers - first).astype(np.int32 if last - first <= most else np.int64)
        return found

    def _place(self, row: int) -> int:
        """Return the position of a row's pointer."""
        span = int(np.searchsorted(self.starts, row, side="right")) - 1
        return int(self.places[span]) + row - int(self.starts[span])

    def _require_columns(self, columns: NDArray, start: int, stop: int) -> None:
        p = self._shape[1]
        if columns.size and (columns.min() < 0 or columns.max() >= p):
            wrong = columns[(columns < 0) | (columns >= p)][0]
            raise ReadError(
                f"{self.name} rows {start:,}–{stop - 1:,}: a stored value has column {wrong:,}; "
                f"expected columns from 0 to {p - 1:,}. The indices are damaged. Write the matrix "
                "again from its origin."
            )

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        spans = [
            self.indptr[self._place(start) :][: stop - start + 1]
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]
        sizes = stops - starts + 1
        places = np.cumsum(sizes) - sizes
        indptr = np.concatenate([*spans, np.zeros(0, np.int64)])
        args = (self.data, self.indices, indptr, self._shape, starts, places, self.name)
        return SparseRows(*args)

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        values = self.indptr[starts]
        return self.data.cached_bytes(values) + self.indices.cached_bytes(values)

    def describe(self) -> dict[str, Any]:
        stored: Mapping[str, Any] = self.data.describe()
        return {
            **stored,
            "kind": f"{stored['kind']} csr",
            "shape": list(self._shape),
            "values": self.data.shape[0],
            "indices": str(self.indices.dtype),
        }


def value_dtype(stored: np.dtype) -> np.dtype:
    """Return the dtype of the values of a CSR block, from that of the stored values."""
    return np.dtype(np.float32) if stored == np.float16 else stored.newbyteorder("=")
