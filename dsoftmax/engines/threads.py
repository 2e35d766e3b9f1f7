"""A pass on this machine's cores: threads compute, and as many load ahead into reused buffers."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from dsoftmax.data.block import Block
from dsoftmax.data.source import Source
from dsoftmax.engines.feed import Feed
from dsoftmax.engines.fit import require_fit
from dsoftmax.engines.kept.memory import Cache
from dsoftmax.engines.kept.spool import Spool, SpoolTo
from dsoftmax.engines.limits import process_bytes, spare_bytes
from dsoftmax.engines.plan import Plan, needs_of, plan_pass
from dsoftmax.engines.serial import add_block
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Meter, Ongoing
from dsoftmax.system.allocator import giving_back, keep_freed_memory
from dsoftmax.system.blas import one_blas_thread
from dsoftmax.system.interrupts import finished
from dsoftmax.system.process import available_cores

T = TypeVar("T")


def on_threads(work: Callable[[Iterator[Block]], T], feed: Feed) -> list[T]:
    """Hand the blocks of a feed to ``work`` on its threads, and return the result of each thread.

    A block is valid until ``work`` asks for the next one. The first error stops all threads at
    their next chunk and is raised. A feed with one thread and no readers runs on the caller's.
    """
    keep_freed_memory()
    if feed.readers + feed.threads == 1:
        with one_blas_thread():
            return [work(feed.blocks())]

    def compute() -> T:
        try:
            return work(feed.blocks())
        except BaseException:
            feed.stop()
            raise

    def run() -> list[T]:
        with ThreadPoolExecutor(feed.readers + feed.threads, "dsoftmax") as pool:
            try:
                # No name refers to a future that fails. Its error refers to this frame, so that
                # blocks would stay in memory until the garbage collector runs.
                computing = deque(pool.submit(compute) for _ in range(feed.threads))
                reading = deque(pool.submit(feed.read) for _ in range(feed.readers))
                done = []
                while computing:
                    done.append(computing.popleft().result())
                while reading:
                    reading.popleft().result()
                return done
            except BaseException:
                feed.stop()
                raise

    with one_blas_thread():
        return finished(run, feed.stop)


def visit_all(visit: Callable[[Block], Mapping[str, Any]], feed: Feed) -> Totals:
    """Visit the blocks of a feed on its threads and return their totals.

    A thread without further blocks merges finished totals, two at a time. One thread that merged
    large sums of many cores would let the other threads wait.
    """
    totals = [Totals() for _ in range(min(feed.plan.totals, feed.threads))]
    locks = [threading.Lock() for _ in totals]
    numbers = iter(range(feed.threads))
    adding = [len(range(i, feed.threads, len(totals))) for i in range(len(totals))]
    done: list[Totals] = []
    merging = threading.Lock()

    def merge(total: Totals) -> None:
        while True:
            with merging:
                if not done:
                    done.append(total)
                    return
                other = done.pop()
            total = total.merge(other) if total.n_leaves else other.merge(total)

    def work(blocks: Iterator[Block]) -> None:
        mine = next(numbers) % len(totals)
        for block in blocks:
            add_block(visit, block, totals[mine], locks[mine])
            del block
        with locks[mine]:
            adding[mine] -= 1
            last = not adding[mine]
        if last:
            merge(totals[mine])

    on_threads(work, feed)
    (total,) = done
    return total


class ThreadsEngine:
    """Visit chunks on the threads of this process.

    Parameters
    ----------
    n_threads : int, optional
        Number of threads that compute; one for each core that this process may run on when None.
    memory_limit : int, optional
        Bytes that this process may use. Fewer threads run if their blocks do not all fit. The rest
        of the bytes caches decoded blocks between passes. Without a limit, a quarter of the free
        memory caches blocks.
    spool : SpoolTo, optional
        Directory and limit of the spool for decoded blocks that are not cached in memory.

    Attributes
    ----------
    ongoing : Ongoing
        See `dsoftmax.engines.base.Engine`.
    """

    def __init__(
        self,
        n_threads: int | None = None,
        memory_limit: int | None = None,
        spool: SpoolTo | None = None,
    ) -> None:
        self.n_threads = n_threads or available_cores()
        self.memory_limit, self.spool = memory_limit, spool
        self._spooled: Spool | None = None
        self._meter, self._rows = Meter(), 0
        self._reserve = 0
        self._spare: int | None = None
        self._source: Source | None = None
        self._cache = Cache()

    def total(self, visit: Visit, source: Source) -> Totals:
        plan = self.plan(source, visit.footprint(source.n_features, source.sparse))
        if source is not self._source:
            self.close()
            self._source = source
            self._spooled = (
                self.spool.open(source) if self.spool is not None and not source.resident else None
            )
        self._cache.resize(plan.cache)
        self._meter, self._rows = Meter(), int(source.chunk_rows.sum())
        chunks = range(len(source.chunk_rows))
        totals = visit_all(
            visit,
            Feed(source, chunks, plan, source.resident, self._cache, self._meter, self._spooled),
        )
        totals.work[""] = self._meter.done
        return totals

    @property
    def ongoing(self) -> Ongoing:
        return Ongoing(rows=self._rows, working={"": self._meter.done})

    def plan(self, source: Source, work: Footprint | None = None) -> Plan:
        """Return the plan of a pass, which fits in the memory allowed.

        Raises
        ------
        MemoryLimitError
            Not even one thread with one block fits.
        """
        if self._spare is None:
            self._spare = spare_bytes()
        others: dict[str, Any] = {
            "reserve": self._reserve,
            "spare": self._spare,
            "process": process_bytes(),
        }
        needs = needs_of(source, work or Footprint(), self.n_threads, self.memory_limit, **others)
        return require_fit(plan_pass(needs), source)

    def reserve(self, n_bytes: int) -> None:
        self._reserve = n_bytes

    @property
    def process_limit(self) -> int | None:
        return self.memory_limit

    def describe(self) -> str:
        return f"threads: {self.n_threads} in this process"

    def close(self) -> None:
        with giving_back():
            self._source, self._cache = None, Cache()
            if self._spooled is not None:
                self._spooled.close()
            self._spooled = None
