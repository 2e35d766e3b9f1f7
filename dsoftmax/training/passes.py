"""Training as a generator: it yields the visit of each pass, and is sent the totals.

So one training may be driven alone, or several over the same rows together: see
`dsoftmax.training.together`.
"""

from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.engines.visit import Visit
from dsoftmax.sums.totals import Totals

T = TypeVar("T")

Passes = Generator[Visit, Totals, T]
"""Yields a visit to all chunks, takes its totals, and returns a result."""


def driven(passes: Passes[T], source: Source, engine: Engine) -> T:
    """Make all passes over a source, and return the result."""
    with closing(passes):
        try:
            visit = next(passes)
            while True:
                visit = passes.send(engine.total(visit, source))
        except StopIteration as end:
            result: T = end.value
            return result
