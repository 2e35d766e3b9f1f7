"""A pass on this machine's cores: threads that compute, and as many that load ahead of them into buffers used again."""

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dsoftmax.blocks import Block, Buffer, Encoded, Share, Source, fetcher, pieces_of
from dsoftmax.engine.allocator import giving_back, keep_freed_memory
from dsoftmax.engine.blas import one_blas_thread
from dsoftmax.engine.cache import Cache, owned
from dsoftmax.engine.memory import Plan, needs_of, plan_pass, process_bytes, require_fit, spare_bytes
from dsoftmax.engine.meter import Meter, Ongoing
from dsoftmax.engine.serial import add_block
from dsoftmax.engine.spool import Spool, SpoolTo
from dsoftmax.engine.sums import Totals
from dsoftmax.engine.visit import Footprint, Visit, footprint
from dsoftmax.errors import ReadError
from dsoftmax.softmax import Features

T = TypeVar("T")

LOADS = 3
"""Times that a chunk which cannot be read is tried; storage far away fails now and then."""
PAUSE = 0.1
"""Seconds before the second try; four times as long before each further one."""


class Slot:
    """A place for a block in flight, with a buffer that many blocks use one after the other."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._buffer: Buffer | None = None

    @property
    def buffer(self) -> Buffer:
        """Room for the largest block of X, made when it is first wanted."""
        if self._buffer is None:
            self._buffer = np.empty(self.n_bytes, np.uint8)
        return self._buffer


class Decoding(Encoded):
    """Encoded rows that are fetched again where they cannot be decoded.

    Parameters
    ----------
    rows : Encoded
    again : callable
        Fetches their block.
    pause : callable
        Called with how often it was tried and the error, which it raises when that was often enough.
    """

    def __init__(self, rows: Encoded, again: Callable[[], Block], pause: Callable[[int, ReadError], None]) -> None:
        self.shape, self.dtype = rows.shape, rows.dtype
        self._rows, self._again, self._pause = rows, again, pause

    def pieces(self, n_rows: int) -> Iterator[NDArray]:
        rows: Features | Encoded = self._rows
        done = 0
        for attempt in itertools.count(1):
            try:
                for start, piece in enumerate(pieces_of(rows, n_rows)):
                    if start == done:  # what was visited stays so
                        yield piece
                        done += 1
                return
            except ReadError as error:
                self._pause(attempt, error)
            rows = self._again().X


class Feed:
    """The blocks of a pass, handed to the threads that compute: what was loaded ahead first, else what is in memory.

    Parameters
    ----------
    share : Share
    chunks : sequence of int
    plan : Plan
    resident : bool
        Whether all blocks are in memory anyway, so that nothing is loaded ahead.
    cache : Cache, optional
        Gives the blocks it keeps, and keeps others while it has room.
    meter : Meter, optional
    spool : Share, optional
        Of the same blocks: loads those that are not kept.
    whole : bool
        Whether blocks are not visited leaf by leaf, so that none may come encoded.

    Attributes
    ----------
    threads : int
        That compute.
    readers : int
        Threads that load ahead.
    """

    def __init__(
        self,
        share: Share,
        chunks: Sequence[int],
        plan: Plan,
        resident: bool = False,
        cache: Cache | None = None,
        meter: Meter | None = None,
        spool: Share | None = None,
        whole: bool = False,
    ) -> None:
        self.share, self.plan = share, plan
        self.cache, self.meter = cache or Cache(), meter or Meter()
        self._fetch = (spool or share).load if whole else fetcher(spool or share)
        self._here: deque[int] = deque()
        self._stored: deque[int] = deque()
        for chunk in chunks:  # asked once: the cache may be another's too
            (self._here if resident or chunk in self.cache else self._stored).append(chunk)
        self.threads = max(min(plan.threads, len(chunks)), 1)
        self.readers = min(plan.threads, plan.blocks, len(self._stored))
        self._reading = self.readers
        self._free: SimpleQueue[Slot | None] = SimpleQueue()
        self._ready: SimpleQueue[tuple[Block, Slot] | None] = SimpleQueue()
        self._lock, self._stopped = threading.Lock(), False
        largest = plan.needs.block
        for _ in range(plan.blocks):
            self._free.put(Slot(largest))
        if not self.readers:
            self._end()

    def read(self) -> None:
        """Load chunks until none is left, on a thread of its own."""
        try:
            while (slot := self._free.get()) is not None and not self._stopped:
                try:
                    chunk = self._stored.popleft()
                except IndexError:
                    self._free.put(slot)
                    break
                keep = self.cache.has_room(self.plan.needs.block)
                if keep:
                    block = owned(self._patiently(self.share.load, chunk))
                    self.cache.keep(chunk, block)
                else:
                    block = self._patiently(self._fetch, chunk, slot.buffer)
                    if isinstance(block.X, Encoded):
                        again = partial(self._patiently, self._fetch, chunk, slot.buffer)
                        block = replace(block, X=Decoding(block.X, again, self._pause))
                self._ready.put((block, slot))
                del block
        except BaseException:
            self.stop()
            raise
        with self._lock:
            self._reading -= 1
            last = self._reading == 0
        if last:
            self._end()

    def _patiently(self, load: Callable[..., Block], *what: Any) -> Block:
        for attempt in itertools.count(1):
            try:
                return load(*what)
            except ReadError as error:
                self._pause(attempt, error)
        raise AssertionError("unreachable")

    def _pause(self, attempt: int, error: ReadError) -> None:
        """Wait before a chunk is tried once more, or raise its error: it was tried often enough."""
        if attempt == LOADS or self._stopped:
            raise error
        self.meter.retry()
        time.sleep(PAUSE * 4 ** (attempt - 1))

    def blocks(self) -> Iterator[Block]:
        """Yield blocks to one computing thread; each is good until the next is asked for."""
        while not self._stopped:
            found = self._loaded(wait=False)
            if found is None and (chunk := self._next_here()) is not None:
                block = self.cache.get(chunk)
                block = self._patiently(self.share.load, chunk) if block is None else block
                self.meter.add(block.n_rows, block.nbytes, kept=True)
                yield block
                continue
            if found is None:
                found = self._loaded(wait=True)
                if found is None:
                    return
            block, slot = found
            self.meter.add(block.n_rows, block.nbytes, kept=False)
            yield block
            del block, found
            self._free.put(slot)

    def _next_here(self) -> int | None:
        try:
            return self._here.popleft()
        except IndexError:
            return None

    def _loaded(self, wait: bool) -> tuple[Block, Slot] | None:
        """Return a block that was loaded; None where there is none yet, or none any more when told to wait."""
        try:
            found = self._ready.get(block=wait)
        except Empty:
            return None
        if found is None:
            self._ready.put(None)  # the end is the end for all
        return found

    def stop(self) -> None:
        """Let every thread end at its next chunk."""
        self._stopped = True
        self._end()

    def _end(self) -> None:
        self._ready.put(None)
        for _ in range(self.readers):
            self._free.put(None)


def on_threads(work: Callable[[Iterator[Block]], T], feed: Feed) -> list[T]:
    """Hand the blocks of a feed to ``work`` on its threads and return what each thread's ``work`` returned.

    A block is good until ``work`` asks for the next one. The first error stops all threads at their next chunk and is
    raised; a chunk that cannot be read is tried `LOADS` times. Where one thread is enough, it is the caller's.
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

    with one_blas_thread(), ThreadPoolExecutor(feed.readers + feed.threads, "dsoftmax") as pool:
        try:
            # No name holds a future that fails: its error knows of this frame, and blocks would stay until the collector comes.
            computing = deque(pool.submit(compute) for _ in range(feed.threads))
            reading = deque(pool.submit(feed.read) for _ in range(feed.readers))
            done = []
            while computing:
                done.append(computing.popleft().result())
            while reading:
                reading.popleft().result()
            return done
        except BaseException:  # Ctrl-C too: let the threads end before the interpreter goes on
            feed.stop()
            raise


def visit_all(visit: Visit, feed: Feed) -> Totals:
    """Visit the blocks of a feed on its threads and return their totals.

    A thread that has no block left merges what others have finished, two by two: with large sums and many cores, one thread that
    merged them all would keep the others waiting.
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
            total = total.merge(other) if total.n_leaves else other

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


def available_cores() -> int:
    """Return the cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


class ThreadsEngine:
    """Visit chunks on the threads of this process.

    Parameters
    ----------
    n_threads : int, optional
        The cores this process may run on when None.
    memory_limit : int, optional
        Bytes that this process may use. Fewer threads run where not all their blocks fit; what is left keeps decoded blocks
        from pass to pass. Without a limit, a quarter of the memory that is free keeps blocks.
    spool : SpoolTo, optional
        Where to put decoded blocks that are not kept in memory.

    Attributes
    ----------
    ongoing : Ongoing
        See `dsoftmax.engine.Engine`.
    """

    def __init__(self, n_threads: int | None = None, memory_limit: int | None = None, spool: SpoolTo | None = None) -> None:
        self.n_threads = n_threads or available_cores()
        self.memory_limit, self.spool = memory_limit, spool
        self._spooled: Spool | None = None
        self._meter, self._rows = Meter(), 0
        self._reserve = 0
        self._spare: int | None = None
        self._source: Source | None = None
        self._cache = Cache()

    def total(self, visit: Visit, source: Source) -> Totals:
        plan = self.plan(source, footprint(visit, source))
        if source is not self._source:
            self.close()
            self._source = source
            self._spooled = self.spool.open(source) if self.spool is not None and not source.resident else None
        self._cache.resize(plan.cache)
        self._meter, self._rows = Meter(), int(source.chunk_rows.sum())
        chunks = range(len(source.chunk_rows))
        totals = visit_all(visit, Feed(source, chunks, plan, source.resident, self._cache, self._meter, self._spooled))
        totals.work[""] = self._meter.done
        return totals

    @property
    def ongoing(self) -> Ongoing:
        return Ongoing(rows=self._rows, working={"": self._meter.done})

    def plan(self, source: Source, work: Footprint | None = None) -> Plan:
        """Return how a pass is made, so that it fits in the memory allowed.

        Raises
        ------
        MemoryLimitError
            Not even one thread with one block fits.
        """
        if self._spare is None:
            self._spare = spare_bytes()
        others: dict[str, Any] = {"reserve": self._reserve, "spare": self._spare, "process": process_bytes()}
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
