"""Parts of distributed that are private, or that its documentation does not fix.

The rest of the package uses documented names of distributed only. Each name here says what it
stands for, and `tests/compat/test_distributed_compat.py` says which one broke.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import Client, Future, Worker
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError
from distributed.protocol import pickle
from distributed.scheduler import KilledWorker

LOST = (KilledWorker, CancelledError, CommClosedError, OSError)
"""Errors that dask raises when a worker or a connection is lost. TimeoutError is an OSError."""
CLOSED = ClosedClientError
"""Error that dask raises when the client has given up its scheduler."""
CANCEL_SECONDS = 5.0
"""Limit of a request to cancel, in seconds: a scheduler that is lost has nothing to cancel."""
dumps, loads = pickle.dumps, pickle.loads
"""Pickle as dask does: with cloudpickle if pickle cannot."""


@dataclass(frozen=True)
class WorkerInfo:
    """A worker, as its scheduler describes it.

    Attributes
    ----------
    name : str
        Unique in a cluster, and the same after a nanny has restarted the worker.
    address, host : str
    directory : str
        Local directory, which distinguishes the worker from a later one at the same address.
    n_threads : int
    memory_limit : int or None
        Bytes; None for no limit.
    status : str
        "running", "init", "paused" or "closing".
    last_seen : float
        Time of the last heartbeat on the scheduler's clock, in seconds.
    """

    name: str
    address: str
    host: str
    directory: str
    n_threads: int
    memory_limit: int | None
    status: str
    last_seen: float


def workers_of(client: Client, timeout: float) -> dict[str, WorkerInfo]:
    """Ask the scheduler for all its workers, by address.

    `Client.scheduler_info` answers from a copy that is seconds old, and lists five workers
    unless told otherwise.

    Raises
    ------
    TimeoutError, OSError
        The scheduler does not answer within ``timeout`` seconds.
    """
    found = _sync(client, client.scheduler.identity, timeout, n_workers=-1)["workers"]
    return {address: _described(address, info) for address, info in found.items()}


def _described(address: str, info: dict[str, Any]) -> WorkerInfo:
    return WorkerInfo(
        str(info["name"]),
        address,
        str(info["host"]),
        str(info["local_directory"]),
        info["nthreads"],
        info.get("memory_limit") or None,
        info["status"],
        info["last_seen"],
    )


def holders_of(client: Client, keys: Sequence[str], timeout: float) -> dict[str, Sequence[str]]:
    """Return the addresses of the workers that store the result of each key.

    `Client.who_has` has no limit of time.
    """
    return dict(_sync(client, client.scheduler.who_has, timeout, keys=list(keys)))


def gathered(client: Client, futures: Sequence[Future], timeout: float) -> list[Any]:
    """Return the results of futures that are done, or raise TimeoutError.

    `Client.gather` has no limit of time.
    """
    return list(_sync(client, client._gather, timeout, list(futures)))


def run_on(
    client: Client, function: Callable[[], Any], addresses: Sequence[str], timeout: float
) -> dict[str, Any]:
    """Call a function on workers outside of tasks, and return its results by address.

    `Client.run` has no limit of time.
    """
    return dict(_sync(client, client._run, timeout, function, workers=list(addresses)))


def cancel(client: Client, futures: Sequence[Future]) -> None:
    """Cancel futures, also if other clients wait for them; a lost scheduler is no error.

    `Client.cancel` has no limit of time.
    """
    with suppress(Exception):
        _sync(client, client._cancel, CANCEL_SECONDS, list(futures), force=True)


def _sync(
    client: Client, call: Callable[..., Any], timeout: float, *args: Any, **options: Any
) -> Any:
    """Run a coroutine of the client from another thread; TimeoutError after ``timeout`` seconds."""
    return client.sync(call, *args, callback_timeout=timeout, **options)


def submit(client: Client, function: Any, *args: Any, **options: Any) -> Future:
    """Submit a task without the warning of large arguments.

    Arrays in memory and wide models are large, and have to be sent.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        return client.submit(function, *args, pure=False, **options)


def address_of(client: Client) -> str:
    """Return the scheduler's address; a client that gave it up has none."""
    return getattr(client.scheduler, "address", "an unknown address")


def status_of(client: Client) -> str:
    """Return "running", "connecting" or "closing", or "closed" if it gave its scheduler up.

    The attribute is not documented.
    """
    return str(client.status)


def is_unpickling(error: RuntimeError) -> bool:
    """Return whether the scheduler could not unpickle what it was sent: it lacks this package."""
    return "deserialization" in str(error)


def is_wanted(worker: Worker, key: str) -> bool:
    """Return whether somebody still waits for a task that runs on this worker.

    Dask cannot stop a function that runs. It marks the task as cancelled, or forgets it.
    """
    task = worker.state.tasks.get(key)
    return task is not None and task.state != "cancelled"


def threads_of(worker: Worker) -> int:
    """Return the threads on which this worker runs tasks."""
    return int(worker.state.nthreads)


def memory_of(worker: Worker) -> tuple[int | None, list[float]]:
    """Return the memory limit of this worker, and the fractions at which dask spills and pauses.

    Returns
    -------
    limit : int or None
        Bytes; None for no limit.
    fractions : list of float
        Fractions that are switched on.
    """
    manager: Any = worker.memory_manager
    fractions = [manager.memory_spill_fraction, manager.memory_pause_fraction]
    return manager.memory_limit or None, [float(one) for one in fractions if one]


def shares_process(worker: Worker) -> bool:
    """Return whether this worker runs in the process of its client, as with ``processes=False``."""
    return str(worker.address).startswith("inproc")
