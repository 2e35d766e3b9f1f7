"""The blocks of a pass, loaded ahead of the threads that compute."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue

import numpy as np

from dsoftmax.data.block import Block, Encoded
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.source import Share
from dsoftmax.engines.kept.memory import Cache, owned
from dsoftmax.engines.plan import Plan
from dsoftmax.engines.retry import RetriedRows, Retries
from dsoftmax.sums.work import Meter


class Slot:
    """A place for a block in flight, with a buffer that many blocks use one after the other."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._buffer: Buffer | None = None

    @property
    def buffer(self) -> Buffer:
        """Buffer of the bytes of the largest X, allocated at its first use."""
        if self._buffer is None:
            self._buffer = np.empty(self.n_bytes, np.uint8)
        return self._buffer


class Feed:
    """The blocks of a pass, handed to the threads that compute.

    Blocks that were loaded ahead come first, so that the disk works while cached blocks are
    visited.

    Parameters
    ----------
    share : Share
    chunks : sequence of int
    plan : Plan
    resident : bool
        Whether all blocks are views of memory, so that nothing is loaded ahead.
    cache : Cache, optional
        Cache of blocks, which takes further blocks up to its budget.
    meter : Meter, optional
        Counts the work.
    spool : Share, optional
        Share of the same blocks that loads those which are not cached in memory.
    whole : bool
        Whether blocks are visited whole and not leaf by leaf, so that none may come encoded.

    Attributes
    ----------
    threads : int
        Number of threads that compute.
    readers : int
        Number of threads that load ahead.
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
        self._fetch = (spool or share).load if whole else (spool or share).fetch
        self._in_memory: deque[int] = deque()
        self._stored: deque[int] = deque()
        for chunk in chunks:  # asked once: other visits may use the cache too
            (self._in_memory if resident or chunk in self.cache else self._stored).append(chunk)
        self.threads = max(min(plan.threads, len(chunks)), 1)
        self.readers = min(plan.readers, len(self._stored))
        self._reading = self.readers
        self._free: SimpleQueue[Slot | None] = SimpleQueue()
        self._ready: SimpleQueue[tuple[Block, Slot] | None] = SimpleQueue()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._retries = Retries(self.meter, self._stopped)
        largest = plan.needs.block
        for _ in range(plan.blocks):
            self._free.put(Slot(largest))
        if not self.readers:
            self._end()

    def read(self) -> None:
        """Load chunks until none is left, on a thread of its own."""
        try:
            while (slot := self._free.get()) is not None and not self._stopped.is_set():
                try:
                    chunk = self._stored.popleft()
                except IndexError:
                    self._free.put(slot)
                    break
                block = self._load(chunk, slot)
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

    def _load(self, chunk: int, slot: Slot) -> Block:
        """Return the block of a chunk: cached if it fits, else in the slot's buffer or encoded."""
        if self.cache.fits(self.plan.needs.block):
            block = owned(self._retries.load(self.share.load, chunk))
            self.cache.add(chunk, block)
            return block
        block = self._retries.load(self._fetch, chunk, slot.buffer)
        if isinstance(block.X, Encoded):
            again = partial(self._retries.load, self._fetch, chunk, slot.buffer)
            block = replace(block, X=RetriedRows(block.X, again, self._retries))
        return block

    def blocks(self) -> Iterator[Block]:
        """Yield blocks to one computing thread; each is valid until the next is asked for."""
        while not self._stopped.is_set():
            found = self._loaded(wait=False)
            if found is None and (chunk := self._next_in_memory()) is not None:
                block = self.cache.get(chunk)
                block = self._retries.load(self.share.load, chunk) if block is None else block
                self.meter.add(block.n_rows, block.nbytes, cached=True)
                yield block
                continue
            if found is None:
                found = self._loaded(wait=True)
                if found is None:
                    return
            block, slot = found
            self.meter.add(block.n_rows, block.nbytes, cached=False)
            yield block
            del block, found
            self._free.put(slot)

    def _next_in_memory(self) -> int | None:
        try:
            return self._in_memory.popleft()
        except IndexError:
            return None

    def _loaded(self, wait: bool) -> tuple[Block, Slot] | None:
        """Return a block that was loaded ahead.

        None means that none is ready, or after a wait that no further block comes.
        """
        try:
            found = self._ready.get(block=wait)
        except Empty:
            return None
        if found is None:
            self._ready.put(None)  # the other threads end too
        return found

    def stop(self) -> None:
        """Let every thread end at its next chunk."""
        self._stopped.set()
        self._end()

    def _end(self) -> None:
        self._ready.put(None)
        for _ in range(self.readers):
            self._free.put(None)
