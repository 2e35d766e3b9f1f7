"""A pass on a dask cluster: a few tasks per worker, whose sums are added in a tree.

The number of tasks in a pass does not depend on the number of chunks. There are up to four
tasks per worker, merges if there are many partial sums, and at most one task for the
point θ.

`deal` decides which worker has which chunks and how its share is cut, `dispatch` who is asked
for which piece, and `waiting` how long any answer may take. `attempt` carries their decisions
out, and this module tries again if an attempt is lost.
"""

import itertools
import pickle
import uuid
from collections.abc import Sequence

from distributed import Client, Future

from dsoftmax.compat.distributed import CLOSED, LOST, address_of, is_unpickling
from dsoftmax.data.source import Source
from dsoftmax.engines.cluster.attempt import Attempt, Counts
from dsoftmax.engines.cluster.deal import Hand, Piece, cut
from dsoftmax.engines.cluster.dispatch import Dispatch
from dsoftmax.engines.cluster.needs import require_memory, visit_tasks
from dsoftmax.engines.cluster.placement import Placement
from dsoftmax.engines.cluster.reports import forget, listen
from dsoftmax.engines.cluster.tree import FAN_IN, is_direct, merge_bytes
from dsoftmax.engines.cluster.versions import different_version
from dsoftmax.engines.cluster.waiting import Waiting
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.errors import ClusterError, DsoftmaxError, MemoryLimitError, OptionError
from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Done, Ongoing

ATTEMPTS = 5
"""Number of times that a lost pass is tried."""


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
    n_tasks, n_attempts, n_stolen : int
        See `Counts`.
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
        if client.status in ("closing", "closed"):
            raise ClusterError(
                "The dask client is closed; expected an open one. Connect again, with "
                "Client(address), and pass that client, or pass engine='threads'."
            )
        if client.asynchronous:
            raise OptionError(
                "The dask client is asynchronous; expected one with asynchronous=False. Pass "
                "another."
            )
        self.client, self.driver_limit = client, driver_limit
        self._counts = Counts()
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

    @property
    def n_tasks(self) -> int:
        return self._counts.tasks

    @property
    def n_attempts(self) -> int:
        return self._counts.attempts

    @property
    def n_stolen(self) -> int:
        return self._counts.stolen

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
            _require_sendable(source)
            self._begin(source)
        number, last = next(self._passes), ""
        for attempt in range(ATTEMPTS):
            self._counts.attempts += 1
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
        team = self.placement.place(source, workers)
        attempt = Attempt(self.waiting, self._counts, key, source, visit, team)
        self.ongoing = Ongoing(number, int(source.chunk_rows.sum()))
        self.waiting.progressed()
        try:
            attempt.send_point()
            hands = [one.hand for one in team]
            pieces = self._cut(hands, work)
            reserve = merge_bytes(sum(len(own) for own in pieces), work.sums)
            tasks = visit_tasks(source, hands, work, reserve, self._run, number)
            dispatch = Dispatch(pieces, self._reading_by_address(hands), self.waiting.timeout)
            totals = self._added(attempt, attempt.visit_all(dispatch, tasks, self._note), work)
        except BaseException:
            attempt.cancel()
            raise
        finally:
            attempt.release()
            self.placement.release_replaced()
        self._learn(totals)
        return totals

    def _cut(self, hands: Sequence[Hand], work: Footprint) -> list[list[Piece]]:
        """Cut the shares into pieces.

        Shares with large sums stay whole, because several sums of one worker would allocate more
        memory than cutting is worth.
        """
        whole = len(hands) < 2 or not is_direct(FAN_IN, work.sums)
        return cut(hands, self._throughput, whole)

    def _reading_by_address(self, hands: Sequence[Hand]) -> dict[str, float]:
        return {one.address: self._reading[one.name] for one in hands if one.name in self._reading}

    def _added(self, attempt: Attempt, results: Sequence[Future], work: Footprint) -> Totals:
        """Add the totals of all pieces, and check that no row is missing."""
        totals = attempt.add(results, work.sums)
        if totals.n_seen != self.ongoing.rows:
            raise ConnectionError(
                f"the pieces that came back have {totals.n_seen:,} of {self.ongoing.rows:,} rows"
            )
        return totals

    def _note(self, piece: Piece, worker: str, seconds: float) -> None:
        """Note that a piece is done. Its totals bring exact figures."""
        spent = Done(piece.n_rows, piece.n_bytes, seconds=seconds)
        self.waiting.progressed()
        self.ongoing.working.pop(worker, None)
        self.ongoing.finished[worker] = self.ongoing.finished.get(worker, Done()) + spent

    def _learn(self, totals: Totals) -> None:
        """Note the throughput of each worker, for the next pass."""
        for name, done in totals.work.items():
            self._throughput[name] = done.bytes / max(done.seconds, 1e-6)
            if done.cached < 0.5:
                self._reading[name] = self._throughput[name]
        self.ongoing.finished, self.ongoing.working = dict(totals.work), {}


def _require_sendable(source: Source) -> None:
    """Raise if a share of a source must not be sent, because it holds a credential.

    Raises
    ------
    OptionError
    """
    try:
        pickle.dumps(source.share([]))
    except DsoftmaxError:
        raise
    except Exception:  # dask may know how to pickle it, or says why not
        return
