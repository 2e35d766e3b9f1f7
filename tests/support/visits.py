"""Visits for tests, from plain functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsoftmax.data.block import Block
from dsoftmax.engines.visit import Footprint, Visit

NOTHING = Footprint()


@dataclass(frozen=True)
class Visiting(Visit):
    """The visit that calls a function on every leaf, and allocates what ``claims`` says."""

    function: Callable[[Block], Mapping[str, Any]]
    claims: Footprint = NOTHING

    def __call__(self, block: Block) -> Mapping[str, Any]:
        return self.function(block)

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        return self.claims
