"""The pieces of a frame, such as row groups, and the reader of some of its columns."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.frames.decoded import Decoded
from dsoftmax.data.frames.encode import distinct_values
from dsoftmax.data.source import first_rows
from dsoftmax.system.process import available_cores

Table = Any
"""A ``pyarrow.Table``."""
MOST_DECODED = 2
"""Pieces of a reader that stay decoded because chunks of the source begin or end inside them."""


class Pieces(Protocol):
    """Rows of a frame in pieces, such as the row groups of Parquet. Picklable.

    A class that inherits from this protocol must define all members except `only`.

    Attributes
    ----------
    types : mapping
        The ``pyarrow.DataType`` of each column, in the order of the columns.
    nullable : frozenset of str
        Columns that may have nulls.
    piece_rows : (n,) int64
        Rows of each piece.
    place : str
        Path, or the name of the frame, in messages.
    """

    @property
    @abstractmethod
    def types(self) -> Mapping[str, Any]: ...
    @property
    @abstractmethod
    def nullable(self) -> frozenset[str]: ...
    @property
    @abstractmethod
    def piece_rows(self) -> NDArray[np.int64]: ...
    @property
    @abstractmethod
    def place(self) -> str: ...

    @abstractmethod
    def table(self, piece: int, names: Sequence[str]) -> Table:
        """Return these columns of a piece; thread-safe.

        Raises
        ------
        ReadError
        """
        ...

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "Pieces":
        """Return the pieces with these spans of rows. The default is all of them."""
        return self

    def distinct(self, names: Sequence[str]) -> Iterator[tuple[str, set[Any]]]:
        """Yield names of columns with distinct values of them that occur, without nulls.

        The default reads each column of each piece once, on all cores.
        """

        def look(asked: tuple[int, str]) -> tuple[str, set[Any]]:
            piece, name = asked
            chunks = self.table(piece, [name]).column(name).chunks
            return name, set().union(*map(distinct_values, chunks))

        asked = [(piece, name) for piece in range(len(self.piece_rows)) for name in names]
        with ThreadPoolExecutor(available_cores()) as threads:
            yield from threads.map(look, asked)

    @property
    def lazy(self) -> bool:
        """Whether the pieces are those of dask, so that results should be lazy too."""
        return False

    @property
    def resident(self) -> bool:
        """Whether the tables are in memory anyway."""
        return False

    def smaller(self, rows: int) -> str:
        """Return the line that stores pieces of ``rows`` rows; empty by default."""
        return ""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return a description in JSON types."""
        ...


class Reader:
    """A reader of some columns, by spans of rows.

    A piece that a span cuts stays decoded, because another span needs it too.

    Parameters
    ----------
    pieces : Pieces
    names : sequence of str
    """

    def __init__(self, pieces: Pieces, names: Sequence[str]) -> None:
        self.pieces, self.names = pieces, tuple(names)
        self.starts = first_rows(pieces.piece_rows)
        self._decoded = Decoded(MOST_DECODED)

    def __reduce__(self) -> tuple[Any, ...]:
        return Reader, (self.pieces, self.names)

    @property
    def n_rows(self) -> int:
        """Number of rows of all pieces."""
        return int(self.pieces.piece_rows.sum())

    def tables(self, start: int, stop: int) -> Iterator[tuple[int, Table]]:
        """Yield the number of the first row and a table of each piece of a span of rows."""
        piece = max(int(np.searchsorted(self.starts, start, side="right")) - 1, 0)
        while start < stop:
            first = int(self.starts[piece])
            rows = int(self.pieces.piece_rows[piece])
            end = min(stop, first + rows)
            if (start, end) == (first, first + rows):
                yield start, self.pieces.table(piece, self.names)
            elif start < end:
                whole = self._decoded.table(piece, self._decode)
                yield start, whole.slice(start - first, end - start)
            start, piece = end, piece + 1

    def _decode(self, piece: int) -> Table:
        return self.pieces.table(piece, self.names)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "Reader":
        """Return a reader of these spans of rows."""
        return Reader(self.pieces.only(starts, stops), self.names)

    def cached_rows(self, starts: NDArray[np.int64]) -> int:
        """Return the rows of decoded pieces that stay between reads, for spans from ``starts``."""
        if self.pieces.resident:
            return 0
        cut = np.unique(np.searchsorted(self.starts, starts[~np.isin(starts, self.starts)]) - 1)
        sizes = np.sort(self.pieces.piece_rows[cut])[::-1]
        return int(sizes[:MOST_DECODED].sum())
