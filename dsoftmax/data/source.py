"""The contract of a source: stored data, cut into chunks of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Buffer, Names


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
