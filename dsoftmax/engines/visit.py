"""The function that an engine calls on every leaf, and the memory that it allocates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dsoftmax.data.block import Block


@dataclass(frozen=True)
class Footprint:
    """Memory that a visit allocates in addition to the rows.

    Attributes
    ----------
    sums : int
        Number of float64 entries that it returns for a leaf.
    scratch : int
        Bytes of each thread while it works on a leaf, without the sums of the leaf.
    code : int
        Bytes of a process for code that is compiled or loaded for this visit.
    rows : int
        Bytes of the rows of data in the totals of the whole pass.
    """

    sums: int = 0
    scratch: int = 0
    code: int = 0
    rows: int = 0


class Visit(Protocol):
    """A picklable pure function of a leaf that returns its sums (see `dsoftmax.sums.totals`)."""

    def __call__(self, block: Block) -> Mapping[Any, Any]:
        """Return the sums of one leaf, by key."""

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return the memory that the visit allocates for a leaf with ``n_features`` columns."""
        return Footprint()
