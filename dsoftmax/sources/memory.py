"""Arrays in memory: NumPy and SciPy sparse."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.blocks import Buffer, Names
from dsoftmax.softmax import Features, rows_between
from dsoftmax.sources.rows import Rows, RowSource, check_shapes, cut, dense_or_csr, require_numbers

CHUNK_BYTES = 2 * 2**20
"""What a chunk of an array in memory takes (bytes): small enough for many cores to share."""


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

    def only(self, spans: Sequence[tuple[int, int]]) -> Rows:
        return Pieces(self.shape, self.dtype, {start: self.read(start, stop) for start, stop in spans})

    def describe(self) -> dict[str, Any]:
        digest = blake2b(digest_size=16)
        sparse = scipy.sparse.issparse(self.array)
        for part in (self.array.data, self.array.indices, self.array.indptr) if sparse else (self.array,):
            plain = np.array(part.tolist(), dtype=str) if part.dtype.hasobject else np.ascontiguousarray(part)
            digest.update(plain.view(np.uint8).data if plain.size else b"")
        return {"kind": "memory", "shape": list(self.shape), "dtype": str(self.dtype), "digest": digest.hexdigest()}


@dataclass(frozen=True)
class Pieces:
    """Some spans of an array in memory, by their first row."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: dict[int, Features]
    resident = True

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        return self.pieces[start]

    def only(self, spans: Sequence[tuple[int, int]]) -> Rows:
        return Pieces(self.shape, self.dtype, {start: self.pieces[start] for start, _ in spans})

    def describe(self) -> dict[str, Any]:
        return {"kind": "memory", "shape": list(self.shape), "dtype": str(self.dtype)}


def row_bytes_and_step(X: Features) -> tuple[int, int]:
    """Return the bytes of a row, on average for CSR, and the rows of a chunk: a power of two that makes `CHUNK_BYTES`."""
    sparse = scipy.sparse.issparse(X)
    stored = (X.data.nbytes + X.indices.nbytes) // max(X.shape[0], 1) if sparse else X.shape[1] * X.dtype.itemsize
    row_bytes = max(stored, 1)
    return row_bytes, max(1 << max(CHUNK_BYTES // row_bytes, 1).bit_length() - 1, 64)


def memory_source(X: Any, y: Any = None, weights: Any = None, names: Names | None = None) -> RowSource:
    """Return a source of arrays in memory, which are not copied.

    Parameters
    ----------
    X : (n, p) array-like or SciPy sparse
        Sparse formats other than CSR are converted.
    y : (n,) array-like, optional
    weights : (n,) array-like, optional
    names : Names, optional

    Raises
    ------
    DataError
        Shapes that do not fit, or X without real numbers.
    """
    names = names or Names()
    X = dense_or_csr(X)
    y = None if y is None else np.asarray(y)
    weights = None if weights is None else np.asarray(weights, np.float64)
    check_shapes(names, X.shape, None if y is None else y.shape, None if weights is None else weights.shape)
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
    )
