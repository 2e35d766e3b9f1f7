"""Schedulers that are killed or frozen: an error in limited time, and a run that can be resumed."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from local_workers import SETTINGS, SIGNALS
from mischief import at_pass
from outcomes import outcome

import dsoftmax
from dsoftmax.cli.program import main
from dsoftmax.engines.cluster.connect import connected
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.errors import ClusterError
from dsoftmax.training.loop import train

pytestmark = [SIGNALS, pytest.mark.usefixtures("quick"), pytest.mark.timeout(100)]


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextmanager
def own_scheduler(place, n_workers):
    """Run a scheduler and workers as processes of their own; yield the scheduler and its file."""
    place.mkdir()
    file = place / "scheduler.json"
    path = str(Path(dsoftmax.__file__).parents[1])
    options = {**QUIET, "cwd": place, "env": {**os.environ, "PYTHONPATH": path}}
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    processes = [
        subprocess.Popen(
            [*dask, "scheduler", "--port", "0", "--host", "127.0.0.1", *common], **options
        )
    ]
    for _ in range(n_workers):
        processes.append(
            subprocess.Popen([*dask, "worker", "--no-nanny", "--nthreads", "1", *common], **options)
        )
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield processes[0], file
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


TRAIN = (
    "train",
    "rows.zarr",
    "--features",
    "X",
    "--labels",
    "y",
    "--solver",
    "gradient-descent",
    "--tol",
    "0",
)
TRAIN = (*TRAIN, "--max-iter", "20", "--out")


def test_a_command_whose_scheduler_is_killed_says_how_to_resume_and_ends_with_the_same_bits(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.zarr").symlink_to(folder)
    monkeypatch.setattr(
        "dsoftmax.engines.cluster.connect.ClusterEngine", partial(ClusterEngine, timeout=3.0)
    )
    assert CliRunner().invoke(main, [*TRAIN, "whole", "--engine", "serial"]).exit_code == 3
    killed = []

    def kill(scheduler):
        history = Path("run/history.jsonl")
        while not history.exists() or history.read_text().count("\n") < 5:
            time.sleep(0.01)
        scheduler.kill()
        killed.append(time.monotonic())

    with own_scheduler(tmp_path / "first", 2) as (scheduler, file):
        thread = threading.Thread(target=kill, args=[scheduler], daemon=True)
        thread.start()
        result = CliRunner().invoke(main, [*TRAIN, "run", "--scheduler-file", str(file)])
        assert time.monotonic() - killed[0] < 15
    assert result.exit_code == 1, result.output
    assert "run the same command" in result.stderr
    assert "Traceback" not in result.output
    assert 5 <= Path("run/history.jsonl").read_text().count("\n") < 20
    with own_scheduler(tmp_path / "second", 1) as (_, file):
        result = CliRunner().invoke(main, [*TRAIN, "run", "--scheduler-file", str(file)])
    assert result.exit_code == 3, result.output
    assert outcome("run") == outcome("whole")


def test_a_frozen_scheduler_is_an_error_in_limited_time(source, tmp_path):
    with (
        own_scheduler(tmp_path / "frozen", 1) as (scheduler, file),
        connected(None, str(file)) as engine,
    ):
        engine.waiting.timeout = 2.0
        moments = []

        def freeze():
            scheduler.send_signal(signal.SIGSTOP)
            moments.append(time.monotonic())

        try:
            with pytest.raises(ClusterError, match=r"limit: 2 s.*run the same command"):
                train(source, engine, SETTINGS, watchers=[at_pass(3, freeze)])
            assert time.monotonic() - moments[0] < 10
        finally:
            scheduler.send_signal(signal.SIGCONT)
