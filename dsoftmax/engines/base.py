"""The contract of an engine: a way to visit all chunks and add the sums of the visits.

An engine has one method that matters, ``total(visit, source)``. It calls ``visit`` on every leaf of
every chunk and returns the added `Totals`. All engines return the same bits, because the source
cuts the leaves and their sums are added without order. No engine knows of softmax.
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
        Bytes that each computing process may use; None for no limit.
    ongoing : Ongoing
        The pass that runs now, or the last one, for watchers on other threads.
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
        """Reserve the bytes that the caller allocates in this process: plans leave them alone."""

    def describe(self) -> str:
        """Return one line for people."""

    def close(self) -> None:
        """Release the memory and the files that the engine has on workers and in this process."""
