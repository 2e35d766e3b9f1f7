"""What happens on a worker: its share of the chunks, the blocks it keeps from pass to pass, and a visit to a piece of them."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Worker, get_worker
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.source import Share
from dsoftmax.engines.feed import Feed
from dsoftmax.engines.kept.memory import Cache
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.plan import (
    PROCESS_BYTES,
    Needs,
    plan_pass,
    planned_part,
    process_bytes,
    spare_bytes,
)
from dsoftmax.engines.threads import visit_all
from dsoftmax.engines.visit import Visit
from dsoftmax.errors import MemoryLimitError
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Meter

TICK = 0.5
"""Seconds between two reports of a visit to whoever watches."""
TOPIC = "dsoftmax"
"""Of all reports of all runs: the scheduler keeps the last events of every topic for as long as it lives."""


@dataclass(frozen=True)
class Taken:
    """A share and its chunks, bound to what lives on the cluster; picklable."""

    share: Share
    chunks: NDArray[np.int64]


class Home:
    """What this package holds in one worker, beside what dask knows of.

    Attributes
    ----------
    busy : Lock
        Held by the visit that runs: one at a time has the memory and the threads of the worker.
    process : int
        Bytes of the process before the first visit.
    spare : int
        Bytes of this machine that may keep blocks, then.
    caches : weak dict from str to Cache
        By the source of a run; they live as long as the `Kept` that use them.
    """

    def __init__(self, worker: Worker) -> None:
        self.busy = threading.Lock()
        shared = worker.address.startswith(
            "inproc"
        )  # the process of the driver and of other workers
        self.process = PROCESS_BYTES if shared else process_bytes()
        self.spare = spare_bytes()
        self.caches: weakref.WeakValueDictionary[str, Cache] = weakref.WeakValueDictionary()

    def cache(self, holding: str) -> Cache:
        """Return the cache of a source of a run, whose shares of before and after a new plan have the same."""
        with _homes_lock:  # shares arrive on any thread
            return self.caches.setdefault(holding, Cache())


_homes: weakref.WeakKeyDictionary[Worker, Home] = weakref.WeakKeyDictionary()
_homes_lock = threading.Lock()


def home() -> Home:
    """Return the home of the worker that runs this task."""
    worker = get_worker()
    with _homes_lock:
        if worker not in _homes:
            _homes[worker] = Home(worker)
        return _homes[worker]


class Kept:
    """A share on the worker that keeps its blocks. What arrives on another worker is the share alone."""

    def __init__(self, taken: Taken, holding: str, spool: SpoolTo | None) -> None:
        self.taken = taken
        self.spool = None if spool is None else spool.open(taken.share)
        self.cache = home().cache(holding)
        self.cache.retain(taken.chunks)

    def __reduce__(self) -> tuple[Any, ...]:
        return Taken, (self.taken.share, self.taken.chunks)


@dataclass(frozen=True)
class Piece:
    """A run of a share's chunks, and what the worker must know to plan for it.

    Attributes
    ----------
    start, stop : int
        Places in the chunks of the share.
    needs : Needs
        Of the whole share; limit, cores and process are the worker's own.
    resident : bool
    neighbours : int
        Workers on the same host, this one included.
    run : str
    number : int
        Of the run's passes, for those who watch.
    """

    start: int
    stop: int
    needs: Needs
    resident: bool
    neighbours: int
    run: str
    number: int


def take_share(share: Share, chunks: NDArray[np.int64], held: Sequence[Sequence[Any]]) -> Taken:
    """Bind a share to the blocks that live on the cluster, where there are any."""
    if held:
        share = share.bind(dict(zip(chunks.tolist(), held, strict=True)))  # type: ignore[attr-defined]
    return Taken(share, chunks)


def keep(taken: Taken, holding: str, owner: str, spool: SpoolTo | None = None) -> Kept | Taken:
    """Let the worker of this name keep the blocks of its share; another one, which dask asks when the owner is lost, has its own."""
    return Kept(taken, holding, spool) if str(get_worker().name) == owner else taken


def visit_lent(
    visit: Visit,
    share: Share,
    chunks: NDArray[np.int64],
    held: Sequence[Sequence[Any]],
    piece: Piece,
) -> Totals:
    """Visit a piece of another worker's share. All that is needed comes along: that worker may not answer any more."""
    return visit_piece(visit, take_share(share, chunks, held), piece)


def visit_piece(visit: Visit, whose: Kept | Taken, piece: Piece) -> Totals:
    """Visit a piece of a share on all threads of this worker, within its memory limit.

    Raises
    ------
    MemoryLimitError
    """
    worker, here, wanted = get_worker(), home(), Wanted()
    if isinstance(whose, Kept):
        taken, cache, spool, keepable = whose.taken, whose.cache, whose.spool, piece.needs.total
    else:
        taken, cache, spool, keepable = whose, Cache(), None, 0
    with here.busy:
        wanted.check()  # waiting for others may have taken long
        needs = replace(
            piece.needs,
            allowed=allowed_bytes(worker),
            cores=worker.state.nthreads,
            total=keepable,
            spare=here.spare // piece.neighbours,
        )
        others = [one for one in here.caches.values() if one is not cache]
        plan = plan_pass(replace(needs, process=here.process + sum(one.n_bytes for one in others)))
        if not plan.fits:
            for one in others:
                one.resize(0)
            plan = plan_pass(replace(needs, process=here.process))
        if not plan.fits:
            assert plan.needs.allowed is not None
            raise MemoryLimitError(
                f"The worker {worker.name} may plan with {plan.needs.allowed / 2**20:,.0f} MiB of its memory limit and takes "
                f"{plan.needs.process / 2**20:,.0f} MiB already; the least that a pass takes is {plan.projected / 2**20:,.0f} MiB. "
                "Start it with more (`dask worker --memory-limit`), or store X in chunks of fewer rows."
            )
        cache.resize(plan.cache)
        meter = Meter()

        def visit_wanted(block: Block) -> Mapping[str, Any]:
            wanted.check()
            return visit(block)

        with _reporter.reporting(worker, piece, meter):
            chunks = taken.chunks[piece.start : piece.stop].tolist()
            totals = visit_all(
                visit_wanted, Feed(taken.share, chunks, plan, piece.resident, cache, meter, spool)
            )
    totals.work[str(worker.name)] = meter.done
    return totals


class Wanted:
    """Whether anybody still waits for the task that runs on this thread.

    Dask cannot stop a function that runs. A piece that another worker was faster with, or whose pass was given up, would keep
    the worker from what is asked of it now.
    """

    def __init__(self) -> None:
        self._worker = get_worker()
        self._key = self._worker.get_current_task()

    def check(self) -> None:
        """Raise CancelledError unless somebody does; any thread may ask."""
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled":
            raise CancelledError(f"Nobody waits for {self._key} any more.")


def allowed_bytes(worker: Worker) -> int | None:
    """Return what of its memory limit a worker may plan with: less than where dask spills, pauses or is killed."""
    manager: Any = worker.memory_manager
    if not manager.memory_limit:
        return None
    return planned_part(
        manager.memory_limit, manager.memory_spill_fraction, manager.memory_pause_fraction
    )


class Reporter:
    """Tells the watchers every `TICK` seconds what the visits of this process have done, on one thread for all of them."""

    def __init__(self) -> None:
        self._visits: dict[int, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def reporting(self, worker: Worker, piece: Piece, meter: Meter) -> Iterator[None]:
        """Report for the time of a visit; no report comes after the piece itself."""
        told = {
            "run": piece.run,
            "pass": piece.number,
            "name": str(worker.name),
        }  # dask adds the address as "worker"

        def report() -> None:
            with suppress(Exception):  # a worker that closes has nobody to tell
                worker.log_event(TOPIC, {**told, "done": vars(meter.done)})

        with self._changed:
            self._visits[id(meter)] = report
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="dsoftmax-report", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._visits[id(meter)]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._visits)
            time.sleep(TICK)
            with self._changed:
                for report in self._visits.values():
                    report()


_reporter = Reporter()


def merge(parts: Sequence[Totals], last: bool) -> Totals:
    """Add totals, which stay as they are; the ``last`` sums of a pass are rounded."""
    first, *others = parts
    total = Totals().merge(first) if others else first
    for other in others:
        total.merge(other)
    return total.rounded() if last else total
