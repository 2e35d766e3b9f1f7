"""Work on a worker: its share of the chunks, its cached blocks, and its visits to pieces.

Tasks may run twice and on any worker. What a worker stores between tasks makes them faster and
changes nothing else.
"""

import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Worker, get_worker
from numpy.typing import NDArray

from dsoftmax.compat.distributed import is_wanted, memory_of, shares_process, threads_of
from dsoftmax.data.block import Block
from dsoftmax.data.source import Share
from dsoftmax.engines.cluster.reports import reporter
from dsoftmax.engines.feed import Feed
from dsoftmax.engines.kept.memory import Cache
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.limits import PROCESS_BYTES, planned_part, process_bytes, spare_bytes
from dsoftmax.engines.plan import (
    Needs,
    Plan,
    plan_pass,
)
from dsoftmax.engines.threads import visit_all
from dsoftmax.engines.visit import Visit
from dsoftmax.errors import MemoryLimitError
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Meter


@dataclass(frozen=True)
class BoundShare:
    """A share and its chunks, bound to the data that are stored on the cluster; picklable."""

    share: Share
    chunks: NDArray[np.int64]


class CachedShare:
    """A share on the worker that owns it, with the worker's cache and spool.

    It is pickled as a `BoundShare`.
    """

    def __init__(self, bound: BoundShare, source: str, spool: SpoolTo | None) -> None:
        self.bound = bound
        self.spool = None if spool is None else spool.open(bound.share)
        self.cache = home().cache(source)
        self.cache.retain(bound.chunks)

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundShare, (self.bound.share, self.bound.chunks)


@dataclass(frozen=True)
class VisitTask:
    """What a worker must know of a piece to plan its visit.

    Attributes
    ----------
    start, stop : int
        Range in the chunks of the share.
    needs : Needs
        Needs of the whole share. The worker fills in its own memory limit, cores and process.
    resident : bool
        Whether the blocks are views of memory.
    neighbours : int
        Number of workers on the same host, this one included.
    run : str
        Name of the engine's run.
    number : int
        Number of the pass in the run.
    """

    start: int
    stop: int
    needs: Needs
    resident: bool
    neighbours: int
    run: str
    number: int


class Home:
    """State that this package has in one worker, apart from dask's.

    Attributes
    ----------
    busy : Lock
        Locked by the visit that runs: one visit at a time uses the memory and the threads of
        the worker.
    process : int
        Bytes of the process before the first visit.
    spare : int
        Bytes of this machine that may cache blocks, as measured before the first visit.
    caches : weak dict from str to Cache
        Caches by source. They live as long as a `CachedShare` uses them.
    """

    def __init__(self, worker: Worker) -> None:
        self.busy = threading.Lock()
        self.process = PROCESS_BYTES if shares_process(worker) else process_bytes()
        self.spare = spare_bytes()
        self.caches: weakref.WeakValueDictionary[str, Cache] = weakref.WeakValueDictionary()

    def cache(self, source: str) -> Cache:
        """Return the cache of a source, which all its shares on this worker use."""
        with _homes_lock:  # shares arrive on any thread
            return self.caches.setdefault(source, Cache())


_homes: weakref.WeakKeyDictionary[Worker, Home] = weakref.WeakKeyDictionary()
_homes_lock = threading.Lock()


def home() -> Home:
    """Return the home of the worker that runs this task."""
    worker = get_worker()
    with _homes_lock:
        if worker not in _homes:
            _homes[worker] = Home(worker)
        return _homes[worker]


def bind_share(
    share: Share, chunks: NDArray[np.int64], stored: Sequence[Sequence[Any]]
) -> BoundShare:
    """Bind a share to the data of its chunks that are stored on the cluster, if there are any."""
    if stored:
        share = share.bind(dict(zip(chunks.tolist(), stored, strict=True)))
    return BoundShare(share, chunks)


def cache_share(
    bound: BoundShare, source: str, owner: str, spool: SpoolTo | None = None
) -> CachedShare | BoundShare:
    """Let the worker with this name cache the blocks of its share.

    Dask asks another worker if the owner is lost. That worker caches its own share only.
    """
    return CachedShare(bound, source, spool) if str(get_worker().name) == owner else bound


def visit_lent(
    visit: Visit,
    share: Share,
    chunks: NDArray[np.int64],
    stored: Sequence[Sequence[Any]],
    task: VisitTask,
) -> Totals:
    """Visit a piece of another worker's share.

    All data come with the task, because the owner may not answer any more.
    """
    return visit_piece(visit, bind_share(share, chunks, stored), task)


def visit_piece(visit: Visit, whose: CachedShare | BoundShare, task: VisitTask) -> Totals:
    """Visit a piece of a share on all threads of this worker, within its memory limit.

    Raises
    ------
    MemoryLimitError
        Not even one thread with one block fits.
    CancelledError
        Nobody waits for this task any more.
    """
    worker, here, request = get_worker(), home(), CurrentTask()
    if isinstance(whose, CachedShare):
        bound, cache, spool, total = whose.bound, whose.cache, whose.spool, task.needs.total
    else:
        bound, cache, spool, total = whose, Cache(), None, 0
    with here.busy:
        request.check()  # other visits may have taken long
        needs = replace(
            task.needs,
            allowed=allowed_bytes(worker),
            cores=threads_of(worker),
            total=total,
            spare=here.spare // task.neighbours,
        )
        plan = _planned(needs, here, cache, str(worker.name))
        cache.resize(plan.cache)
        meter = Meter()

        def visit_wanted(block: Block) -> Mapping[str, Any]:
            request.check()
            return visit(block)

        with reporter.reporting(worker, task.run, task.number, meter):
            chunks = bound.chunks[task.start : task.stop].tolist()
            feed = Feed(bound.share, chunks, plan, task.resident, cache, meter, spool)
            totals = visit_all(visit_wanted, feed)
    totals.work[str(worker.name)] = meter.done
    return totals


def _planned(needs: Needs, here: Home, cache: Cache, name: str) -> Plan:
    """Return the plan of a visit, and evict the blocks of other sources if it does not fit."""
    others = [one for one in here.caches.values() if one is not cache]
    plan = plan_pass(replace(needs, process=here.process + sum(one.n_bytes for one in others)))
    if not plan.fits:
        for one in others:
            one.resize(0)
        plan = plan_pass(replace(needs, process=here.process))
    if not plan.fits:
        assert needs.allowed is not None
        raise MemoryLimitError(
            f"The worker {name} may use {needs.allowed / 2**20:,.0f} MiB of its memory limit, "
            f"and its process takes {here.process / 2**20:,.0f} MiB of them. A pass needs at "
            f"least {plan.projected / 2**20:,.0f} MiB. Start the worker with more (`dask worker "
            "--memory-limit`), or store X in chunks of fewer rows."
        )
    return plan


class CurrentTask:
    """The task that runs on this thread.

    Dask cannot stop a function that runs. A task whose answer no longer counts would delay the
    tasks that do count: its piece was done by another worker, or its pass was given up.
    """

    def __init__(self) -> None:
        self._worker = get_worker()
        self._key = self._worker.get_current_task()

    def check(self) -> None:
        """Raise CancelledError unless somebody waits for the task. Any thread may call this."""
        if not is_wanted(self._worker, self._key):
            raise CancelledError(f"Nobody waits for {self._key} any more.")


def allowed_bytes(worker: Worker) -> int | None:
    """Return the bytes that a worker may use before dask spills, pauses or kills it."""
    limit, fractions = memory_of(worker)
    return None if limit is None else planned_part(limit, *fractions)


def merge(parts: Sequence[Totals], last: bool) -> Totals:
    """Add totals, which stay as they are. The ``last`` sums of a pass are rounded."""
    first, *others = parts
    total = Totals().merge(first) if others else first
    for other in others:
        total.merge(other)
    return total.rounded() if last else total
