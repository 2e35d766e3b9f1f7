"""What an engine calls on every leaf, and what memory that takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsoftmax.data.block import Block
from dsoftmax.data.source import Source

Visit = Callable[[Block], Mapping[str, Any]]
"""A picklable pure function of a leaf that returns its sums (see `dsoftmax.sums.totals`).

A visit may have a method ``footprint(n_features, sparse)`` that returns its `Footprint`; one without is taken to need nothing.
"""


@dataclass(frozen=True)
class Footprint:
    """What a visit takes beside the rows.

    Attributes
    ----------
    sums : int
        Entries (float64) of what it returns for a leaf.
    scratch : int
        Bytes of each thread while it works on a leaf, beside the sums of the leaf.
    code : int
        Bytes of a process for code that is compiled or loaded for this visit.
    rows : int
        Bytes of rows that the totals of the whole pass hold.
    """

    sums: int = 0
    scratch: int = 0
    code: int = 0
    rows: int = 0


def footprint(visit: Visit, source: Source) -> Footprint:
    """Return what a visit says that it takes."""
    say = getattr(visit, "footprint", None)
    return Footprint() if say is None else say(source.n_features, source.sparse)
