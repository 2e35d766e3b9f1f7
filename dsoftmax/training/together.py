"""Several trainings over the same rows of X, each with labels of its own, in shared passes.

Every pass reads and decodes X once, and makes the visits of all trainings that have not ended. A
training asks for the same visits, and gets the same sums, as alone. So its result has the same
bits. The number of passes is that of the slowest training.
"""

import copy
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from dsoftmax.data.block import Block
from dsoftmax.data.several import with_labels
from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Ongoing
from dsoftmax.training.passes import Passes
from dsoftmax.training.result import Result


@dataclass(frozen=True)
class Of:
    """Key of a sum of one of several visits."""

    number: int
    key: Any


@dataclass(frozen=True)
class Visits(Visit):
    """Several visits to each leaf, each with a label column of its own.

    Attributes
    ----------
    visits : tuple of (int, str, Visit)
        Number and name of the label column, and its visit.
    """

    visits: tuple[tuple[int, str, Visit], ...]

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return the memory of all visits: sums add up, and scratch is needed in turn."""
        all_of = [visit.footprint(n_features, sparse) for _, _, visit in self.visits]
        return Footprint(
            sum(one.sums for one in all_of),
            max(one.scratch for one in all_of),
            max(one.code for one in all_of),
            sum(one.rows for one in all_of),
        )

    def __call__(self, block: Block) -> dict[Any, Any]:
        """Return the sums of all visits, by `Of`."""
        found: dict[Any, Any] = {}
        for number, name, visit in self.visits:
            leaf = visit(with_labels(block, number, name))
            found |= {Of(number, key): part for key, part in leaf.items()}
        return found


class Sharing:
    """An engine as one of several trainings sees it: the memory that they reserve adds up.

    Parameters
    ----------
    engine : Engine
    reserved : dict
        Bytes that each training has reserved, by its number.
    number : int
        Number of the training.
    """

    def __init__(self, engine: Engine, reserved: dict[int, int], number: int) -> None:
        self._engine, self._reserved, self._number = engine, reserved, number

    @property
    def n_threads(self) -> int:
        return self._engine.n_threads

    @property
    def process_limit(self) -> int | None:
        return self._engine.process_limit

    @property
    def ongoing(self) -> Ongoing:
        return self._engine.ongoing

    def total(self, visit: Visit, source: Source) -> Totals:
        return self._engine.total(visit, source)

    def reserve(self, n_bytes: int) -> None:
        self._reserved[self._number] = n_bytes
        self._engine.reserve(sum(self._reserved.values()))

    def describe(self) -> str:
        return self._engine.describe()

    def close(self) -> None:
        pass


def driven_together(
    trainings: Mapping[str, Passes[Result]], source: Source, engine: Engine
) -> dict[str, Result]:
    """Make the passes of several trainings, and return their results by name.

    Parameters
    ----------
    trainings : mapping from str to Passes
        By the name of the label column in messages, in the order of the columns. Each was made
        with a source of X and its own labels.
    source : Source
        The same X with all label columns, see `dsoftmax.data.several`.
    engine : Engine
    """
    results: dict[str, Result] = {}
    asked: dict[str, Visit] = {}
    numbers = {name: number for number, name in enumerate(trainings)}
    with ExitStack() as stack:
        for passes in trainings.values():
            stack.enter_context(closing(passes))

        def step(name: str, totals: Totals | None) -> None:
            passes = trainings[name]
            asked.pop(name, None)
            try:
                asked[name] = next(passes) if totals is None else passes.send(totals)
            except StopIteration as end:
                results[name] = end.value

        for name in trainings:
            step(name, None)
        while asked:
            visits = tuple((numbers[name], name, asked[name]) for name in numbers if name in asked)
            totals = engine.total(Visits(visits), source)
            for number, name, _ in visits:
                step(name, _part(totals, number, number > visits[0][0]))
    return {name: results[name] for name in trainings}


def _part(totals: Totals, number: int, reported: bool) -> Totals:
    """Return the totals of one visit; rows, bytes and work are those of the shared pass."""
    found = copy.copy(totals)
    found.reported = reported
    found.parts = {one.key: part for one, part in totals.parts.items() if one.number == number}
    return found
