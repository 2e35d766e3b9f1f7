"""Arrays in memory: NumPy and SciPy sparse."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Buffer, Names
from dsoftmax.data.checks import check_shapes, every_row, real_weights, require_numbers
from dsoftmax.data.features import Features, dense_or_csr, rows_between
from dsoftmax.data.rows import Rows, RowSource, cut

CHUNK_BYTES, MOST_CHUNK_BYTES = 2 * 2**20, 16 * 2**20
"""What a chunk of an array in memory takes (bytes): small enough for `CHUNKS` of them, which many cores share."""
CHUNKS = 32
CSR_CHUNK_BYTES, MOST_CSR_CHUNK_BYTES = 16 * 2**20, 64 * 2**20
"""Of CSR more: its rows are short, and the sums of a chunk, which cost as much for few rows as for many, are wide."""
CSR_FEATURE_BYTES, LEAST_CSR_CHUNKS = 2400, 8
"""With so many bytes for each feature, adding the sums of a chunk of CSR takes less than a tenth of its time; they are given it where
so many chunks are left."""


@dataclass(frozen=True)
class MemoryRows:
    """An ndarray or CSR array."""

    array: Features
    resident = True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        return rows_between(self.array, start, stop)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        return Pieces(self.shape, self.array, starts, stops, starts)

    def kept_bytes(self, starts: NDArray[np.int64]) -> int:
        return 0

    def smaller_chunks(self, rows: int) -> str:
        return ""

    def describe(self) -> dict[str, Any]:
        digest = blake2b(digest_size=16)
        sparse = scipy.sparse.issparse(self.array)
        for part in (
            (self.array.data, self.array.indices, self.array.indptr) if sparse else (self.array,)
        ):
            plain = (
                np.array(part.tolist(), dtype=str)
                if part.dtype.hasobject
                else np.ascontiguousarray(part)
            )
            digest.update(plain.view(np.uint8).data if plain.size else b"")
        return {
            "kind": "memory",
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "digest": digest.hexdigest(),
        }


@dataclass(frozen=True)
class Pieces:
    """Some spans of an array in memory; only their rows are pickled.

    Attributes
    ----------
    shape : tuple of int
        Of the whole array.
    array : ndarray or CSR
        Holds the spans, and before it is pickled all rows.
    starts, stops : (n,) int64
        Ascending.
    offsets : (n,) int64
        Where in ``array`` each span begins.
    """

    shape: tuple[int, ...]
    array: Features
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    offsets: NDArray[np.int64]
    resident = True

    def __reduce__(self) -> tuple[Any, ...]:
        lengths = self.stops - self.starts
        places = zip(self.offsets.tolist(), lengths.tolist(), strict=True)
        spans = [rows_between(self.array, low, low + n) for low, n in places] or [
            rows_between(self.array, 0, 0)
        ]
        sparse = scipy.sparse.issparse(self.array)
        held = (
            scipy.sparse.vstack(spans, format="csr")
            if sparse
            else np.concatenate(spans, dtype=self.dtype)
        )
        return Pieces, (self.shape, held, self.starts, self.stops, np.cumsum(lengths) - lengths)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        place = int(np.searchsorted(self.starts, start, side="right")) - 1
        low = int(self.offsets[place]) + start - int(self.starts[place])
        return rows_between(self.array, low, low + stop - start)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        places = np.searchsorted(self.starts, starts, side="right") - 1
        return Pieces(
            self.shape,
            self.array,
            starts,
            stops,
            self.offsets[places] + starts - self.starts[places],
        )

    def kept_bytes(self, starts: NDArray[np.int64]) -> int:
        return 0

    def smaller_chunks(self, rows: int) -> str:
        return ""

    def describe(self) -> dict[str, Any]:
        return {"kind": "memory", "shape": list(self.shape), "dtype": str(self.dtype)}


def row_bytes_and_step(X: Features) -> tuple[int, int]:
    """Return the bytes of a row, on average for CSR, and the rows of a chunk: a power of two that makes about one part in `CHUNKS`
    of the data, within `CHUNK_BYTES` and `MOST_CHUNK_BYTES`, or those of CSR.
    """
    sparse = scipy.sparse.issparse(X)
    stored = (
        (X.data.nbytes + X.indices.nbytes) // max(X.shape[0], 1)
        if sparse
        else X.shape[1] * X.dtype.itemsize
    )
    row_bytes = max(stored, 1)
    whole = X.shape[0] * row_bytes
    part = whole // CHUNKS
    least, most = CHUNK_BYTES, MOST_CHUNK_BYTES
    if sparse:
        least, most = CSR_CHUNK_BYTES, MOST_CSR_CHUNK_BYTES
        least = max(least, min(CSR_FEATURE_BYTES * X.shape[1], whole // LEAST_CSR_CHUNKS))
    n_bytes = min(max(part, least), most)
    rows = max(n_bytes // row_bytes, 1)
    return row_bytes, max(
        1 << (3 * rows // 2).bit_length() - 1 if part > CHUNK_BYTES else 1 << rows.bit_length() - 1,
        64,
    )


def memory_source(
    X: Any, y: Any = None, weights: Any = None, names: Names | None = None, groups: Any = None
) -> RowSource:
    """Return a source of arrays in memory, which are not copied.

    Parameters
    ----------
    X : (n, p) array-like or SciPy sparse
        Sparse formats other than CSR are converted.
    y : (n,) array-like, optional
    weights : (n,) array-like or number, optional
    names : Names, optional
    groups : (n,) array-like, optional

    Raises
    ------
    DataError
        Shapes that do not fit, or X without real numbers.
    """
    names = names or Names()
    X = dense_or_csr(X)
    y = None if y is None else np.asarray(y)
    weights = (
        None if weights is None else real_weights(every_row(weights, X.shape[:1]), names.weights)
    )
    groups = None if groups is None else np.asarray(groups)
    check_shapes(
        names,
        X.shape,
        *(None if column is None else column.shape for column in (y, weights, groups)),
    )
    require_numbers(names.X, X.dtype)
    row_bytes, step = row_bytes_and_step(X)
    chunk_rows: NDArray[np.int64] = cut(X.shape[0], step)
    return RowSource(
        MemoryRows(X),
        None if y is None else MemoryRows(y),
        None if weights is None else MemoryRows(weights),
        chunk_rows,
        chunk_rows * row_bytes,
        scipy.sparse.issparse(X),
        names,
        None if groups is None else MemoryRows(groups),
    )
