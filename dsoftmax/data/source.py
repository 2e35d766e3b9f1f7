"""The contract of a source: stored data, cut into chunks of rows."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.table import Names, Table


@runtime_checkable
class Share(Protocol):
    """Some chunks of a source, picklable. A worker receives its share once.

    A class that inherits from this protocol must define `load`. It inherits the other members.
    """

    @abstractmethod
    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        """Return the rows of a chunk; thread-safe.

        Parameters
        ----------
        chunk : int
        buffer : (n,) uint8, optional
            Memory for the chunk's bytes of X. The source may use or ignore it. The block is then
            valid until the buffer is used again.
        """
        ...

    @property
    def in_flight(self) -> int:
        """Number of chunks that are loaded at once for each computing thread.

        More than one hides the latency of remote storage. The default is 1.
        """
        return 1

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        """Return the rows of a chunk whose leaves are visited once, in order.

        X may be `Encoded`. The default is `load`.
        """
        return self.load(chunk, buffer)

    def bind(self, values: Mapping[int, Sequence[Any]]) -> "Share":
        """Return the share with the results of its futures, by chunk.

        The default is the share itself, which has no futures.
        """
        return self


@runtime_checkable
class Source(Share, Protocol):
    """Stored data, cut into chunks of rows.

    Attributes
    ----------
    n_features : int
    dtype : numpy dtype
        Dtype of X as stored.
    dtypes : Table of numpy dtype
        Dtypes of X, labels, weights and groups as stored.
    sparse : bool
        Whether blocks hold CSR.
    resident : bool
        Whether blocks are views of arrays that are in memory anyway, so that caching blocks saves
        nothing.
    chunk_rows : (n_chunks,) int64
        Rows of each chunk.
    chunk_bytes : (n_chunks,) int64
        Bytes of X of each chunk, decoded; an estimate for CSR.
    columns : ColumnBytes
        Bytes of labels, weights and groups; an estimate for strings of any length.
    names : Names
        Names of the arrays in messages.
    """

    @property
    def n_features(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def dtypes(self) -> Table[np.dtype]: ...
    @property
    def sparse(self) -> bool: ...
    @property
    def resident(self) -> bool: ...
    @property
    def chunk_rows(self) -> NDArray[np.int64]: ...
    @property
    def chunk_bytes(self) -> NDArray[np.int64]: ...
    @property
    def columns(self) -> ColumnBytes: ...
    @property
    def names(self) -> Names: ...

    def share(self, chunks: Sequence[int]) -> Share:
        """Return a picklable loader of these chunks.

        Chunks have the same numbers in it as in the source.
        """
        ...

    def needs(self, chunk: int) -> tuple[Any, ...]:
        """Return the futures with this chunk; empty if the chunk is loaded from storage."""
        ...

    def smaller_chunks(self, rows: int) -> str:
        """Return the lines of shell or Python that store the arrays in chunks of ``rows`` rows.

        Arrays whose chunks are small enough have no line. The result is empty if no array has one.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return a description of the stored arrays from metadata alone, in JSON types.

        Equal data sets have equal descriptions in every process.
        """
        ...


def n_rows(source: Source) -> int:
    """Return the number of rows of all chunks."""
    return int(source.chunk_rows.sum())


def first_rows(chunk_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the first row of each chunk."""
    starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(chunk_rows)[:-1]]).astype(np.int64)
    return starts
