"""Clusters that cannot be reached, lack workers or have another version; the active client."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from opening import opened

from dsoftmax.engines.choose import make_engine
from dsoftmax.engines.cluster.connect import connected
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.errors import ClusterError, OptionError
from dsoftmax.training.loop import Settings, train

SETTINGS = Settings(C=1.0, tol=1e-5, solver="lbfgs")


def test_a_cluster_without_workers_is_an_error_in_limited_time(store: zarr.Group) -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", processes=False) as cluster,
        Client(cluster) as client,
    ):
        started = time.monotonic()
        with pytest.raises(ClusterError, match="has had no worker for 1 s"):
            train(opened(store["X"], store["y"]), ClusterEngine(client, timeout=1.0), SETTINGS)
        assert time.monotonic() - started < 20


def test_a_closed_client_is_named() -> None:
    client = Client(processes=False, n_workers=1, dashboard_address=":0")
    client.close()
    with pytest.raises(ClusterError, match="The dask client is closed"):
        make_engine(client)


def test_a_scheduler_that_does_not_answer_is_an_error_in_limited_time() -> None:
    started = time.monotonic()
    with (
        pytest.raises(
            ClusterError, match=r"No dask scheduler answered at tcp://127\.0\.0\.1:9 within 2 s"
        ),
        connected("tcp://127.0.0.1:9", None, timeout=2),
    ):
        pass
    assert time.monotonic() - started < 20
    with (
        pytest.raises(ClusterError, match="There is no scheduler file"),
        connected(None, "no-such-file.json"),
    ):
        pass


@pytest.mark.parametrize("without", ["scheduler", "worker"])
def test_a_cluster_without_dsoftmax_is_an_error_that_says_so(
    without: str, store: zarr.Group, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    hidden = "import sys; sys.modules['dsoftmax'] = None; from dask.cli import run_cli; run_cli()"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    processes = []
    for name, options in (
        ("scheduler", ["--port", "0"]),
        ("worker", ["--no-nanny", "--nthreads", "1"]),
    ):
        start = ["-c", hidden] if name == without else ["-m", "dask"]
        command = [sys.executable, *start, name, *common, *options]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with connected(None, str(file), timeout=30) as engine:
            engine.client.wait_for_workers(1, timeout=60)
            with pytest.raises(ClusterError, match="Install the same version"):
                train(opened(store["fine"], store["y"]), engine, SETTINGS)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_worker_with_another_version_is_refused(
    two_workers: ClusterEngine, store: zarr.Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsoftmax.engines.cluster.versions.__version__", "0.0.0")
    engine = ClusterEngine(two_workers.client)
    with pytest.raises(
        ClusterError, match=r"dsoftmax 0\.0\.0 runs here, and not at the worker at tcp"
    ):
        train(opened(store["fine"], store["y"]), engine, SETTINGS)


def test_the_engine_option_finds_the_active_client(two_workers: ClusterEngine) -> None:
    assert isinstance(make_engine("auto"), ClusterEngine)
    assert isinstance(make_engine(two_workers.client), ClusterEngine)
    with pytest.raises(OptionError, match=r"Did you mean 'threads'\?"):
        make_engine("thread")


def test_a_fit_inside_a_task_does_not_wait_for_the_worker_that_runs_it() -> None:
    def fit(engine: str) -> str:
        from distributed import get_client

        get_client()  # as joblib's dask backend does
        X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
        made = make_engine(engine)
        train(opened(X, y), made, SETTINGS)
        return type(made).__name__

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(fit, "auto").result(timeout=60) == "ThreadsEngine"
        with pytest.raises(OptionError, match="inside a task of a dask worker"):
            client.submit(fit, "cluster").result(timeout=60)
