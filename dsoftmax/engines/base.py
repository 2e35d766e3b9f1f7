"""Ways to visit chunks and add what the visits say; no softmax in here.

An engine has one method that matters, ``total(visit, source)``: call ``visit`` on every leaf of every chunk and return the
added `Totals`. All engines return the same bits, because the leaves are cut by the source and added without order.
"""

from typing import Protocol, runtime_checkable

from dsoftmax.data.source import Source
from dsoftmax.engines.visit import Visit
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Ongoing


@runtime_checkable
class Engine(Protocol):
    """A way to visit all chunks.

    Attributes
    ----------
    n_threads : int
        Cores that compute, over all workers.
    process_limit : int or None
        Bytes that each process which computes may take; None for no limit.
    ongoing : Ongoing
        The pass that runs now, or the last, for those who watch from another thread.
    """

    @property
    def n_threads(self) -> int: ...
    @property
    def process_limit(self) -> int | None: ...
    @property
    def ongoing(self) -> Ongoing: ...

    def total(self, visit: Visit, source: Source) -> Totals:
        """Visit every chunk once and return the added sums."""

    def reserve(self, n_bytes: int) -> None:
        """Say what the caller holds in this process (bytes): what is planned here leaves so much alone."""

    def describe(self) -> str:
        """Return one line for people."""

    def close(self) -> None:
        """Give back what the engine holds on workers."""
