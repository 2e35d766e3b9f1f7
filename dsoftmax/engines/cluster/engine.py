"""A pass on a dask cluster: a few tasks per worker, and partial sums that are added on the
cluster in a tree.

The number of tasks in a pass does not depend on the number of chunks. There are up to four
tasks per worker, merges if there are many partial sums, and at most one task that holds the
point θ.

`deal` decides which worker has which chunks and how its share is cut, `dispatch` who is asked
for which piece, and `waiting` how long any answer may take. This module carries their decisions
out.
"""

import itertools
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from distributed import Client, Future

from dsoftmax.compat.distributed import (
    CLOSED,
    LOST,
    address_of,
    cancel,
    dumps,
    gathered,
    is_unpickling,
    loads,
    submit,
)
from dsoftmax.data.source import Source
from dsoftmax.engines.cluster.deal import Piece, cut
from dsoftmax.engines.cluster.dispatch import Ask, Cancel, Command, Dispatch
from dsoftmax.engines.cluster.needs import require_memory, visit_tasks
from dsoftmax.engines.cluster.placement import Placed, Placement, stored_parts
from dsoftmax.engines.cluster.reports import forget, listen
from dsoftmax.engines.cluster.tree import FAN_IN, add_in_tree, is_direct, merge_bytes
from dsoftmax.engines.cluster.versions import different_version
from dsoftmax.engines.cluster.waiting import Waiting, ready
from dsoftmax.engines.cluster.worker import VisitTask, visit_lent, visit_piece
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.errors import ClusterError, DsoftmaxError, MemoryLimitError, OptionError
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Done, Ongoing

INLINE_BYTES = 32 * 1024
"""Largest visit that is sent with each task, in bytes. A larger one is the result of a task of
its own."""
ATTEMPTS = 5
"""Number of times that a lost pass is tried."""


@dataclass
class Attempt:
    """One attempt at a pass.

    Attributes
    ----------
    key : str
        Part of the keys of all its tasks.
    source : Source
    visit : Visit
    point : Visit or Future
        The visit as its tasks receive it.
    team : list of Placed
    tasks : dict from str to VisitTask
        Task of each worker's whole share, by address.
    futures : list of Future
        Futures to release at the end.
    """

    key: str
    source: Source
    visit: Visit
    point: Any
    team: list[Placed]
    tasks: dict[str, VisitTask] = field(default_factory=dict)
    futures: list[Future] = field(default_factory=list)

    @property
    def by_address(self) -> dict[str, Placed]:
        return {one.hand.address: one for one in self.team}


class ClusterEngine:
    """Visit chunks on the workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Synchronous; stays open.
    timeout : float
        Seconds without a worker, or without the scheduler, after which a pass gives up.
    driver_limit : int, optional
        Bytes that this process may use if it shares a memory limit with its workers.
    spool : SpoolTo, optional
        Directory and limit of each worker's spool for blocks that it does not cache in memory.

    Attributes
    ----------
    n_tasks : int
        Number of tasks submitted for passes: visits, merges and points.
    n_attempts : int
        Number of attempts at passes, lost ones included.
    n_stolen : int
        Number of pieces that were stolen, or duplicated to another worker.
    ongoing : Ongoing
        The pass that runs now, or the last one.
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
                "The dask client is asynchronous; expected one with asynchronous=False. Pass "
                "another."
            )
        self.client, self.driver_limit = client, driver_limit
        self.n_tasks = self.n_attempts = self.n_stolen = 0
        self.ongoing = Ongoing()
        self._run = uuid.uuid4().hex[:12]
        self.waiting = Waiting(client, timeout)
        self.placement = Placement(client, self._run, self.waiting, spool)
        self._passes = itertools.count()
        self._source: Source | None = None
        self._throughput: dict[str, float] = {}
        self._reading: dict[str, float] = {}

    @property
    def n_threads(self) -> int:
        return sum(one.n_threads for one in self.waiting.workers().values())

    @property
    def process_limit(self) -> int | None:
        workers = self.waiting.workers().values()
        return min((one.memory_limit for one in workers if one.memory_limit), default=None)

    def describe(self) -> str:
        workers = self.waiting.workers().values()
        threads = sum(one.n_threads for one in workers)
        return f"cluster: {len(workers)} workers, {threads} threads at {address_of(self.client)}"

    def close(self) -> None:
        self._begin(None)
        forget(self._run)

    def _begin(self, source: Source | None) -> None:
        """Forget the source before: its shares, and the throughput of its workers."""
        self.placement.begin()
        self._source, self._throughput, self._reading = source, {}, {}

    def reserve(self, n_bytes: int) -> None:
        """Check that the driver may allocate ``n_bytes``; the workers do not share its memory.

        Raises
        ------
        MemoryLimitError
            The driver's limit is exceeded.
        """
        if self.driver_limit is not None and process_bytes() + n_bytes > self.driver_limit:
            raise MemoryLimitError(
                f"The process that drives the workers may use {self.driver_limit / 2**20:,.0f} "
                f"MiB of the memory allowed. It takes {process_bytes() / 2**20:,.0f} MiB, data "
                "such as a dask graph included, and the solver's vectors take "
                f"{n_bytes / 2**20:,.0f} MiB. Allow more, start fewer workers, or make a graph "
                "of fewer blocks."
            )

    def total(self, visit: Visit, source: Source) -> Totals:
        if source is not self._source:
            self._begin(source)
        number, last = next(self._passes), ""
        for attempt in range(ATTEMPTS):
            self.n_attempts += 1
            try:
                return self._attempt(visit, source, number, f"{self._run}-{number}-{attempt}")
            except DsoftmaxError:
                raise
            except LOST as lost:
                self.placement.plan_again()
                last = f"{type(lost).__name__}: {lost}"
            except RuntimeError as error:
                if not is_unpickling(error):
                    raise
                raise different_version(self.client, "the scheduler") from error
            except CLOSED as error:
                raise self.waiting.lost() from error
        raise ClusterError(
            f"A pass was lost {ATTEMPTS} times, the last time with {last}. Look at the workers' "
            "logs. Workers that die at the same work mostly lack memory: give them more, or "
            "store X in smaller chunks."
        )

    def heard(self, number: int, worker: str, done: Done) -> None:
        """Take a worker's report, on the client's own thread."""
        if number != self.ongoing.number:
            return
        before = self.ongoing.working.get(worker)
        if before is None or done.rows != before.rows:  # a stalled worker repeats its report
            self.waiting.progressed()
        self.ongoing.working[worker] = done

    # --- one attempt at a pass ---

    def _attempt(self, visit: Visit, source: Source, number: int, key: str) -> Totals:
        self.waiting.begin()
        listen(self.client, self._run, self)
        work = visit.footprint(source.n_features, source.sparse)
        workers = self.waiting.for_workers()
        self.reserve(0)
        require_memory(source, work, workers.values(), self.driver_limit is not None)
        attempt = Attempt(key, source, visit, visit, self.placement.place(source, workers))
        self.ongoing = Ongoing(number, int(source.chunk_rows.sum()))
        self.waiting.progressed()
        try:
            self._send_point(attempt)
            pieces = self._cut(attempt, work, number)
            return self._added(self._visited(attempt, pieces), work.sums, attempt)
        except BaseException:
            cancel(self.client, attempt.futures)
            raise
        finally:
            # Released now, and not when the last traceback that refers to the futures is collected.
            for future in attempt.futures:
                future.release()
            self.placement.release_replaced()

    def _send_point(self, attempt: Attempt) -> None:
        """Make a large visit the result of a task, which workers fetch from each other."""
        if len(attempt.team) < 2 or len(packed := dumps(attempt.visit)) <= INLINE_BYTES:
            return
        as_array = np.frombuffer(
            packed, np.uint8
        )  # dask sends arrays as they are, but pickles bytes
        key = f"dsoftmax-point-{attempt.key}"
        attempt.point = submit(self.client, loads, as_array, key=key, **_any_of(attempt.team))
        attempt.futures.append(attempt.point)
        self.n_tasks += 1

    def _cut(self, attempt: Attempt, work: Footprint, number: int) -> list[list[Piece]]:
        """Cut the shares into pieces, and plan the task of each share.

        Shares with large sums stay whole, because several sums of one worker would allocate
        more memory than cutting is worth.
        """
        hands = [one.hand for one in attempt.team]
        whole = len(hands) < 2 or not is_direct(FAN_IN, work.sums)
        pieces = cut(hands, self._throughput, whole)
        reserve = merge_bytes(sum(len(own) for own in pieces), work.sums)
        attempt.tasks = visit_tasks(attempt.source, hands, work, reserve, self._run, number)
        return pieces

    def _visited(self, attempt: Attempt, pieces: Sequence[Sequence[Piece]]) -> list[Future]:
        """Have all pieces visited, and return the futures of their totals."""
        team = attempt.by_address
        names = {address: one.hand.name for address, one in team.items()}
        reading = {
            address: self._reading[name] for address, name in names.items() if name in self._reading
        }
        dispatch = Dispatch(pieces, reading, self.waiting.timeout)
        futures: dict[int, Future] = {}
        self._carry_out(dispatch.start(time.monotonic()), attempt, futures)
        while not dispatch.finished:
            waiting = [futures[request] for request in dispatch.running]
            self.waiting.once(waiting, names, first=dispatch.wants_each)
            for request in [one for one in dispatch.running if futures[one].done()]:
                now = time.monotonic()
                if futures[request].status == "finished":
                    if (answered := dispatch.running.get(request)) is not None:
                        self._note(answered.piece, names[answered.worker], now - answered.since)
                    commands = dispatch.done(request, now)
                elif request in dispatch.running:
                    commands = dispatch.failed(request, self._is_recoverable(futures[request]), now)
                else:
                    continue
                self._carry_out(commands, attempt, futures)
            if dispatch.has_waited(now := time.monotonic()):
                commands = dispatch.tick(ready(self.waiting.present()), now)
                self._carry_out(commands, attempt, futures)
        return [futures[request] for request in dispatch.counted]

    def _carry_out(
        self, commands: Sequence[Command], attempt: Attempt, futures: dict[int, Future]
    ) -> None:
        for command in commands:
            if isinstance(command, Ask):
                futures[command.request] = self._asked(command, attempt)
                attempt.futures.append(futures[command.request])
                self.n_tasks += 1
                self.n_stolen += command.lent
            elif isinstance(command, Cancel):
                cancel(self.client, [futures[command.request]])
            else:
                futures[command.request].result(timeout=self.waiting.timeout)
                raise ConnectionError("a piece was lost")

    def _asked(self, ask: Ask, attempt: Attempt) -> Future:
        """Submit the visit of a piece."""
        piece, owner = ask.piece, attempt.by_address[ask.piece.owner]
        task = replace(attempt.tasks[piece.owner], start=piece.start, stop=piece.stop)
        key = f"dsoftmax-visit-{attempt.key}-{ask.request}"
        where = {"workers": [ask.worker], "allow_other_workers": True, "key": key}
        if not (ask.lent or ask.duplicate):
            return submit(self.client, visit_piece, attempt.point, owner.cached, task, **where)
        # Another worker than the owner gets nothing that only the owner has.
        chunks = owner.hand.chunks[piece.start : piece.stop]
        share = attempt.source.share(chunks.tolist())
        stored = stored_parts(attempt.source, chunks, owner.on_cluster)
        task = replace(task, start=0, stop=len(chunks))
        point = attempt.visit if ask.duplicate else attempt.point
        return submit(self.client, visit_lent, point, share, chunks, stored, task, **where)

    def _is_recoverable(self, future: Future) -> bool:
        """Return whether a piece that failed may succeed on another worker."""
        try:
            future.result(timeout=self.waiting.timeout)
        except MemoryLimitError:
            return True
        except DsoftmaxError:
            return False
        except LOST:
            return True
        except Exception:
            return False
        return True

    def _note(self, piece: Piece, worker: str, seconds: float) -> None:
        """Note that a piece is done. Its totals bring exact figures."""
        spent = Done(piece.n_rows, piece.n_bytes, seconds=seconds)
        self.waiting.progressed()
        self.ongoing.working.pop(worker, None)
        self.ongoing.finished[worker] = self.ongoing.finished.get(worker, Done()) + spent

    def _added(self, results: Sequence[Future], sums: int, attempt: Attempt) -> Totals:
        """Add the totals of all pieces: on the workers in a tree while they are many or large,
        the last ones here."""
        results, merges = add_in_tree(
            self.client, results, sums, attempt.key, _any_of(attempt.team)
        )
        self.n_tasks += len(merges)
        attempt.futures += merges
        self.waiting.for_all(results, list(attempt.by_address), self.waiting.timeout)
        first, *others = gathered(self.client, results, self.waiting.timeout)
        for other in others:
            first.merge(other)
        if first.n_rows != self.ongoing.rows:
            raise ConnectionError(
                f"the pieces that came back hold {first.n_rows:,} of {self.ongoing.rows:,} rows"
            )
        self._learn(first)
        return first

    def _learn(self, totals: Totals) -> None:
        """Note the throughput of each worker, for the next pass."""
        for name, done in totals.work.items():
            self._throughput[name] = done.bytes / max(done.seconds, 1e-6)
            if done.cached < 0.5:
                self._reading[name] = self._throughput[name]
        self.ongoing.finished, self.ongoing.working = dict(totals.work), {}


def _any_of(team: Sequence[Placed]) -> dict[str, Any]:
    """Let any worker of the team run a task."""
    return {"workers": [one.hand.address for one in team], "allow_other_workers": True}
