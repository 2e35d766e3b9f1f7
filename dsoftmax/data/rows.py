"""A source of arrays that are read by rows.

X decides how rows are cut into chunks. The same rows of y, weights and groups are read with X.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Encoded, PixelOf
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.columns import Column, ColumnBytes, column_bytes
from dsoftmax.data.features import Features
from dsoftmax.data.scaling import Scaling
from dsoftmax.data.source import Share, first_rows
from dsoftmax.data.table import Names, Table
from dsoftmax.data.together import read_together


class Rows(Protocol):
    """An array that is read by spans of rows.

    A class that inherits from this protocol must define ``shape``, ``dtype``, `read` and
    `describe`. The defaults of the other members suit an array that is stored, picklable, and read
    without a cache.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    resident : bool
        Whether all rows are in memory anyway.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abstractmethod
    def dtype(self) -> np.dtype: ...

    @property
    def resident(self) -> bool:
        return False

    @property
    def in_flight(self) -> int:
        """Number of reads that should run at once for each computing thread. 1 by default."""
        return 1

    @property
    def declared(self) -> tuple[Any, ...]:
        """Values that the storage declares as missing, in the array's dtype. None by default."""
        return ()

    @property
    def masked(self) -> bool:
        """Whether `read` may return a masked array. False by default."""
        return False

    @property
    def scaling(self) -> Scaling | None:
        """The map from stored to meant features; None, by default, if they are the same."""
        return None

    @property
    def pixel(self) -> PixelOf | None:
        """The place of a row in a cube; None, by default, if rows are no pixels."""
        return None

    @abstractmethod
    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        """Return rows ``start:stop``, in ``buffer`` if the reader can use it; thread-safe.

        Entries of a masked array that are masked are missing: their rows are skipped.
        """
        ...

    def fetch(self, start: int, stop: int, buffer: Buffer) -> Features | Encoded:
        """Return rows ``start:stop`` whose leaves are visited once, in order.

        The default is `read`.
        """
        return self.read(start, stop, buffer)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "Rows":
        """Return a reader of the ascending spans ``starts[i]:stops[i]``, cheap to pickle.

        The default is the reader itself.
        """
        return self

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        """Return the bytes of decoded chunks that stay between reads.

        The spans of the reads begin at ``starts``. The default is 0.
        """
        return 0

    def smaller_chunks(self, rows: int) -> str:
        """Return the line that stores the array in chunks of ``rows`` rows.

        The line is empty if the chunks are small enough, and by default.
        """
        return ""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return a description of the stored array in JSON types."""
        ...


class StoredRows(Rows, Protocol):
    """An array in storage, in chunks of rows.

    Attributes
    ----------
    stored : tuple of int
        Shape of one stored object: a shard, or a chunk.
    unit_rows : int
        Rows that can be read without reading others.
    """

    @property
    @abstractmethod
    def stored(self) -> tuple[int, ...]: ...

    @property
    @abstractmethod
    def unit_rows(self) -> int: ...


class Stored(Protocol):
    """An array that is stored in an encoding of its own, for example as a group of AnnData.

    It is opened, and nothing of it is read yet. A class that inherits from this protocol must
    define all members.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    sparse : bool
        Whether its rows are CSR.
    place : str
        Path or URL of the array.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abstractmethod
    def dtype(self) -> np.dtype: ...

    @property
    def sparse(self) -> bool:
        return False

    @property
    @abstractmethod
    def place(self) -> str: ...

    @abstractmethod
    def rows(self, name: str, missing_chunks: str) -> Rows:
        """Return a reader of the rows.

        Parameters
        ----------
        name : str
            Name of the array in messages.
        missing_chunks : {"error", "fill"}
            See `dsoftmax.data.table.Table`.
        """
        ...


@dataclass(frozen=True)
class RowSource(Share):
    """Chunks of rows of X, with the same rows of y, weights and groups.

    Attributes
    ----------
    table : Table of Rows
    chunk_rows, chunk_bytes : (n_chunks,) int64
    sparse : bool
        Whether blocks hold CSR.
    """

    table: Table[Rows]
    chunk_rows: NDArray[np.int64]
    chunk_bytes: NDArray[np.int64]
    sparse: bool = False

    @property
    def names(self) -> Names:
        return self.table.names

    @property
    def n_features(self) -> int:
        return int(self.table.X.shape[1])

    @property
    def dtype(self) -> np.dtype:
        return self.table.X.dtype

    @property
    def dtypes(self) -> Table[np.dtype]:
        return self.table.map(lambda rows, _: rows.dtype)

    @property
    def resident(self) -> bool:
        return self.table.X.resident

    @property
    def in_flight(self) -> int:
        return max(rows.in_flight for _, rows in self.table.items())

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        return read_block(self.table, *self._span(chunk), buffer)

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        return fetch_block(self.table, *self._span(chunk), buffer)

    def _span(self, chunk: int) -> tuple[int, int]:
        start = int(self.starts[chunk])
        return start, start + int(self.chunk_rows[chunk])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        return first_rows(self.chunk_rows)

    @cached_property
    def columns(self) -> ColumnBytes:
        def column(rows: Rows, name: str) -> Column:
            return Column(rows.dtype, rows.resident, rows.cached_bytes(self.starts))

        missing = self.table.missing.any or self.table.skipped is not None
        skips = missing or any(rows.masked for _, rows in self.table.items())
        a_row = self.chunk_bytes // np.maximum(self.chunk_rows, 1)
        copied = int(a_row.max(initial=0)) if skips else 0
        found = column_bytes(self.table.map(column), copied)
        decoded = 0 if self.table.X.scaling is None else 8 * self.n_features
        return replace(
            found, decoded=decoded, units=found.units + self.table.X.cached_bytes(self.starts)
        )

    def share(self, chunks: Sequence[int]) -> "RowShare":
        numbers = np.unique(np.asarray(chunks, np.int64))
        starts = self.starts[numbers]
        stops = starts + self.chunk_rows[numbers]
        table = self.table.map(lambda rows, _: rows.only(starts, stops))
        return RowShare(table, numbers, starts, stops)

    def needs(self, chunk: int) -> tuple[Any, ...]:
        return ()

    def smaller_chunks(self, rows: int) -> str:
        # Large stored chunks of X may stay if they are read in slices.
        X = self.table.X.smaller_chunks(rows) if rows < self.chunk_rows.max() else ""
        lines = [X, *(column.smaller_chunks(rows) for _, column in self.table.columns())]
        return "\n  ".join(dict.fromkeys(filter(None, lines)))

    def describe(self) -> dict[str, Any]:
        return {
            "arrays": {part: rows.describe() for part, rows in self.table.items()},
            "chunks": len(self.chunk_rows),
        }


@dataclass(frozen=True)
class RowShare(Share):
    """Some chunks of a `RowSource`, and the rows that they span.

    Attributes
    ----------
    table : Table of Rows
    chunks : (n,) int64
        Numbers of the chunks, ascending.
    starts, stops : (n,) int64
        First row of each chunk, and the row after its last.
    """

    table: Table[Rows]
    chunks: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        return read_block(self.table, *self._span(chunk), buffer)

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        return fetch_block(self.table, *self._span(chunk), buffer)

    def _span(self, chunk: int) -> tuple[int, int]:
        place = int(np.searchsorted(self.chunks, chunk))
        if place == len(self.chunks) or self.chunks[place] != chunk:
            raise KeyError(f"chunk {chunk} is not in this share of {len(self.chunks):,} chunks")
        return int(self.starts[place]), int(self.stops[place])


def read_block(table: Table[Rows], start: int, stop: int, buffer: Buffer | None) -> Block:
    """Return rows ``start:stop``, X in ``buffer`` if its reader can use it."""
    return _with_columns(table, start, stop, partial(table.X.read, start, stop, buffer))


def fetch_block(table: Table[Rows], start: int, stop: int, buffer: Buffer) -> Block:
    """Return rows ``start:stop``, X encoded if its reader can decode it slice by slice."""
    return _with_columns(table, start, stop, partial(table.X.fetch, start, stop, buffer))


def _with_columns(
    table: Table[Rows], start: int, stop: int, read_X: Callable[[], Features | Encoded]
) -> Block:
    columns = dict(table.columns())
    reads = [partial(rows.read, start, stop) for rows in columns.values()]
    at_once = any(rows.in_flight > 1 for _, rows in table.items())
    X, *values = read_together([read_X, *reads], at_once)
    read = dict(zip(columns, values, strict=True))
    found: Table[Any] = replace(table, X=X, **read)
    return Block.of(found, start, table.X.scaling, table.X.pixel)


def cut(n: int, step: int) -> NDArray[np.int64]:
    """Return the sizes of chunks of ``step`` rows that ``n`` rows make; the last may be smaller."""
    rows = np.full(-(-n // step), step, np.int64)
    rows[-1] -= rows.sum() - n
    return rows
