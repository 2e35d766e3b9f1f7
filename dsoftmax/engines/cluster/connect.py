"""A dask cluster: the active client, a scheduler at an address, or worker processes of our own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, LocalCluster, default_client, get_worker

from dsoftmax.engines.cluster.address import Certificates, address_in, require_answer
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.limits import equal_parts
from dsoftmax.errors import OptionError
from dsoftmax.system.process import available_cores


def is_client(candidate: Any) -> bool:
    """Return whether this is a dask client."""
    return isinstance(candidate, Client)


def active_client(required: bool) -> Client | None:
    """Return the client that is active in this process.

    A task has none: a pass inside a task would wait for the worker that runs the task.

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
            "engine='cluster' inside a task of a dask worker, as under joblib's dask backend, "
            "would wait for that worker itself. Pass engine='threads' (or 'auto', which uses "
            "threads here), or fit outside of tasks."
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


@contextmanager
def connected(
    scheduler: str | None,
    scheduler_file: str | None,
    timeout: float = 15.0,
    spool: SpoolTo | None = None,
    certificates: Certificates | None = None,
) -> Iterator[ClusterEngine]:
    """Connect to a running scheduler.

    Parameters
    ----------
    scheduler : str, optional
        Address, such as ``tcp://10.0.0.1:8786``.
    scheduler_file : str, optional
        JSON file that ``dask scheduler --scheduler-file`` writes.
    timeout : float
        Limit of the wait for an answer, in seconds.
    spool : SpoolTo, optional
        See `ClusterEngine`.
    certificates : Certificates, optional
        Files of TLS. Those that dask's settings name when None.

    Raises
    ------
    ClusterError
        No scheduler answers in time, the file holds no address, or certificates are missing.
    """
    where = address_in(scheduler_file) if scheduler_file is not None else str(scheduler)
    security = (certificates or Certificates()).security(where)
    require_answer(where, timeout, security)
    with Client(where, timeout=timeout, security=security) as client:
        yield ClusterEngine(client, spool=spool)


@contextmanager
def local_cluster(
    n_workers: int | None = None, memory_limit: int | None = None, spool: SpoolTo | None = None
) -> Iterator[ClusterEngine]:
    """Start worker processes on this machine, and stop them at the end.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes, which share the cores of this machine; one for each core when None.
    memory_limit : int, optional
        Bytes for all of them and this process together, in equal parts; no limit when None.
    spool : SpoolTo, optional
        See `ClusterEngine`.

    Raises
    ------
    OptionError
        ``n_workers`` is not positive.
    """
    cores = available_cores()
    n_workers = cores if n_workers is None else n_workers
    if n_workers < 1:
        raise OptionError(f"workers is {n_workers}; expected at least one. Pass another number.")
    # The memory of a worker is planned before anything is read (`dsoftmax.engines.plan`).
    # Dask's own remedies stay off: they would spill the blocks of every pass, or wait for
    # memory that is used on purpose. Killing the worker stays on.
    settings = {
        f"distributed.worker.memory.{remedy}": False for remedy in ("target", "spill", "pause")
    }
    each = equal_parts(n_workers, memory_limit)
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=max(cores // n_workers, 1),
            processes=True,
            dashboard_address=":0",
            memory_limit=each or 0,
            silence_logs=logging.CRITICAL,  # the caller gets errors without the workers' logs
        ) as cluster,
        Client(cluster) as client,
    ):
        yield ClusterEngine(client, driver_limit=each, spool=spool)
