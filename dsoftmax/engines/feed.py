"""The blocks of a pass, loaded ahead of the threads that compute."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Encoded, slices_of
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.features import Features
from dsoftmax.data.source import Share
from dsoftmax.engines.kept.memory import Cache, owned
from dsoftmax.engines.plan import Plan
from dsoftmax.errors import ReadError
from dsoftmax.sums.work import Meter

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

    def __init__(
        self, rows: Encoded, again: Callable[[], Block], pause: Callable[[int, ReadError], None]
    ) -> None:
        self.shape, self.dtype = rows.shape, rows.dtype
        self._rows, self._again, self._pause = rows, again, pause

    def slices(self, n_rows: int) -> Iterator[NDArray]:
        rows: Features | Encoded = self._rows
        done = 0
        for attempt in itertools.count(1):
            try:
                for start, piece in enumerate(slices_of(rows, n_rows)):
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
        self._fetch = (spool or share).load if whole else (spool or share).fetch
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
