"""A pass on a dask cluster: a few tasks per worker, the partial sums added on the cluster in a tree.

What the scheduler sees in a pass does not depend on the number of chunks: up to four tasks per worker, merges where there are
many partial sums, and at most one task that holds the point. A worker is given its share of the chunks once, as the result of
a submitted task, so that dask can recompute it when a worker dies; tasks may run twice, and what a worker keeps between them
(`dsoftmax.engines.cluster.worker`) makes them faster and nothing else.

A share that takes long is cut into pieces, of which a worker is asked for two at first and for one whenever one comes back. A
worker that has finished its own takes the last piece of the one that is furthest behind; a piece that does not come back is
given to an idle worker as well, and the first answer counts. Such pieces need nothing of the worker they were meant for, which
may not answer any more. Sums are exact, so none of this changes a bit.
"""

import itertools
import time
import uuid
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Client, Future, default_client, get_worker, wait
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError
from distributed.protocol import (
    pickle,  # falls back to cloudpickle, as dask does for everything else
)
from distributed.scheduler import KilledWorker
from numpy.typing import NDArray

from dsoftmax import __version__
from dsoftmax.data.source import Source
from dsoftmax.engines.cluster.shares import assign
from dsoftmax.engines.cluster.worker import (
    TOPIC,
    Piece,
    keep,
    merge,
    take_share,
    visit_lent,
    visit_piece,
)
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.plan import (
    Needs,
    keepable_bytes,
    needs_of,
    plan_pass,
    planned_part,
    process_bytes,
    require_fit,
    units_bytes,
)
from dsoftmax.engines.visit import Footprint, Visit, footprint
from dsoftmax.errors import ClusterError, DsoftmaxError, MemoryLimitError, OptionError
from dsoftmax.sums.exact import ENTRY_BYTES
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Done, Ongoing

FAN_IN = 8
INLINE_BYTES = 32 * 1024
"""A visit that pickles to more travels as the result of a task of its own, from worker to worker."""
DIRECT_BYTES = 64 * 2**20
"""Partial sums up to so much together are added by the driver, larger ones on the workers."""
ATTEMPTS = 5
LOST = (KilledWorker, CancelledError, CommClosedError, OSError)
"""What dask raises when a worker or a connection is gone: the pass is tried again."""
CUT_SECONDS = 1.0
"""A share that takes less is one piece: a further one costs about 10 ms."""
CUT_BYTES = 256 * 2**20
"""In the first pass, when no worker's pace is known, a share of less is one piece."""
QUEUED = 2
"""Pieces that a worker is asked for at once: it works on one, and need not wait for the next."""
FRACTIONS = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
"""The pieces of a share that is cut."""
PATIENCE = 4.0
"""A piece that takes so many times what it should is given to an idle worker too."""
PATIENCE_SECONDS = 10.0
"""But not before so long; half of it where its worker is paused or silent."""
SILENT_SECONDS = 15.0
"""A worker whose heartbeats came last so long before those of another one gets nothing to do."""
WAIT_SECONDS = 2.0
"""After so long of waiting the cluster is looked at."""
STALL_SECONDS = 600.0
"""With workers there and not one more row visited for so long, the pass gives up."""


@dataclass(frozen=True)
class Assigned:
    """The chunks of one worker, and the futures of its share, as it was sent there and as it is kept there.

    Attributes
    ----------
    name : str
    worker : str
        Address.
    directory : str
        The worker's own, which tells it from a later one at the same address.
    host : str
    chunks, chunk_bytes : (n,) int64
    held : bool
        Whether the chunks are futures on the cluster.
    share, kept : Future
    """

    name: str
    worker: str
    directory: str
    host: str
    chunks: NDArray[np.int64]
    chunk_bytes: NDArray[np.int64]
    held: bool
    share: Future
    kept: Future

    @property
    def n_bytes(self) -> int:
        return int(self.chunk_bytes.sum())

    @property
    def sound(self) -> bool:
        """Whether its futures are good for another pass."""
        return all(future.status in ("pending", "finished") for future in (self.share, self.kept))


@dataclass
class Errand:
    """A piece to be visited.

    Attributes
    ----------
    owner : Assigned
        Whose share it is of.
    piece : Piece
    rows, n_bytes : int
    seconds : float or None
        What it should take at its owner's pace, once that is known.
    worker : str
        The address of who was asked.
    since : float
        When, or when the piece before it came back (`time.monotonic`).
    twin : Future, optional
        Of another worker that was asked for the same piece.
    """

    owner: Assigned
    piece: Piece
    rows: int
    n_bytes: int
    seconds: float | None
    worker: str = ""
    since: float = 0.0
    twin: Future | None = None

    @property
    def lent(self) -> bool:
        """Whether another worker than its owner was asked."""
        return self.worker != self.owner.worker

    @property
    def expected(self) -> float:
        """Seconds at the owner's pace, or at a common one where that is not known."""
        return self.n_bytes / CUT_BYTES if self.seconds is None else self.seconds


class ClusterEngine:
    """Visit chunks on the workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Synchronous; stays open.
    timeout : float
        Seconds without a worker, or without the scheduler, after which a pass gives up.
    driver_limit : int, optional
        Bytes that this process may take, where it shares an allowance with its workers.
    spool : SpoolTo, optional
        Where each worker puts decoded blocks that it does not keep in memory.

    Attributes
    ----------
    n_tasks : int
        Tasks submitted for the passes so far: visits, merges and points.
    n_attempts : int
        Passes tried so far, those that were lost included.
    n_stolen : int
        Pieces that another worker took over, or was given as well.
    ongoing : Ongoing
        The pass that runs now, or the last.
    """

    def __init__(
        self,
        client: Client,
        timeout: float = 60.0,
        driver_limit: int | None = None,
        spool: SpoolTo | None = None,
    ) -> None:
        if client.asynchronous:
            raise OptionError(
                "The dask client is asynchronous; dsoftmax needs one made with asynchronous=False."
            )
        self.client = client
        self.timeout = timeout
        self.driver_limit, self.spool = driver_limit, spool
        self.n_tasks = self.n_attempts = self.n_stolen = 0
        self.ongoing = Ongoing()
        self._run = uuid.uuid4().hex[:12]
        self._passes = itertools.count()
        self._holding = ""
        self._source: Source | None = None
        self._assigned: dict[str, Assigned] = {}
        self._team: dict[str, tuple[str, int, str]] = {}
        self._pace: dict[str, float] = {}
        self._reading_pace: dict[str, float] = {}
        self._alone_since: float | None = None
        _engines[self._run] = self

    @property
    def n_threads(self) -> int:
        return sum(worker["nthreads"] for worker in self._workers().values())

    @property
    def process_limit(self) -> int | None:
        return min(
            (w["memory_limit"] for w in self._workers().values() if w.get("memory_limit")),
            default=None,
        )

    def describe(self) -> str:
        workers = self._workers()
        threads = sum(worker["nthreads"] for worker in workers.values())
        return f"cluster: {len(workers)} workers, {threads} threads at {self._address()}"

    def close(self) -> None:
        self._forget()
        self._source = None
        _engines.pop(self._run, None)

    def _forget(self) -> None:
        """Let the cluster drop the shares and the blocks kept, also where the traceback of an error still knows of them."""
        if self._assigned:
            self._cancel(
                [future for one in self._assigned.values() for future in (one.share, one.kept)]
            )
        self._assigned, self._pace, self._reading_pace = {}, {}, {}

    def reserve(self, n_bytes: int) -> None:
        """Say what the driver holds; the workers do not share its memory.

        Raises
        ------
        MemoryLimitError
            This process may not take so much.
        """
        if self.driver_limit is not None and process_bytes() + n_bytes > self.driver_limit:
            raise MemoryLimitError(
                f"Of the memory allowed, the process that drives the workers has {self.driver_limit / 2**20:,.0f} MiB. It takes "
                f"{process_bytes() / 2**20:,.0f} MiB, with what it holds of the data, such as a dask graph, and the solver's vectors "
                f"take {n_bytes / 2**20:,.0f} MiB. Allow more, start fewer workers, or make a graph of fewer blocks."
            )

    def total(self, visit: Visit, source: Source) -> Totals:
        if source is not self._source:
            self._forget()
            self._source, self._holding = (
                source,
                uuid.uuid4().hex[:12],
            )  # a worker may still be busy with the one before
        number, last = next(self._passes), ""
        for attempt in range(ATTEMPTS):
            self.n_attempts += 1
            try:
                return self._attempt(visit, source, number, f"{self._run}-{number}-{attempt}")
            except DsoftmaxError:
                raise
            except LOST as lost:
                self._team = {}  # to be planned anew; what is sound of the shares stays
                last = f"{type(lost).__name__}: {lost}"
            except RuntimeError as error:  # the scheduler unpickles what it is given
                if "deserialization" not in str(error):
                    raise
                raise self._different("the scheduler") from error
            except ClosedClientError as error:
                raise self._gone() from error
        raise ClusterError(
            f"A pass was lost {ATTEMPTS} times; the last time with {last}. Look at the workers' logs: "
            "workers that die at the same work mostly lack memory. Give them more, or store X in smaller chunks."
        )

    # --- one attempt at a pass ------------------------------------------------------------------------------------------

    def _attempt(self, visit: Visit, source: Source, number: int, key: str) -> Totals:
        self._alone_since = None
        self.client.subscribe_topic(
            TOPIC, _heard
        )  # once more each time: a scheduler that was started again knows of nobody
        work = footprint(visit, source)
        before = (
            self._assigned
        )  # whose futures hold the blocks that are kept until those of a new plan do
        team = self._plan(source, work)
        self.ongoing = Ongoing(number, int(source.chunk_rows.sum()), heard=time.monotonic())
        point: Any = visit
        kept: list[Future] = []
        try:
            if len(team) > 1 and len(packed := pickle.dumps(visit)) > INLINE_BYTES:
                as_array = np.frombuffer(
                    packed, np.uint8
                )  # which dask sends as it lies; bytes it would pickle once more
                point = self._submit(
                    pickle.loads, as_array, key=f"dsoftmax-point-{key}", **_where(team)
                )
                kept.append(point)
                self.n_tasks += 1
            results = self._visit(
                visit, point, source, self._pieces(source, team, work, number), key, kept
            )
            return self._added(results, work.sums, key, kept)
        except BaseException:
            self._cancel(kept)
            raise
        finally:
            replaced = [one for name, one in before.items() if self._assigned.get(name) is not one]
            for future in (
                *kept,
                *(future for one in replaced for future in (one.share, one.kept)),
            ):
                future.release()  # now, and not when the last traceback that knows of them is collected

    def _pieces(
        self, source: Source, team: Sequence[Assigned], work: Footprint, number: int
    ) -> dict[str, deque[Errand]]:
        """Cut each share into pieces, by worker name: one where it is short, else four, the first in proportion to the pace.

        Where the sums are large, more than one of them for each worker would take more memory than cutting is worth.
        """
        paces = {one.name: self._pace.get(one.name) for one in team}
        known = [pace for pace in paces.values() if pace]
        fair = sum(one.n_bytes for one in team) / sum(known) if len(known) == len(team) else None
        small = len(team) > 1 and FAN_IN * work.sums * ENTRY_BYTES <= DIRECT_BYTES
        bounds = {
            one.name: self._bounds(one, paces[one.name], fair) if small else [0, len(one.chunks)]
            for one in team
        }
        n_pieces = sum(len(ends) - 1 for ends in bounds.values())
        # What a merge takes in, and its own sum, exact and rounded.
        merging = (min(max(n_pieces, 2), FAN_IN + 1) * ENTRY_BYTES + 8) * work.sums
        hosts = [one.host for one in team]
        common = _worker_needs(source, work, None, merging)
        cut: dict[str, deque[Errand]] = {}
        for one in team:
            pace, rows = paces[one.name], source.chunk_rows[one.chunks]
            needs = replace(
                common, n_chunks=len(one.chunks), total=keepable_bytes(source, one.chunks)
            )
            cut[one.name] = deque()
            for start, stop in itertools.pairwise(bounds[one.name]):
                piece = Piece(
                    start, stop, needs, source.resident, hosts.count(one.host), self._run, number
                )
                n_bytes = int(one.chunk_bytes[start:stop].sum())
                errand = Errand(
                    one,
                    piece,
                    int(rows[start:stop].sum()),
                    n_bytes,
                    n_bytes / pace if pace else None,
                )
                cut[one.name].append(errand)
        return cut

    def _bounds(self, one: Assigned, pace: float | None, fair: float | None) -> list[int]:
        """Return where the pieces of a share begin and end; ``fair`` are the seconds that all workers together would take."""
        seconds = one.n_bytes / pace if pace else None
        if one.n_bytes <= CUT_BYTES if seconds is None else seconds <= CUT_SECONDS:
            return [0, len(one.chunks)]
        first = FRACTIONS[0] * (
            1.0 if fair is None or seconds is None else min(fair / seconds, 1.0)
        )
        rest = (1 - first) / (1 - FRACTIONS[0])
        parts = np.cumsum([first, *(rest * fraction for fraction in FRACTIONS[1:-1])]) * one.n_bytes
        ends = np.maximum(np.searchsorted(np.cumsum(one.chunk_bytes), parts, side="right"), 1)
        return sorted({0, *ends.tolist(), len(one.chunks)})

    def _visit(
        self,
        visit: Visit,
        point: Any,
        source: Source,
        waiting: dict[str, deque[Errand]],
        key: str,
        kept: list[Future],
    ) -> list[Future]:
        """Have all pieces visited, and return the futures of their totals."""
        running: dict[Future, Errand] = {}
        results: list[Future] = []
        numbers = itertools.count()

        def ask(errand: Errand, worker: str, twin: Future | None = None) -> Future:
            errand = replace(errand, worker=worker, since=time.monotonic(), twin=twin)
            where = {
                "workers": [worker],
                "allow_other_workers": True,
                "key": f"dsoftmax-visit-{key}-{next(numbers)}",
            }
            if errand.lent or twin is not None:
                lent = self._lent(source, errand)
                future = self._submit(visit_lent, point if twin is None else visit, *lent, **where)
            else:
                future = self._submit(visit_piece, point, errand.owner.kept, errand.piece, **where)
            self.n_tasks, self.n_stolen = self.n_tasks + 1, self.n_stolen + errand.lent
            running[future] = errand
            kept.append(future)
            return future

        def next_for(worker: str) -> None:
            own = waiting.get(names[worker])
            if own:
                ask(own.popleft(), worker)
            elif not any(errand.worker == worker for errand in running.values()):
                errand = self._steal(worker, names, waiting, running)
                if errand is not None:
                    ask(errand, worker)

        names = {queue[0].owner.worker: name for name, queue in waiting.items() if queue}
        left = {(name, errand.piece.start) for name, queue in waiting.items() for errand in queue}
        for _ in range(QUEUED):
            for address, name in names.items():
                if waiting[name]:
                    ask(waiting[name].popleft(), address)
        while left:
            if (
                not running
            ):  # what is left is of workers that others were faster than, and nobody else wanted it
                for address, name in names.items():
                    if waiting[name]:
                        ask(waiting[name].popleft(), address)
            queued = len({errand.worker for errand in running.values()}) < len(running)
            twins = any(errand.twin is not None for errand in running.values())
            self._wait_once(list(running), names, first=queued or twins or any(waiting.values()))
            for future in [future for future in running if future.done()]:
                if future not in running:  # its twin came first
                    continue
                errand = running.pop(future)
                twin = running.pop(errand.twin, None) if errand.twin is not None else None
                if future.status == "finished":
                    if twin is not None:
                        self._cancel([errand.twin])
                    left.remove((errand.owner.name, errand.piece.start))
                    results.append(future)
                    self._note(errand, names[errand.worker])
                    for other in running.values():
                        if other.worker == errand.worker:
                            other.since = time.monotonic()
                elif twin is not None and errand.twin is not None:
                    self._require_lost(future, elsewhere=True)
                    running[errand.twin] = replace(twin, twin=None)
                else:
                    self._require_lost(future, elsewhere=errand.lent)
                    ask(errand, errand.owner.worker)
                next_for(errand.worker)
            self._help(running, names, ask)
        return results

    def _lent(self, source: Source, errand: Errand) -> tuple[Any, ...]:
        """Return what another worker than the owner needs to visit a piece, which is nothing that only the owner has."""
        piece = errand.piece
        chunks = errand.owner.chunks[piece.start : piece.stop]
        held = [list(source.needs(chunk)) for chunk in chunks.tolist()] if errand.owner.held else []
        return (
            source.share(chunks.tolist()),
            chunks,
            held,
            replace(piece, start=0, stop=len(chunks)),
        )

    def _require_lost(self, future: Future, elsewhere: bool) -> None:
        """Raise the error of a piece, unless it is one that the piece may not have `elsewhere`, where it is or can be asked for."""
        try:
            future.result(timeout=self.timeout)
        except MemoryLimitError:
            if not elsewhere:
                raise
        except DsoftmaxError:
            raise
        except LOST:
            if not elsewhere:
                raise

    def _steal(
        self,
        worker: str,
        names: dict[str, str],
        waiting: dict[str, deque[Errand]],
        running: dict[Future, Errand],
    ) -> Errand | None:
        """Take the last piece that is not begun from the worker that is furthest behind, if this one is done with it sooner."""
        asked: dict[str, list[Future]] = {address: [] for address in names}
        for future, errand in running.items():
            asked[errand.worker].append(future)
        left: dict[str, float] = {}
        for address, futures in asked.items():
            errands = [running[future] for future in futures]
            left[address] = sum(errand.expected for errand in (*errands, *waiting[names[address]]))
            if errands:
                left[address] -= min(time.monotonic() - errands[0].since, errands[0].expected)
        reading = self._reading_pace.get(names[worker])
        for address in sorted(asked, key=lambda address: -left[address]):
            queue, futures = waiting[names[address]], asked[address]
            begun = address == worker or (
                not queue and (len(futures) < QUEUED or running[futures[-1]].twin is not None)
            )
            if begun:
                continue
            errand = queue[-1] if queue else running[futures[-1]]
            if reading and errand.seconds is not None and errand.n_bytes / reading > left[address]:
                continue  # it would have to read what its owner has in memory
            if queue:
                return queue.pop()
            del running[futures[-1]]
            self._cancel(futures[-1:])
            return errand
        return None

    def _note(self, errand: Errand, worker: str) -> None:
        """Take down that a piece has come back; exact figures come with its totals."""
        spent = Done(errand.rows, errand.n_bytes, seconds=time.monotonic() - errand.since)
        self.ongoing.heard = time.monotonic()
        self.ongoing.working.pop(worker, None)
        self.ongoing.finished[worker] = self.ongoing.finished.get(worker, Done()) + spent

    def _help(
        self, running: dict[Future, Errand], names: dict[str, str], ask: Callable[..., Future]
    ) -> None:
        """Give pieces that do not come back to another worker too, one that is there and has nothing of late."""
        now = time.monotonic()
        if all(now - errand.since < PATIENCE_SECONDS / 2 for errand in running.values()):
            return
        ready = _ready(self._present())

        def late(errand: Errand) -> bool:
            expected = self.timeout / PATIENCE if errand.seconds is None else errand.seconds
            patience = (
                max(PATIENCE * expected, PATIENCE_SECONDS)
                if errand.worker in ready
                else PATIENCE_SECONDS / 2
            )
            return now - errand.since > patience

        busy = {errand.worker for errand in running.values() if not late(errand)}
        idle = [address for address in names if address in ready and address not in busy]
        for future, errand in list(running.items()):
            if future not in running or not late(errand):
                continue
            if (
                errand.twin is not None
                and errand.twin in running
                and running[errand.twin].worker not in ready
            ):
                del running[errand.twin]  # who was to help does not answer either
                self._cancel([errand.twin])
                errand.twin = None
            if errand.twin is None:
                # A piece may wait for the point, which a worker has that does not answer: then the same one may do it alone.
                helper = min(idle, key=lambda address: address == errand.worker, default=None)
                if helper is not None:
                    idle.remove(helper)
                    errand.twin = ask(errand, helper, twin=future)

    def _added(self, results: list[Future], sums: int, key: str, kept: list[Future]) -> Totals:
        """Add the totals of all pieces: on the workers in a tree while they are many or large, the last of them here."""
        results = sorted(results, key=lambda future: str(future.key))
        last = False
        for level in itertools.count():
            if last or (
                len(results) <= FAN_IN and len(results) * sums * ENTRY_BYTES <= DIRECT_BYTES
            ):
                break
            groups = [results[i : i + FAN_IN] for i in range(0, len(results), FAN_IN)]
            where, last = _where(self._in_order()), len(groups) == 1
            results = [
                self._submit(merge, group, last, key=f"dsoftmax-merge-{key}-{level}-{i}", **where)
                for i, group in enumerate(groups)
            ]
            self.n_tasks += len(results)
            kept += results
        self._wait(results, [one.worker for one in self._assigned.values()], self.timeout)
        first, *others = self._sync(self.client._gather, results)
        for other in others:
            first.merge(other)
        if first.n_rows != self.ongoing.rows:
            raise ConnectionError(
                f"the pieces that came back hold {first.n_rows:,} of {self.ongoing.rows:,} rows"
            )
        for name, done in first.work.items():
            self._pace[name] = done.bytes / max(done.seconds, 1e-6)
            if done.kept < 0.5:
                self._reading_pace[name] = self._pace[name]
        self.ongoing.finished, self.ongoing.working = dict(first.work), {}
        return first

    def _submit(self, function: Any, *args: Any, **options: Any) -> Future:
        with (
            warnings.catch_warnings()
        ):  # arrays in memory and wide models are large, and have to travel
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.client.submit(function, *args, pure=False, **options)

    # --- who does what --------------------------------------------------------------------------------------------------

    def _plan(self, source: Source, work: Footprint) -> list[Assigned]:
        """Give each worker its share; those who have it keep it, and while no worker comes or goes nothing is planned anew."""
        workers = self._wait_for_workers()
        by_name = {str(info["name"]): (address, info) for address, info in workers.items()}
        names = sorted(by_name)
        team = {
            name: (
                by_name[name][0],
                by_name[name][1]["nthreads"],
                by_name[name][1]["local_directory"],
            )
            for name in names
        }
        self._require_memory(source, work, workers)
        if self._assigned and team == self._team:
            return self._in_order()
        same = {
            name: one
            for name, one in self._assigned.items()
            if one.sound and team.get(name, ())[::2] == (one.worker, one.directory)
        }
        self._check_versions(
            [address for name, (address, _) in by_name.items() if name not in same]
        )
        held = self._held(source, {address: name for name, (address, _) in by_name.items()})
        if held is None:
            parts = assign(
                names, [by_name[name][1]["nthreads"] for name in names], source.chunk_bytes
            )
        else:
            parts = [np.flatnonzero(held == name) for name in names]
        assigned: dict[str, Assigned] = {}
        for name, chunks in zip(names, parts, strict=True):
            address, info = by_name[name]
            if name in same and np.array_equal(same[name].chunks, chunks):
                assigned[name] = same[name]
            elif len(chunks):
                assigned[name] = self._give(source, name, address, info, chunks, held is not None)
        self._assigned, self._team = assigned, team
        return self._in_order()

    def _give(
        self,
        source: Source,
        name: str,
        address: str,
        info: dict[str, Any],
        chunks: NDArray[np.int64],
        held: bool,
    ) -> Assigned:
        where = {"workers": [address], "allow_other_workers": True}
        mark = f"{self._run}-{uuid.uuid4().hex[:8]}"
        needs = [list(source.needs(chunk)) for chunk in chunks.tolist()] if held else []
        share = self._submit(
            take_share,
            source.share(chunks.tolist()),
            chunks,
            needs,
            key=f"dsoftmax-share-{mark}",
            **where,
        )
        kept = self._submit(
            keep,
            share,
            self._holding,
            name,
            None if source.resident else self.spool,
            key=f"dsoftmax-keep-{mark}",
            **where,
        )
        directory, host = str(info["local_directory"]), str(info["host"])
        return Assigned(
            name, address, directory, host, chunks, source.chunk_bytes[chunks], held, share, kept
        )

    def _require_memory(self, source: Source, work: Footprint, workers: dict[str, Any]) -> None:
        """Raise before anything is read where this process, or a worker with one block, does not fit; the worker's own plan is exact.

        Raises
        ------
        MemoryLimitError
        """
        self.reserve(0)
        limits = [
            planned_part(worker["memory_limit"])
            for worker in workers.values()
            if worker.get("memory_limit")
        ]
        if limits:
            needs = _worker_needs(source, work, min(limits), 2 * work.sums * ENTRY_BYTES)
            require_fit(plan_pass(needs), source, 0 if self.driver_limit is None else len(limits))

    def _in_order(self) -> list[Assigned]:
        return sorted(self._assigned.values(), key=lambda one: (one.host, one.worker))

    def _check_versions(self, addresses: Sequence[str]) -> None:
        """Raise unless these workers have this version of dsoftmax: another one may compute something else.

        Raises
        ------
        ClusterError
        """
        if not addresses:
            return

        def version() -> (
            str
        ):  # inside this method, so that it travels whole and not as a name in dsoftmax
            try:
                from dsoftmax import __version__
            except ImportError:
                return "none"
            return __version__

        for address, found in self._sync(
            self.client._run, version, workers=list(addresses)
        ).items():
            if found != __version__:
                raise self._different(f"the worker at {address} (version: {found})")

    def _different(self, who: str) -> ClusterError:
        return ClusterError(
            f"dsoftmax {__version__} runs here, and not at {who} of the cluster at {self._address()}. Install the same version "
            "for the scheduler and every worker, and start them again."
        )

    def _held(self, source: Source, names: dict[str, str]) -> NDArray[np.object_] | None:
        """Return the name of the worker that holds each chunk, where the chunks are futures on the cluster."""
        needs = [source.needs(chunk) for chunk in range(len(source.chunk_rows))]
        if not any(needs):
            return None
        everything = [future for futures in needs for future in futures]
        self.ongoing = Ongoing(heard=time.monotonic())
        self._wait(everything)
        holders = self._sync(
            self.client.scheduler.who_has, keys=[future.key for future in everything]
        )
        first = sorted(names.values())[0]
        owner = np.full(len(needs), first, object)
        for chunk, futures in enumerate(needs):
            homes = [
                names[address]
                for future in futures
                for address in holders.get(future.key, ())
                if address in names
            ]
            if homes:
                owner[chunk] = homes[0]
        return owner

    # --- waiting, with a limit always -----------------------------------------------------------------------------------

    def _sync(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run one of the client's coroutines; TimeoutError after `timeout` seconds."""
        return self.client.sync(call, *args, callback_timeout=self.timeout, **options)

    def _workers(self) -> dict[str, Any]:
        """Ask the scheduler who is there.

        Raises
        ------
        ClusterError
            It does not answer in time.
        """
        try:
            return dict(self._sync(self.client.scheduler.identity, n_workers=-1)["workers"])
        except (TimeoutError, OSError) as error:
            raise self._gone() from error

    def _present(self) -> dict[str, Any]:
        """Ask the scheduler who is there; nobody where it does not answer.

        Raises
        ------
        ClusterError
            The client has given it up.
        """
        if self.client.status == "closed":
            raise self._gone()
        if self.client.status != "running":
            return {}
        with suppress(ClusterError):
            return self._workers()
        return {}

    def _gone(self, what: str = "does not answer") -> ClusterError:
        return ClusterError(
            f"The cluster at {self._address()} {what} (limit: {self.timeout:g} s, client: {self.client.status}). Start the "
            "scheduler (`dask scheduler`) and a worker (`dask worker ADDRESS`) again, then run the same command: it goes on "
            "from the last pass."
        )

    def _wait_for_workers(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.timeout
        while True:
            workers = self._present()
            ready = _ready(workers)
            if ready or (workers and time.monotonic() > deadline):
                return ready or workers
            if time.monotonic() > deadline:
                raise self._gone(f"has had no worker for {self.timeout:g} s")
            time.sleep(0.1)

    def _wait(
        self, futures: Sequence[Future], team: Collection[str] = (), limit: float | None = None
    ) -> None:
        """Wait until the futures are done.

        Parameters
        ----------
        futures : sequence of Future
        team : collection of str
            Addresses of the workers that they were planned for.
        limit : float, optional
            Seconds after which one of them that does not answer ends the wait.

        Raises
        ------
        ClusterError, TimeoutError
            See `_wait_once`.
        """
        started = time.monotonic()
        while any(future.status == "pending" for future in futures):
            self._wait_once(futures, team)
            if limit is not None and time.monotonic() - started > limit:
                ready = _ready(self._present())
                if missing := [address for address in team if address not in ready]:
                    raise TimeoutError(f"{', '.join(missing)} did not answer for {limit:g} s")

    def _wait_once(
        self, futures: Sequence[Future], team: Collection[str] = (), first: bool = False
    ) -> None:
        """Wait until the futures, or the first of them, are done, but no longer than `WAIT_SECONDS`.

        Raises
        ------
        ClusterError
            There has been no scheduler, no worker, or no progress for too long.
        TimeoutError
            The whole team has been replaced by other workers.
        """
        started = time.monotonic()
        try:
            wait(
                futures,
                timeout=WAIT_SECONDS,
                return_when="FIRST_COMPLETED" if first else "ALL_COMPLETED",
            )
            self._alone_since = None
            return
        except TimeoutError:
            pass
        present, now = self._present(), time.monotonic()
        self._alone_since = None if present else self._alone_since or started
        if self._alone_since is not None and now - self._alone_since > self.timeout:
            raise self._gone(f"has not answered or had no worker for {self.timeout:g} s")
        if present and team and not any(address in present for address in team):
            # A task that is left without any worker waits for one at the address it was meant for, also where others may do.
            raise TimeoutError("all workers were lost, and others have come")
        if now - self.ongoing.heard > STALL_SECONDS:
            raise ClusterError(
                f"No worker of the cluster at {self._address()} has made progress for {STALL_SECONDS:g} s. Look at their "
                "logs; restart them, then run the same command: it goes on from the last pass."
            )

    def _take_report(self, told: dict[str, Any]) -> None:
        """Take a worker's report, on the client's own thread."""
        if told["pass"] != self.ongoing.number:
            return
        done, before = Done(**told["done"]), self.ongoing.working.get(told["name"])
        if (
            before is None or done.rows != before.rows
        ):  # a worker may tell forever that it has come no further
            self.ongoing.heard = time.monotonic()
        self.ongoing.working[told["name"]] = done

    def _cancel(self, futures: list[Future]) -> None:
        with suppress(Exception):  # a scheduler that is gone has nothing to cancel
            self.client.sync(self.client._cancel, futures, force=True, callback_timeout=5.0)

    def _address(self) -> str:
        return getattr(self.client.scheduler, "address", "an unknown address")


def _worker_needs(source: Source, work: Footprint, allowed: int | None, reserve: int) -> Needs:
    """Return what a pass needs of a worker, which may load a piece of another's share beside the labels kept with its own."""
    return needs_of(
        source, work, 1, allowed, reserve=reserve, units=units_bytes(source.columns, shares=2)
    )


def _where(team: Sequence[Assigned]) -> dict[str, Any]:
    """Say that a task is for any of the team, which a worker that does not answer has left."""
    return {"workers": [one.worker for one in team], "allow_other_workers": True}


def _ready(workers: dict[str, Any]) -> dict[str, Any]:
    """Return those that are neither paused nor silent: a process that is stopped stays in the scheduler's list for minutes."""
    newest = max((info["last_seen"] for info in workers.values()), default=0.0)
    return {
        address: info
        for address, info in workers.items()
        if info["status"] in ("running", "init") and newest - info["last_seen"] <= SILENT_SECONDS
    }


_engines: weakref.WeakValueDictionary[str, ClusterEngine] = weakref.WeakValueDictionary()
"""By their run. A client keeps the handlers of its topics for good, so that they must not hold an engine and its data."""


def _heard(event: tuple[float, dict[str, Any]]) -> None:
    _, told = event
    engine = _engines.get(told["run"])
    if engine is not None:
        engine._take_report(told)


def is_client(candidate: Any) -> bool:
    """Return whether this is a dask client."""
    return isinstance(candidate, Client)


def active_client(required: bool) -> Client | None:
    """Return the client that is active in this process; a task has none: it would wait for the worker that runs it.

    Raises
    ------
    OptionError
        There is none, and one is required.
    """
    try:
        get_worker()
    except ValueError:
        pass
    else:
        if not required:
            return None
        raise OptionError(
            "engine='cluster' inside a task of a dask worker, as under joblib's dask backend, would wait for that worker itself. "
            "Pass engine='threads' (or 'auto', which takes it here), or fit outside of tasks."
        )
    try:
        return default_client()
    except ValueError:
        if not required:
            return None
        raise OptionError(
            "engine='cluster' needs an active dask client, and there is none. Make one first "
            "(from dask.distributed import Client; Client(...)), or pass it: engine=client."
        ) from None
