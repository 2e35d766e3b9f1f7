"""Blocks in memory, and the contract of a source that loads them.

A **source** is stored data cut into **chunks**; a chunk is a number, and loading it twice gives equal **blocks**. Chunks
are cut by what is stored (whole Zarr chunks or shards, dask blocks), never by the memory or the workers of the day, so that
every engine adds the same leaves.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features, rows_between
from dsoftmax.data.leaves import MOST_LEAF_ROWS, leaf_rows

Buffer = NDArray[np.uint8]


@dataclass(frozen=True)
class Names:
    """What the arrays are called in messages: the path or variable their owner knows."""

    X: str = "X"
    y: str = "y"
    weights: str = "sample_weight"
    groups: str = "groups"


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
        The number of each row's group: see `dsoftmax.data.groups`.
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


def room(buffer: Buffer | None, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """Return a C-ordered array to read into: in ``buffer`` where it is large enough and aligned, else a new one."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if buffer is None or buffer.nbytes < n_bytes or buffer.ctypes.data % dtype.alignment:
        return np.empty(shape, dtype)
    return buffer[:n_bytes].view(dtype).reshape(shape)
