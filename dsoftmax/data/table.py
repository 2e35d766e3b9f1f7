"""A table: features X, columns beside them, their names, and how to read them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from dsoftmax.data.missing import NOTHING, Missing
from dsoftmax.errors import unknown_option

T = TypeVar("T", covariant=True)
S = TypeVar("S")

MISSING_CHUNKS = ("error", "fill")
"""Meanings of a stored chunk that is absent from its store: a loss, or the fill value."""
COLUMNS = ("y", "weights", "groups", "skipped")
"""Attributes of a table that are columns."""


@dataclass(frozen=True)
class Names:
    """Names of the arrays in messages: the paths or variables that their owner knows."""

    X: str = "X"
    y: str = "y"
    weights: str = "sample_weight"
    groups: str = "groups"
    skipped: str = "skipped"


DEFAULT_NAMES = Names()
"""Names of arrays whose owner passes none."""


@dataclass(frozen=True)
class Table(Generic[T]):
    """X and its columns, all of one kind.

    The kind is an array, a reader of rows, a shape, a dtype, or a key of a graph.

    Attributes
    ----------
    X : T
    y, weights, groups : T or None
        None if the table has no such column.
    skipped : T or None
        Code of the reason why each row is skipped, uint8, as far as it is known before rows are
        read: see `dsoftmax.data.missing`. None if no row is known to be skipped.
    names : Names
    missing_chunks : {"error", "fill"}
        Meaning of a stored Zarr chunk that is absent from its store.
    missing : Missing
        Values that skip a row, for arrays that are not searched yet.

    Raises
    ------
    OptionError
        ``missing_chunks`` is unknown.
    """

    X: T
    y: T | None = None
    weights: T | None = None
    groups: T | None = None
    names: Names = DEFAULT_NAMES
    missing_chunks: str = "error"
    missing: Missing = NOTHING
    skipped: T | None = None

    def __post_init__(self) -> None:
        if self.missing_chunks not in MISSING_CHUNKS:
            raise unknown_option("missing_chunks", self.missing_chunks, MISSING_CHUNKS)

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield the attribute's name and the value of X and of each present column."""
        yield "X", self.X
        yield from self.columns()

    def columns(self) -> Iterator[tuple[str, T]]:
        """Yield the attribute's name and the value of each present column."""
        for part in COLUMNS:
            if (value := getattr(self, part)) is not None:
                yield part, value

    def named(self) -> Iterator[tuple[str, T]]:
        """Yield the name in messages and the value of X and of each present column."""
        for part, value in self.items():
            yield getattr(self.names, part), value

    def map(self, function: Callable[[T, str], S]) -> "Table[S]":
        """Return the table of ``function(value, name)``; absent columns stay absent."""
        return self.map_columns(function, function(self.X, self.names.X))

    def map_columns(self, function: Callable[[T, str], S], X: S) -> "Table[S]":
        """Return the table of ``X`` and of ``function(value, name)`` for each present column."""
        found: dict[str, Any] = {
            part: function(value, getattr(self.names, part)) for part, value in self.columns()
        }
        none: dict[str, Any] = dict.fromkeys(COLUMNS)
        changed: Table[Any] = replace(self, X=X, **none | found)  # type: ignore[arg-type]
        return changed
