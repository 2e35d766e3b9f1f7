"""Reach a dask cluster, or start one on this machine."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster

from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.plan import equal_parts
from dsoftmax.errors import ClusterError, OptionError
from dsoftmax.system.process import available_cores


@contextmanager
def connected(
    scheduler: str | None,
    scheduler_file: str | None,
    timeout: float = 15.0,
    spool: SpoolTo | None = None,
) -> Iterator[ClusterEngine]:
    """Connect to a running scheduler.

    Parameters
    ----------
    scheduler : str, optional
        Address, such as ``tcp://10.0.0.1:8786``.
    scheduler_file : str, optional
        JSON file that ``dask scheduler --scheduler-file`` writes.
    timeout : float
        Seconds to wait for an answer.
    spool : SpoolTo, optional
        See `ClusterEngine`.

    Raises
    ------
    ClusterError
        No scheduler answers in time, or the file does not exist.
    """
    if scheduler_file is not None and not Path(scheduler_file).is_file():
        raise ClusterError(
            f"There is no scheduler file {scheduler_file}. `dask scheduler --scheduler-file {scheduler_file}` writes it."
        )
    where = scheduler or f"the address in {scheduler_file}"
    try:
        options = {"scheduler_file": scheduler_file} if scheduler_file else {"address": scheduler}
        client = Client(**options, timeout=timeout)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No dask scheduler answered at {where} within {timeout:g} s ({type(error).__name__}). "
            "Check the address, and that `dask scheduler` runs there and can be reached from here."
        ) from error
    with client:
        yield ClusterEngine(client, spool=spool)


@contextmanager
def local_cluster(
    n_workers: int | None = None, memory_limit: int | None = None, spool: SpoolTo | None = None
) -> Iterator[ClusterEngine]:
    """Start worker processes on this machine, and stop them at the end.

    Parameters
    ----------
    n_workers : int, optional
        Processes; the cores of this machine when None. The cores are divided among them.
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
        raise OptionError(f"workers={n_workers}: a cluster needs at least one worker process.")
    # What a worker takes is planned before anything is read (engine.memory), so that dask's own remedies, which would rewrite the
    # blocks of every pass or wait for memory that is meant to be taken, stay off. The last one, to kill, is left.
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
            silence_logs=logging.CRITICAL,  # errors come back to the caller; their traces on the workers are noise
        ) as cluster,
        Client(cluster) as client,
    ):
        yield ClusterEngine(client, driver_limit=each, spool=spool)
