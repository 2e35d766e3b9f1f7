"""Worker processes on this machine, small data for them, and the bits of a run."""

import os
import time
from contextlib import ExitStack, contextmanager

import dask
import pytest
from distributed import Client, LocalCluster
from outcomes import MEASURED
from visits import Visiting

from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.training.settings import Settings

SIGNALS = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
N, P, K, ROWS = 24_000, 6, 4, 500


SETTINGS = Settings(tol=1e-3, solver="lbfgs")


def bits(result):
    """θ, F and ∇F to the last bit, and the history without its measurements."""
    state = result.run.state
    history = [
        {name: value for name, value in record.as_dict().items() if name not in MEASURED}
        for record in result.history
    ]
    return result.model.theta.tobytes(), state.value.hex(), state.gradient.tobytes(), history


@contextmanager
def workers(n, **options):
    """Run worker processes of one thread each, with a client."""
    defaults = {"threads_per_worker": 1, "processes": True, "memory_limit": 0}
    quiet = {"dashboard_address": ":0", "silence_logs": 60}
    # Dask closes the nanny of a lost worker for good if the worker is still lost after this time.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with (
        patient,
        LocalCluster(n_workers=n, **{**defaults, **options}, **quiet) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


class Pair:
    """Two workers for many tests; new ones if their nannies do not restart them after a test."""

    def __init__(self):
        self.stack, self.client = ExitStack(), None

    def is_whole(self, seconds):
        deadline = time.monotonic() + seconds
        while self.client is not None and time.monotonic() < deadline:
            found = self.client.scheduler_info(n_workers=-1)["workers"].values()
            if sum(one["status"] == "running" for one in found) == 2:
                return True
            time.sleep(0.1)
        return False

    def renew(self):
        self.stack.close()
        _, self.client = self.stack.enter_context(workers(2))


@contextmanager
def engine_of(client, **options):
    engine = ClusterEngine(client, **{"timeout": 20.0, **options})
    try:
        yield engine
    finally:
        engine.close()


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@Visiting
def rows_and_sum(block):
    """The rows and column sums of a leaf."""
    return {"rows": block.n_rows, "sum": block.X.sum(axis=0)}


def pids_of(client):
    """The process of each worker, by the worker's name."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {workers[address]["name"]: pid for address, pid in client.run(os.getpid).items()}


def shares_of(engine):
    """The share that each worker has, by the worker's name."""
    return {one.hand.name: one.hand for one in engine.placement.in_order}


def ours(dask_scheduler=None):
    """The keys of this package on the scheduler."""
    return [key for key in dask_scheduler.tasks if str(key).startswith("dsoftmax")]
