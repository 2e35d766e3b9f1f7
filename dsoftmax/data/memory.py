"""Arrays in memory: NumPy and SciPy sparse."""

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer
from dsoftmax.data.checks import check_shapes, every_row, real_weights, require_numbers
from dsoftmax.data.contents import contents
from dsoftmax.data.features import Features, dense_or_csr, rows_between
from dsoftmax.data.rows import Rows, RowSource, cut
from dsoftmax.data.table import Table

CHUNKS = 32
"""Number of chunks of a large array in memory, within the next limits, because many cores share
them. Smaller arrays have a smaller power of two, so that 2, 4, … cores get equal parts."""
CHUNK_BYTES, MOST_CHUNK_BYTES = 2 * 2**20, 16 * 2**20
"""Least and most bytes of a chunk of a dense array in memory, unless it has a single chunk."""
CSR_CHUNK_BYTES, MOST_CSR_CHUNK_BYTES = 16 * 2**20, 64 * 2**20
"""Least and most bytes of a chunk of CSR.

They are larger because CSR rows are short and the sums of a chunk are wide. Sums of few rows cost
as much as sums of many rows.
"""
CSR_FEATURE_BYTES, LEAST_CSR_CHUNKS = 2400, 8
"""Bytes of a chunk of CSR per feature, if at least `LEAST_CSR_CHUNKS` chunks remain.

At this size, adding the sums of a chunk takes less than a tenth of its time.
"""


@dataclass(frozen=True)
class MemoryRows(Rows):
    """An ndarray or CSR array."""

    array: Features

    @property
    def resident(self) -> bool:
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        return rows_between(self.array, start, stop)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        return MemorySpans(self.shape, self.array, starts, stops, starts)

    def describe(self) -> dict[str, Any]:
        digest = blake2b(digest_size=16)
        sparse = scipy.sparse.issparse(self.array)
        for part in (
            (self.array.data, self.array.indices, self.array.indptr) if sparse else (self.array,)
        ):
            plain = contents(part)
            digest.update(plain.view(np.uint8).data if plain.size else b"")
        return {
            "kind": "memory",
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "digest": digest.hexdigest(),
        }


@dataclass(frozen=True)
class MemorySpans(Rows):
    """Some spans of an array in memory. Only the rows of the spans are pickled.

    Attributes
    ----------
    whole : tuple of int
        Shape of the whole array.
    array : ndarray or CSR
        The whole array; after pickling the rows of the spans, one span after the other.
    starts, stops : (n,) int64
        First row of each span in the whole array, ascending, and the row after its last.
    offsets : (n,) int64
        First row of each span in ``array``.
    """

    whole: tuple[int, ...]
    array: Features
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __reduce__(self) -> tuple[Any, ...]:
        lengths = self.stops - self.starts
        places = zip(self.offsets.tolist(), lengths.tolist(), strict=True)
        spans = [rows_between(self.array, low, low + n) for low, n in places] or [
            rows_between(self.array, 0, 0)
        ]
        own = (
            scipy.sparse.vstack(spans, format="csr")
            if scipy.sparse.issparse(self.array)
            else np.concatenate(spans, dtype=self.dtype)
        )
        offsets = np.cumsum(lengths) - lengths
        return MemorySpans, (self.whole, own, self.starts, self.stops, offsets)

    @property
    def resident(self) -> bool:
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        span = int(np.searchsorted(self.starts, start, side="right")) - 1
        low = int(self.offsets[span]) + start - int(self.starts[span])
        return rows_between(self.array, low, low + stop - start)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        spans = np.searchsorted(self.starts, starts, side="right") - 1
        offsets = self.offsets[spans] + starts - self.starts[spans]
        return MemorySpans(self.whole, self.array, starts, stops, offsets)

    def describe(self) -> dict[str, Any]:
        return {"kind": "memory", "shape": list(self.shape), "dtype": str(self.dtype)}


def row_bytes_and_step(X: Features) -> tuple[int, int]:
    """Return the bytes of a row, on average for CSR, and the rows of a chunk.

    `rows_of_chunk` says how many rows a chunk has.
    """
    n, sparse = X.shape[0], scipy.sparse.issparse(X)
    stored = (
        (X.data.nbytes + X.indices.nbytes) // max(n, 1) if sparse else X.shape[1] * X.dtype.itemsize
    )
    row_bytes = max(stored, 1)
    return row_bytes, rows_of_chunk(n, X.shape[1], row_bytes, sparse)


def rows_of_chunk(n: int, p: int, row_bytes: int, sparse: bool) -> int:
    """Return the rows of a chunk of a dense array in memory, or of CSR anywhere.

    All chunks have equally many rows, up to a multiple of 64. There are as many chunks as a power
    of two, up to `CHUNKS`, that have at least `CHUNK_BYTES` each, or the limits of CSR. There are
    more if chunks would be larger than `MOST_CHUNK_BYTES`.
    """
    whole = n * row_bytes
    least, most = CHUNK_BYTES, MOST_CHUNK_BYTES
    if sparse:
        least, most = CSR_CHUNK_BYTES, MOST_CSR_CHUNK_BYTES
        least = max(least, min(CSR_FEATURE_BYTES * p, whole // LEAST_CSR_CHUNKS))
    fit = min(max(whole // least, 1), CHUNKS)
    n_chunks = max(1 << fit.bit_length() - 1, -(-whole // most))
    return max(-(-n // n_chunks // 64) * 64, 64)


def memory_source(table: Table[Any]) -> RowSource:
    """Return a source of arrays in memory, which are not copied.

    Parameters
    ----------
    table : Table of array-like
        X may be SciPy sparse; formats other than CSR are converted. Weights may be one number.

    Raises
    ------
    DataError
        Shapes do not fit, or X or the weights are not real numbers.
    """
    X = dense_or_csr(table.X)
    if table.weights is not None:
        weights = real_weights(every_row(table.weights, X.shape[:1]), table.names.weights)
        table = replace(table, weights=weights)
    arrays = table.map_columns(lambda values, _: np.asarray(values), X)
    check_shapes(arrays.map(lambda array, _: tuple(array.shape)), table)
    require_numbers(table.names.X, X.dtype)
    row_bytes, step = row_bytes_and_step(X)
    chunk_rows: NDArray[np.int64] = cut(X.shape[0], step)
    rows: Table[Rows] = arrays.map(lambda array, _: MemoryRows(array))
    return RowSource(rows, chunk_rows, chunk_rows * row_bytes, scipy.sparse.issparse(X))
