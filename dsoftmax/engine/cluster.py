"""A pass on a dask cluster: one task per worker, the partial sums added on the cluster in a tree.

What the scheduler sees in a pass does not depend on the number of chunks: a task per worker, a merge per eight of them, and
at most one that holds the point. A worker is given its share of the chunks once, as the result of a submitted task, so
that dask can recompute it when a worker dies; tasks keep no state and may run twice.
"""

import itertools
import time
import uuid
import warnings
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client, Future, default_client, get_worker, wait
from distributed.comm import CommClosedError
from distributed.protocol import pickle  # falls back to cloudpickle, as dask does for everything else
from distributed.scheduler import KilledWorker
from numpy.typing import NDArray

from dsoftmax import __version__
from dsoftmax.blocks import Share, Source
from dsoftmax.engine.memory import plan_threads
from dsoftmax.engine.shares import assign
from dsoftmax.engine.sums import Totals
from dsoftmax.engine.threads import visit_chunks
from dsoftmax.engine.visit import Visit
from dsoftmax.errors import ClusterError, DsoftmaxError, OptionError

FAN_IN = 8
INLINE_BYTES = 32 * 1024
"""A visit that pickles to more travels as the result of a task of its own, from worker to worker."""
ATTEMPTS = 5
LOST = (KilledWorker, CancelledError, CommClosedError, TimeoutError)
"""What dask raises when a worker or a connection is gone: the pass is tried again."""


@dataclass(frozen=True)
class Assigned:
    """The chunks of one worker, and the future of its share."""

    worker: str
    host: str
    chunks: NDArray[np.int64]
    share: Future


class ClusterEngine:
    """Visit chunks on the workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Synchronous; stays open.
    timeout : float
        Seconds without a worker, or without the scheduler, after which a pass gives up.

    Attributes
    ----------
    n_tasks : int
        Tasks submitted for the passes so far: visits, merges and points.
    n_attempts : int
        Passes tried so far, those that were lost included.
    """

    def __init__(self, client: Client, timeout: float = 60.0) -> None:
        if client.asynchronous:
            raise OptionError("The dask client is asynchronous; dsoftmax needs one made with asynchronous=False.")
        self.client = client
        self.timeout = timeout
        self.n_tasks = self.n_attempts = 0
        self._run = uuid.uuid4().hex[:12]
        self._passes = itertools.count()
        self._source: Source | None = None
        self._assigned: dict[str, Assigned] = {}
        self._team: dict[str, tuple[str, int]] = {}

    @property
    def n_threads(self) -> int:
        return sum(worker["nthreads"] for worker in self._workers().values())

    def describe(self) -> str:
        workers = self._workers()
        return f"cluster: {len(workers)} workers, {self.n_threads} threads at {self.client.scheduler.address}"

    def close(self) -> None:
        self._assigned, self._source = {}, None

    def total(self, visit: Visit, source: Source) -> Totals:
        if source is not self._source:
            self._assigned, self._source = {}, source
        number = next(self._passes)
        for attempt in range(ATTEMPTS):
            self.n_attempts += 1
            try:
                return self._attempt(visit, source, f"{self._run}-{number}-{attempt}")
            except DsoftmaxError:
                raise
            except LOST as lost:
                self._assigned = {}
                last = lost
            except RuntimeError as error:  # the scheduler unpickles what it is given
                if "deserialization" not in str(error):
                    raise
                raise self._different("the scheduler") from error
        raise ClusterError(
            f"A pass was lost {ATTEMPTS} times; the last time with {type(last).__name__}: {last}. Look at the workers' logs: "
            "workers that die at the same work mostly lack memory. Give them more, or store X in smaller chunks."
        )

    def _attempt(self, visit: Visit, source: Source, key: str) -> Totals:
        submit = self._submit
        plan = self._plan(source)
        largest = int(source.chunk_bytes.max(initial=1))
        point: Any = visit
        if len(plan) > 1 and len(packed := pickle.dumps(visit)) > INLINE_BYTES:
            point = submit(pickle.loads, packed, key=f"dsoftmax-point-{key}")
            self.n_tasks += 1
        futures: list[Future] = []
        for i, one in enumerate(plan):
            where = {"workers": [one.worker], "allow_other_workers": True}
            futures.append(submit(_visit_share, point, one.share, largest, key=f"dsoftmax-visit-{key}-{i}", **where))
        self.n_tasks += len(futures)
        keep = list(futures)
        for level in itertools.count():
            if len(futures) == 1:
                break
            groups = [futures[i : i + FAN_IN] for i in range(0, len(futures), FAN_IN)]
            futures = [submit(_merge, group, key=f"dsoftmax-merge-{key}-{level}-{i}") for i, group in enumerate(groups)]
            self.n_tasks += len(futures)
            keep += futures
        try:
            return self._result(futures[0])
        except BaseException:
            self.client.cancel(keep, force=True)
            raise

    def _submit(self, function: Any, *args: Any, **options: Any) -> Future:
        with warnings.catch_warnings():  # arrays in memory and wide models are large, and have to travel
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self.client.submit(function, *args, pure=False, **options)

    def _plan(self, source: Source) -> list[Assigned]:
        """Give each worker its share; those who have it keep it, and while no worker comes or goes nothing is planned anew."""
        workers = self._wait_for_workers()
        by_name = {str(info["name"]): (address, info) for address, info in workers.items()}
        names = sorted(by_name)
        team = {name: (by_name[name][0], by_name[name][1]["nthreads"]) for name in names}
        if self._assigned and team == self._team:
            return self._in_order()
        self._check_versions([address for name, (address, _) in by_name.items() if name not in self._assigned])
        held = self._held(source, {address: name for name, (address, _) in by_name.items()})
        if held is None:
            parts = assign(names, [by_name[name][1]["nthreads"] for name in names], source.chunk_bytes)
        else:
            parts = [np.flatnonzero(held == name) for name in names]
        assigned: dict[str, Assigned] = {}
        for name, chunks in zip(names, parts, strict=True):
            address, info = by_name[name]
            mine = self._assigned.get(name)
            if mine is not None and mine.worker == address and np.array_equal(mine.chunks, chunks):
                assigned[name] = mine
            elif len(chunks):
                numbers = [int(chunk) for chunk in chunks]
                needs = [list(source.needs(chunk)) for chunk in numbers]
                share = self._submit(
                    _take_share,
                    source.share(numbers),
                    numbers,
                    needs if any(needs) else [],
                    key=f"dsoftmax-share-{self._run}-{uuid.uuid4().hex[:8]}",
                    workers=[address],
                    allow_other_workers=True,
                )
                assigned[name] = Assigned(address, str(info["host"]), chunks, share)
        self._assigned, self._team = assigned, team
        return self._in_order()

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

        def version() -> str:  # inside this method, so that it travels whole and not as a name in dsoftmax
            try:
                from dsoftmax import __version__
            except ImportError:
                return "none"
            return __version__

        for address, found in self.client.run(version, workers=list(addresses)).items():
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
        self._wait(everything)
        holders = self.client.who_has(everything)
        first = sorted(names.values())[0]
        owner = np.full(len(needs), first, object)
        for chunk, futures in enumerate(needs):
            homes = [names[address] for future in futures for address in holders.get(future.key, ()) if address in names]
            if homes:
                owner[chunk] = homes[0]
        return owner

    def _workers(self) -> dict[str, Any]:
        return dict(self.client.scheduler_info(n_workers=-1)["workers"])

    def _wait_for_workers(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.timeout
        while True:
            if self.client.status == "running":
                workers = self._workers()
                ready = {a: w for a, w in workers.items() if w.get("status") in (None, "running", "init")}
                if ready or (workers and time.monotonic() > deadline):
                    return ready or workers
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"The cluster at {self._address()} has had no worker for {self.timeout:g} s (client: {self.client.status}). "
                    "Start one with `dask worker ADDRESS`, then run the same command again: it goes on from the last pass."
                )
            time.sleep(0.1)

    def _result(self, future: Future) -> Totals:
        self._wait([future])
        return future.result(timeout=self.timeout)  # type: ignore[no-any-return]

    def _wait(self, futures: Sequence[Future]) -> None:
        """Wait until the futures are done, as long as there are a scheduler and a worker."""
        alone_since: float | None = None
        while True:
            try:
                wait(futures, timeout=2.0)
                return
            except TimeoutError:
                alive = self.client.status == "running" and bool(self._workers())
                alone_since = None if alive else alone_since or time.monotonic()
                if alone_since is not None and time.monotonic() - alone_since > self.timeout:
                    raise ClusterError(
                        f"The cluster at {self._address()} has not answered or had no worker for {self.timeout:g} s in the "
                        "middle of a pass. Start it again, then run the same command: it goes on from the last pass."
                    ) from None

    def _address(self) -> str:
        return getattr(self.client.scheduler, "address", "an unknown address")


def _take_share(share: Share, chunks: Sequence[int], held: Sequence[Sequence[Any]]) -> tuple[Share, Sequence[int]]:
    """Runs on the worker that keeps the share and its chunks; blocks that live on the cluster are bound to it here."""
    if held:
        share = share.bind(dict(zip(chunks, held, strict=True)))  # type: ignore[attr-defined]
    return share, chunks


def _visit_share(visit: Visit, taken: tuple[Share, Sequence[int]], largest: int) -> Totals:
    """Runs on a worker: a pass over its share on all its threads, within its memory limit."""
    (share, chunks), worker = taken, get_worker()
    limit = worker.memory_manager.memory_limit or None  # type: ignore[attr-defined]
    n_threads, read_ahead = plan_threads(worker.state.nthreads, len(chunks), np.array([largest]), limit)
    return visit_chunks(visit, share, chunks, n_threads, read_ahead)


def _merge(parts: Sequence[Totals]) -> Totals:
    """Runs on a worker: adds up to `FAN_IN` totals, which stay as they are."""
    total = Totals()
    for part in parts:
        total.merge(part)
    return total


def is_client(candidate: Any) -> bool:
    """Return whether this is a dask client."""
    return isinstance(candidate, Client)


def active_client(required: bool) -> Client | None:
    """Return the client that is active in this process.

    Raises
    ------
    OptionError
        There is none, and one is required.
    """
    try:
        return default_client()
    except ValueError:
        if not required:
            return None
        raise OptionError(
            "engine='cluster' needs an active dask client, and there is none. Make one first "
            "(from dask.distributed import Client; Client(...)), or pass it: engine=client."
        ) from None
