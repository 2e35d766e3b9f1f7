"""The reference meaning of a pass: one chunk after another, in this thread."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from dsoftmax.data.block import Block
from dsoftmax.data.retries import counting_retries
from dsoftmax.data.source import Source
from dsoftmax.engines.fit import require_fit
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.plan import Plan, needs_of, plan_pass
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Meter, Ongoing
from dsoftmax.system.blas import one_blas_thread


def add_block(
    visit: Callable[[Block], Mapping[str, Any]],
    block: Block,
    totals: Totals,
    lock: AbstractContextManager[Any] | None = None,
) -> None:
    """Visit the leaves of a block and add them to ``totals``; ``lock`` guards shared totals.

    Rows that are skipped are only counted. A leaf without other rows is not visited.
    """
    guard = lock or nullcontext()
    for whole in block.leaves():
        leaf, skipped = whole.counted()
        sums = visit(leaf) if leaf.n_rows or skipped is None else None
        with guard:
            if skipped is not None:
                totals.skip(skipped)
            if sums is not None:
                totals.add(sums, leaf.n_rows, leaf.nbytes)


class SerialEngine:
    """Visit one chunk after another, in this thread."""

    n_threads = 1

    def __init__(self, memory_limit: int | None = None) -> None:
        self.memory_limit = memory_limit
        self._meter, self._rows = Meter(), 0
        self._reserve = 0

    def total(self, visit: Visit, source: Source) -> Totals:
        self.plan(source, visit.footprint(source.n_features, source.sparse))
        totals = Totals()
        self._meter, self._rows = Meter(), int(source.chunk_rows.sum())
        with one_blas_thread():
            for chunk in range(len(source.chunk_rows)):
                with counting_retries(self._meter.retry):
                    block = source.load(chunk)
                self._meter.add(block.n_rows, block.nbytes, source.resident)
                add_block(visit, block, totals)
                del block  # before the next one is loaded
        totals.work[""] = self._meter.done
        return totals

    @property
    def ongoing(self) -> Ongoing:
        return Ongoing(rows=self._rows, working={"": self._meter.done})

    def plan(self, source: Source, work: Footprint | None = None) -> Plan:
        """Return the plan of a pass.

        Raises
        ------
        MemoryLimitError
            One block does not fit.
        """
        needs = needs_of(
            source,
            work or Footprint(),
            1,
            self.memory_limit,
            reserve=self._reserve,
            process=process_bytes(),
        )
        return require_fit(replace(plan_pass(needs), blocks=1, cache=0), source)

    def reserve(self, n_bytes: int) -> None:
        self._reserve = n_bytes

    @property
    def process_limit(self) -> int | None:
        return self.memory_limit

    def describe(self) -> str:
        return "serial: this thread"

    def close(self) -> None:
        pass
