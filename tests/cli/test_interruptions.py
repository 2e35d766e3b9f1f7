"""KeyboardInterrupt at any write and any line of a command, raised in this process."""

import gc
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import DATA, FOUR_PASSES, run
from faulty_disk import Disk, all_points, drafts, lay_under, require_whole
from outcomes import outcome

import dsoftmax
from dsoftmax.cli.program import interrupts, main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def interrupt():
    if threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("late", "step"), [(False, 13), (True, 13), all_points(False), all_points(True)]
)
def test_an_interruption_at_any_write_changes_no_bit(home, monkeypatch, undisturbed, late, step):
    """The files survive it without the shield that delays signals while files are written."""
    for allowed in range(0, 1000, step):
        name = f"run{allowed}"
        disk = Disk(home / name, allowed, interrupt, late, once=True)
        with monkeypatch.context() as patch:
            lay_under(disk, patch)
            result = run(*FOUR_PASSES[:-1], name)
        assert result.exit_code == 3, result.output
        require_whole(home / name)
        assert run(*FOUR_PASSES[:-1], name).exit_code == 3
        assert not drafts(home / name)
        assert outcome(home / name) == undisturbed
        if disk.points <= allowed:
            return
    raise AssertionError("a run never ended")


SAVING = {
    str(Path(dsoftmax.__file__).parent / name)
    for name in ("runs/checkpoint.py", "system/files.py", "runs/directory.py", "runs/history.py")
}
"""Modules that write the files of a run."""


def interrupted_at_line(number, call):
    """Call, and raise KeyboardInterrupt at the line of this number of the modules that save.

    Return the number of their lines that ran.
    """
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        if frame.f_code.co_filename not in SAVING:
            return None
        if event == "line":
            seen += 1
            if seen == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return seen


def check_lines(home, undisturbed, numbers):
    """Check that a run interrupted at each of these lines resumes to the same bits."""
    for number in numbers:
        name = f"run{number}"
        results = []
        interrupted_at_line(
            number, lambda name=name, results=results: results.append(run(*FOUR_PASSES[:-1], name))
        )
        assert results[0].exit_code == 3, results[0].output
        assert "Traceback" not in results[0].output
        results.clear()
        gc.collect()  # the traceback may keep the locked file open; a process would close it
        if (home / name).exists():
            require_whole(home / name)
        assert run(*FOUR_PASSES[:-1], name).exit_code == 3
        assert not drafts(home / name)
        assert outcome(home / name) == undisturbed


BETWEEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""An interruption between the opening of a file and its with block cannot be caught.

The interpreter then closes the file, and warns.
"""


def lines_of_a_run():
    return interrupted_at_line(-1, lambda: run(*FOUR_PASSES[:-1], "lines"))


@BETWEEN
def test_an_interruption_at_some_lines_that_save_changes_no_bit(home, undisturbed):
    lines = lines_of_a_run()
    assert lines > 500
    some = np.random.default_rng(1).choice(np.arange(1, lines + 1), 20, replace=False)
    check_lines(home, undisturbed, some)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@BETWEEN
def test_an_interruption_at_any_line_that_saves_changes_no_bit(home, undisturbed):
    check_lines(home, undisturbed, range(1, lines_of_a_run() + 1))


def test_an_error_that_is_its_own_cause_is_raised_unchanged():
    error = RuntimeError("again")
    error.__cause__ = error
    with pytest.raises(RuntimeError, match="again"), interrupts.unwrapped():
        raise error
    other = RuntimeError("around")
    with pytest.raises(KeyboardInterrupt), interrupts.unwrapped():
        raise other from KeyboardInterrupt()


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_shield_delays_a_signal_and_a_second_signal_soon_after_is_ignored(number, monkeypatch):
    before, done = signal.getsignal(number), []
    with interrupts.handled():
        with pytest.raises(KeyboardInterrupt), interrupts.shielded(), interrupts.shielded():
            done.append(signal.raise_signal(number))
        assert done == [None]
        signal.raise_signal(number)  # ignored, soon after the first
        with pytest.raises(KeyboardInterrupt):  # the first is not forgotten
            interrupts.require_none()
        monkeypatch.setattr(interrupts, "GRACE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
    with interrupts.handled():
        interrupts.require_none()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_an_interruption_in_a_destructor_is_not_printed_and_not_lost():
    class Destroyed:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with interrupts.handled():
        Destroyed()
        with pytest.raises(KeyboardInterrupt):
            interrupts.require_none()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("dsoftmax.cli.open_data.open_data", interrupts.NOTHING),
        ("dsoftmax.cli.training_run.prepare", "To continue"),
    ],
)
def test_an_interruption_that_an_import_wraps_stops_the_command(
    home, monkeypatch, capsys, where, said
):
    class Interrupted:
        def __set_name__(self, owner, name):
            signal.raise_signal(signal.SIGINT)

    def import_something(*_, **__):
        class Imported:
            attribute = Interrupted()

    monkeypatch.setattr(where, import_something)
    with pytest.raises(SystemExit) as end:
        main(["train", *DATA, "--out", "run"])
    assert end.value.code == 3
    stderr = capsys.readouterr().err
    assert said in stderr
    assert "defect" not in stderr
