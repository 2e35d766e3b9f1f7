"""Blocks in memory, and the contract of a source that loads them.

A **source** is stored data cut into **chunks**; a chunk is a number, and loading it twice gives equal **blocks**. Chunks
are cut by what is stored (whole Zarr chunks or shards, dask blocks), never by the memory or the workers of the day, so that
every engine adds the same leaves.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.softmax import Features, rows_between

Buffer = NDArray[np.uint8]

LEAF_BYTES = 8 * 2**20
"""A leaf's rows as float32 take about this much if dense (bytes)."""
LEAST_LEAF_ROWS, MOST_LEAF_ROWS = 8192, 131_072


@dataclass(frozen=True)
class Names:
    """What the arrays are called in messages: the path or variable their owner knows."""

    X: str = "X"
    y: str = "y"
    weights: str = "sample_weight"
    groups: str = "groups"


@dataclass(frozen=True)
class Columns:
    """What the labels, weights and groups of a source take, in bytes; what is in memory anyway takes nothing.

    Attributes
    ----------
    row : int
        Of a row in a block.
    stored : int
        Of a row as it is read, before it is converted.
    label : int
        Of a label alone, in memory or not, as labels are compared.
    leaf : int
        That a row of a leaf takes while it is visited, beside what the visit says.
    units : int
        Of the decoded chunks that stay between two loads, where the chunks of X begin or end within them.
    """

    row: int = 0
    stored: int = 0
    label: int = 0
    leaf: int = 0
    units: int = 0


class Encoded(ABC):
    """Rows of X that are not decoded yet.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    """

    shape: tuple[int, int]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes, once decoded."""
        return math.prod(self.shape) * self.dtype.itemsize

    @abstractmethod
    def pieces(self, n_rows: int) -> Iterator[NDArray]:
        """Yield the rows, so many at a time; each piece is good until the next is asked for, by the same thread."""


@dataclass(frozen=True)
class Block:
    """The rows of a chunk in memory.

    Attributes
    ----------
    X : (rows, p) ndarray or CSR
        In the stored dtype. `Encoded` in a block that was fetched: `leaves` decodes it.
    y : (rows,) ndarray or None
        Labels as stored.
    weights : (rows,) float64 or None
    first_row : int
        Number of the first row in the arrays that the block is of.
    names : Names
        For messages.
    groups : (rows,) uint64 or None
        The number of each row's group: see `dsoftmax.groups`.
    validation : bool
        Whether the rows only judge what is learnt from others.
    """

    X: Features
    y: NDArray | None = None
    weights: NDArray[np.float64] | None = None
    first_row: int = 0
    names: Names = Names()
    groups: NDArray[np.uint64] | None = None
    validation: bool = False

    @property
    def n_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of X, decoded."""
        if scipy.sparse.issparse(self.X):
            return int(self.X.data.nbytes + self.X.indices.nbytes + self.X.indptr.nbytes)
        return int(self.X.nbytes)

    def leaves(self) -> Iterator["Block"]:
        """Yield the block in leaves: the pieces whose sums are added without order.

        Of `leaf_rows` rows, CSR of `MOST_LEAF_ROWS`: adding the sums of a leaf costs the same however few values it holds.
        """
        step = MOST_LEAF_ROWS if scipy.sparse.issparse(self.X) else leaf_rows(self.X.shape[1])
        if self.n_rows <= step and not isinstance(self.X, Encoded):
            yield self
            return
        start = 0
        for X in pieces_of(self.X, step):
            yield self._between(start, start + X.shape[0], X)
            start += X.shape[0]

    def between(self, start: int, stop: int) -> "Block":
        """Return rows ``start:stop``, as views."""
        return self._between(start, stop, rows_between(self.X, start, stop))

    def _between(self, start: int, stop: int, X: Features) -> "Block":
        return replace(
            self,
            X=X,
            y=None if self.y is None else self.y[start:stop],
            weights=None if self.weights is None else self.weights[start:stop],
            first_row=self.first_row + start,
            groups=None if self.groups is None else self.groups[start:stop],
        )


def pieces_of(X: Features | Encoded, n_rows: int) -> Iterator[Features]:
    """Yield rows, so many at a time; each piece is good until the next is asked for."""
    if isinstance(X, Encoded):
        yield from X.pieces(n_rows)
        return
    for start in range(0, X.shape[0], n_rows):
        yield rows_between(X, start, min(start + n_rows, X.shape[0]))


def leaf_rows(n_features: int) -> int:
    """Return the rows of a leaf: the power of two between 8,192 and 131,072 that makes about `LEAF_BYTES` of float32."""
    fit = max(LEAF_BYTES // (4 * max(n_features, 1)), 1)
    return int(min(max(1 << (fit.bit_length() - 1), LEAST_LEAF_ROWS), MOST_LEAF_ROWS))


def room(buffer: Buffer | None, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """Return a C-ordered array to read into: in ``buffer`` where it is large enough and aligned, else a new one."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if buffer is None or buffer.nbytes < n_bytes or buffer.ctypes.data % dtype.alignment:
        return np.empty(shape, dtype)
    return buffer[:n_bytes].view(dtype).reshape(shape)


@runtime_checkable
class Share(Protocol):
    """Some chunks of a source, picklable: what a worker is given once and keeps."""

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        """Return the rows of a chunk; thread-safe.

        Parameters
        ----------
        chunk : int
        buffer : (n,) uint8, optional
            Room for the chunk's bytes of X, which the source may use or leave. The block is then good until the buffer is
            used again.

        Notes
        -----
        A share may also have the method ``fetch(chunk, buffer)``, which does the same for blocks whose leaves are visited once: X may
        be `Encoded`. See `fetcher`.
        """


def fetcher(share: Share) -> Callable[[int, Buffer], Block]:
    """Return what loads a chunk of which the leaves are visited, once and in their order."""
    found: Callable[[int, Buffer], Block] = getattr(share, "fetch", share.load)
    return found


@runtime_checkable
class Source(Share, Protocol):
    """Stored data, cut into chunks of rows.

    Attributes
    ----------
    n_features : int
    dtype : numpy dtype
        Of X as stored.
    sparse : bool
        Whether blocks hold CSR.
    resident : bool
        Whether blocks are views of what is in memory anyway, so that keeping them is of no use.
    chunk_rows : (n_chunks,) int64
        Rows of each chunk.
    chunk_bytes : (n_chunks,) int64
        Bytes of X of each chunk, decoded; for CSR an estimate.
    columns : Columns
        What labels, weights and groups take beside; of strings of any length an estimate.
    names : Names
    """

    @property
    def n_features(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def sparse(self) -> bool: ...
    @property
    def resident(self) -> bool: ...
    @property
    def chunk_rows(self) -> NDArray[np.int64]: ...
    @property
    def chunk_bytes(self) -> NDArray[np.int64]: ...
    @property
    def columns(self) -> Columns: ...
    @property
    def names(self) -> Names: ...

    def share(self, chunks: Sequence[int]) -> Share:
        """Return a picklable loader of these chunks; the numbers of the chunks stay those of the source."""

    def needs(self, chunk: int) -> tuple[Any, ...]:
        """Return the futures on a cluster that hold this chunk; empty where the chunk is loaded from storage."""

    def smaller_chunks(self, rows: int) -> str:
        """Return the lines, of a shell or of Python, that store in chunks of ``rows`` rows what of X, labels, weights and groups is
        in larger ones; empty where there are none.
        """

    def describe(self) -> dict[str, Any]:
        """Return what is stored, from metadata alone, in JSON types: equal for equal data sets, in any process."""


def n_rows(source: Source) -> int:
    """Return the rows of all chunks."""
    return int(source.chunk_rows.sum())


def first_rows(chunk_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the first row of each chunk."""
    starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(chunk_rows)[:-1]]).astype(np.int64)
    return starts
