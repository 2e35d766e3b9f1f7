"""SIGINT and SIGTERM at any moment of a process: no bit changes, and no process is left behind."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import DATA, DEMO, FOUR_PASSES, run
from faulty_disk import contents, drafts, require_whole
from outcomes import outcome
from processes import LAST_WORDS, disturb, ended, send, start, wait_for_handlers

from dsoftmax.cli.program import interrupts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

LONG = (
    "train",
    *DATA,
    *["--solver", "gradient-descent", "--tol", "0", "--max-iter", "60", "--out", "run"],
)
CHAOS_SECONDS = float(os.environ.get("DSOFTMAX_CHAOS_SECONDS", "120"))
"""Duration of the chaos tests together, in seconds."""
ENDS = ("To continue", interrupts.NOTHING, "Stopped at once")
"""Messages of a command that a signal stopped."""


@pytest.fixture(scope="module")
def long_run(data, tmp_path_factory):
    """The files of an undisturbed run of many passes, and its duration in seconds."""
    home = tmp_path_factory.mktemp("long")
    (home / "data.zarr").symlink_to(data)
    process = start(*LONG, cwd=home)
    wait_for_handlers(process)
    started = time.monotonic()
    code, _, stderr = ended(process)
    assert code == 3, stderr
    return outcome(home / "run"), time.monotonic() - started


def disturb_and_resume(rng, long_run, times, *engine):
    """Send signals to a run several times, then let it end.

    Return the number of commands that a signal stopped before their end.
    """
    expected, seconds = long_run
    seconds += 4.0 if engine else 0.1
    interrupted = 0
    for _ in range(times):
        code, stdout, stderr = disturb(rng, seconds, *LONG, *engine)
        assert code == 3, stderr
        if LAST_WORDS["train"][0] not in stdout:
            interrupted += 1
            assert any(message in stderr for message in ENDS), stderr
        if Path("run").exists():
            require_whole("run")
    code, _, stderr = ended(start(*LONG))
    assert code == 3, stderr
    assert not drafts("run")
    assert outcome("run") == expected
    return interrupted


@pytest.mark.parametrize("seed", range(2))
def test_signals_at_any_moment_change_no_bit(home, long_run, seed):
    disturb_and_resume(np.random.default_rng(seed), long_run, 2)


def test_signals_at_any_moment_leave_no_worker_process_behind(home, long_run):
    disturb_and_resume(np.random.default_rng(10), long_run, 2, "--workers", "2")


def test_a_signal_before_the_run_begins_leaves_no_file(home):
    rng = np.random.default_rng(3)
    for number in (signal.SIGINT, signal.SIGTERM):
        begun = True
        for _ in range(5):  # on a busy machine, the signal may arrive after the run began
            process = start(*LONG)
            time.sleep(rng.uniform(0, 0.1))
            send(process, signal.SIGSTOP, group=False)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            begun = Path("run").exists()
            send(process, number, group=False)
            send(process, signal.SIGCONT, group=False)
            code, _, stderr = ended(process)
            # Before our first line, the interpreter may lose the signal in a destructor.
            lost = "Exception ignored" in stderr and "KeyboardInterrupt" in stderr
            if not (begun or lost or Path("run").exists()):
                break
            shutil.rmtree("run", ignore_errors=True)
        assert not begun
        assert not lost
        assert code in (3, -number) or "dsoftmax/" not in stderr.replace("dsoftmax/__init__", "")
        assert not Path("run").exists()


def predict_disturbed(rng, seconds, before, expected):
    """Disturb predict, and return whether a signal stopped it."""
    words = ("predict", "run", *DATA[:3], "--out", "out.zarr", "--overwrite")
    code, _, stderr = disturb(rng, seconds, *words)
    assert code in (0, 3), stderr
    assert contents(Path("out.zarr")) in ((expected,) if code == 0 else (before, expected))
    assert "Stopped at once" in stderr or not list(Path().glob(".out.zarr*"))
    return code == 3


@pytest.fixture
def predictions(home):
    """The files of predictions that predict replaces, and the files that it writes."""
    assert run(*FOUR_PASSES).exit_code == 3
    predict = ("predict", "run", *DATA[:3], "--out")
    assert run(*predict, "expected.zarr").exit_code == 0
    assert run(*predict, "out.zarr", "--probabilities").exit_code == 0
    return contents(Path("out.zarr")), contents(Path("expected.zarr"))


def test_after_a_signal_predictions_are_the_old_or_the_new_ones(predictions):
    rng = np.random.default_rng(4)
    for _ in range(3):
        predict_disturbed(rng, 1.2, *predictions)


def demo_disturbed(rng, seconds, *words):
    """Disturb the demo, and return whether a signal stopped it."""
    code, _, stderr = disturb(rng, seconds, *words)
    assert code in (0, 3), stderr
    if Path("demo/run").exists():
        require_whole("demo/run")
    return code == 3


def test_the_demo_resumes_after_signals(home):
    assert run(*DEMO[:-1], "whole").exit_code == 0
    rng = np.random.default_rng(6)
    demo_disturbed(rng, 2.5, *DEMO)
    code, _, stderr = ended(start(*DEMO))
    assert code == 0, stderr
    assert outcome("demo/run") == outcome("whole/run")
    assert not drafts("demo")


@pytest.mark.chaos
@pytest.mark.timeout(CHAOS_SECONDS + 600)
@pytest.mark.parametrize("what", ["threads", "workers", "predict", "demo"])
def test_signals_for_minutes(home, long_run, predictions, what, monkeypatch, record_property):
    """Disturb each command for a quarter of the seconds.

    The printed seeds repeat a failure.
    """
    deadline = time.monotonic() + CHAOS_SECONDS / 4
    if what == "demo":
        assert run(*DEMO[:-1], "whole").exit_code == 0
    seed = tries = interrupted = 0
    while time.monotonic() < deadline:
        print(f"seed {seed}")
        rng = np.random.default_rng([99, seed])
        place = home / f"{what}{seed}"
        place.mkdir()
        (place / "data.zarr").symlink_to(home / "data.zarr")
        if what in ("threads", "workers"):
            monkeypatch.chdir(place)
            engine = ("--workers", "2") if what == "workers" else ()
            interrupted += disturb_and_resume(rng, long_run, 4, *engine)
            tries += 4
        elif what == "predict":
            monkeypatch.chdir(home)
            interrupted += predict_disturbed(rng, 1.3, *predictions)
            for entry in Path().glob(".out.zarr*"):  # left by a command that stopped at once
                subprocess.run(["rm", "-r", str(entry)], check=True)
            if contents(Path("out.zarr")) != predictions[0]:
                words = ("--out", "out.zarr", "--probabilities", "--overwrite")
                assert run("predict", "run", *DATA[:3], *words).exit_code == 0
            tries += 1
        else:
            monkeypatch.chdir(place)
            for _ in range(3):
                interrupted += demo_disturbed(rng, 3.0, *DEMO)
            code, _, stderr = ended(start(*DEMO))
            assert code == 0, stderr
            assert outcome("demo/run") == outcome(home / "whole/run")
            assert not drafts("demo")
            tries += 3
        seed += 1
    print(f"{what}: {tries} commands disturbed, {interrupted} stopped")
    record_property("disturbed", tries)
    assert tries
