"""A source made of arrays that can be read by row: X gives the chunks; y, weights and groups are read along with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Buffer, Encoded, Names
from dsoftmax.data.checks import real_weights
from dsoftmax.data.columns import columns_of
from dsoftmax.data.features import Features
from dsoftmax.data.groups import group_keys
from dsoftmax.data.source import Columns, first_rows


class Rows(Protocol):
    """An array that is read by spans of rows.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    resident : bool
        Whether all is in memory anyway.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def resident(self) -> bool: ...
    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        """Return rows ``start:stop``, in ``buffer`` where that is given and of use; thread-safe."""

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "Rows":
        """Return what can read the spans ``starts[i]:stops[i]``, which ascend, and is cheap to pickle."""

    def kept_bytes(self, starts: NDArray[np.int64]) -> int:
        """Return the bytes that stay decoded where spans are read that begin at ``starts``, each up to the next."""

    def smaller_chunks(self, rows: int) -> str:
        """Return the line that stores the array in chunks of ``rows`` rows; empty where it is in such, or there is no need."""

    def describe(self) -> dict[str, Any]:
        """Return what is stored, in JSON types."""


@dataclass(frozen=True)
class RowSource:
    """Chunks of rows of X, with the same rows of y, weights and groups.

    Attributes
    ----------
    X, y, weights, groups : Rows
        All but X may be None.
    chunk_rows, chunk_bytes : (n_chunks,) int64
    sparse : bool
    names : Names
    """

    X: Rows
    y: Rows | None
    weights: Rows | None
    chunk_rows: NDArray[np.int64]
    chunk_bytes: NDArray[np.int64]
    sparse: bool = False
    names: Names = field(default_factory=Names)
    groups: Rows | None = None

    @property
    def n_features(self) -> int:
        return int(self.X.shape[1])

    @property
    def dtype(self) -> np.dtype:
        return self.X.dtype

    @property
    def resident(self) -> bool:
        return self.X.resident

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        start, stop = self._span(chunk)
        return self.block(self.X.read(start, stop, buffer), start, stop)

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        start, stop = self._span(chunk)
        return self.block(_fetch(self.X, start, stop, buffer), start, stop)

    def _span(self, chunk: int) -> tuple[int, int]:
        start = int(self.starts[chunk])
        return start, start + int(self.chunk_rows[chunk])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        return first_rows(self.chunk_rows)

    def block(self, X: Features | Encoded, start: int, stop: int) -> Block:
        """Return rows of X with those that belong to them."""
        y = None if self.y is None else self.y.read(start, stop)
        weights = (
            None
            if self.weights is None
            else real_weights(self.weights.read(start, stop), self.names.weights)
        )
        groups = (
            None
            if self.groups is None
            else group_keys(self.groups.read(start, stop), self.names.groups, start)
        )
        return Block(X, y, weights, start, self.names, groups)

    @cached_property
    def columns(self) -> Columns:
        return columns_of(self.starts, self.y, self.weights, self.groups)

    def share(self, chunks: Sequence[int]) -> "RowShare":
        numbers = np.unique(np.asarray(chunks, np.int64))
        starts = self.starts[numbers]
        stops = starts + self.chunk_rows[numbers]
        nothing = np.zeros(0, np.int64)
        source = replace(
            self,
            X=self.X.only(starts, stops),
            y=None if self.y is None else self.y.only(starts, stops),
            weights=None if self.weights is None else self.weights.only(starts, stops),
            groups=None if self.groups is None else self.groups.only(starts, stops),
            chunk_rows=nothing,
            chunk_bytes=nothing,
        )
        return RowShare(source, numbers, starts, stops)

    def needs(self, chunk: int) -> tuple[Any, ...]:
        return ()

    def smaller_chunks(self, rows: int) -> str:
        X = (
            self.X if rows < self.chunk_rows.max() else None
        )  # large chunks that are read in parts may stay
        parts = (X, self.y, self.weights, self.groups)
        return "\n  ".join(
            filter(None, (part.smaller_chunks(rows) for part in parts if part is not None))
        )

    def describe(self) -> dict[str, Any]:
        parts = {"X": self.X, "y": self.y, "weights": self.weights, "groups": self.groups}
        return {
            "arrays": {name: rows.describe() for name, rows in parts.items() if rows is not None},
            "chunks": len(self.chunk_rows),
        }


@dataclass(frozen=True)
class RowShare:
    """Some chunks of a `RowSource`, and the rows they span.

    Attributes
    ----------
    source : RowSource
    chunks : (n,) int64
        Ascending.
    starts, stops : (n,) int64
    """

    source: RowSource
    chunks: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        start, stop = self._span(chunk)
        return self.source.block(self.source.X.read(start, stop, buffer), start, stop)

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        start, stop = self._span(chunk)
        return self.source.block(_fetch(self.source.X, start, stop, buffer), start, stop)

    def _span(self, chunk: int) -> tuple[int, int]:
        place = int(np.searchsorted(self.chunks, chunk))
        if place == len(self.chunks) or self.chunks[place] != chunk:
            raise KeyError(f"chunk {chunk} is not in this share of {len(self.chunks):,} chunks")
        return int(self.starts[place]), int(self.stops[place])


def _fetch(X: Rows, start: int, stop: int, buffer: Buffer) -> Features | Encoded:
    """Return rows to visit a piece at a time, where X knows of a better way to read those."""
    found: Features | Encoded = getattr(X, "fetch", X.read)(start, stop, buffer)
    return found


def cut(n: int, step: int) -> NDArray[np.int64]:
    """Return the rows of the chunks that ``n`` rows make at ``step`` rows each; the last may be shorter."""
    rows = np.full(-(-n // step), step, np.int64)
    rows[-1] -= rows.sum() - n
    return rows
