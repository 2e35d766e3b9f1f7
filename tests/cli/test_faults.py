"""A full disk, Ctrl-C and SIGTERM, at every point of a command: what was whole stays whole, and going on gives the same bits."""

import errno
import gc
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from opening import opened
from outcomes import outcome

import dsoftmax
from dsoftmax.cli.program import interrupts, main
from dsoftmax.errors import ReadError, WriteError
from dsoftmax.results.model import Model
from dsoftmax.results.stored_model import load_model, save_model
from dsoftmax.results.stored_predictions import write_predictions
from dsoftmax.runs.checkpoint import read_arrays
from dsoftmax.runs.directory import RunDirectory
from dsoftmax.runs.history import History

N, P, K, ROWS = 600, 4, 3, 150
DATA = ("data.zarr", "--features", "X", "--labels", "y")
WAIT = 60.0
"""Seconds that one command may take at most, whatever happens to it."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "data.zarr"
    rng = np.random.default_rng(5)
    X = rng.normal(size=(N, P)).astype(np.float32)
    y = (X @ rng.normal(size=(P, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)
    group = zarr.create_group(path)
    group.create_array("X", data=X, chunks=(ROWS, P))
    group.create_array("y", data=y, chunks=(ROWS,), config={"write_empty_chunks": True})
    return path


@pytest.fixture
def here(tmp_path, monkeypatch, data):
    (tmp_path / "data.zarr").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def drafts(path):
    """What no file of a run or of a group is named."""
    return [entry.name for entry in Path(path).rglob(".*") if entry.name != ".lock"] + list(
        Path(path).rglob("*.partial")
    )


def require_whole(path):
    """Every file that is there can be read."""
    directory = RunDirectory(Path(path))
    if directory.is_run():
        directory.read_asked()
    for name in ("checkpoint.npz", "statistics.npz"):
        if directory.file(name).exists():
            read_arrays(directory.file(name))
    if directory.file("model.zarr").exists():
        load_model(directory.file("model.zarr"))
    if directory.file("history.jsonl").exists():
        text = directory.file("history.jsonl").read_text()
        assert text == "" or text.endswith("\n")
        assert [json.loads(line)["pass"] for line in text.splitlines()] == list(
            range(1, text.count("\n") + 1)
        )


# A disk that gives up at a point of our choice


class Disk:
    """Counts what changes the files under a directory, and lets each of these points fail.

    Parameters
    ----------
    top : Path
    allowed : int
        Points that succeed.
    fail : callable
        Raises; called before the point, and with ``late`` after it.
    once : bool
        Whether only one point fails.
    """

    def __init__(self, top, allowed, fail, late=False, once=False):
        self.top, self.allowed, self.fail, self.late, self.once = (
            str(top),
            allowed,
            fail,
            late,
            once,
        )
        self.points = 0

    def due(self):
        self.points += 1
        return self.points == self.allowed + 1 if self.once else self.points > self.allowed

    @contextmanager
    def point(self, path):
        ours = str(Path(path).absolute()).startswith(self.top)
        due = ours and self.due()
        if due and not self.late:
            self.fail()
        yield
        if due and self.late:
            self.fail()


def lay_under(disk, patch):
    """Let ``disk`` see what is written with pathlib, open and os."""
    opened, wanted = io.open, ("w", "x", "a", "+")

    class File(io.FileIO):
        def write(self, data):
            view = memoryview(data).cast("B")
            if disk.points == disk.allowed and not disk.late and len(view) > 1:
                view = view[: len(view) // 2]  # as much as the disk still takes
                disk.points += 1
                return super().write(view)
            with disk.point(self.name):
                return super().write(view)

    def open_(file, mode="r", buffering=-1, encoding=None, *rest, **options):
        if isinstance(file, int) or not any(letter in mode for letter in wanted):
            return opened(file, mode, buffering, encoding, *rest, **options)
        plain = mode.replace("b", "").replace("t", "")
        raw = None
        try:
            with disk.point(file):
                raw = File(file, plain)
        except BaseException:
            if raw is not None:
                raw.close()
            raise
        if buffering == 0:
            return raw
        whole = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return whole if "b" in mode else io.TextIOWrapper(whole, encoding=encoding or "utf-8")

    def watched(function, number=0):
        def call(*args, **options):
            place = args[number]
            with disk.point(
                Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else place
            ):
                return function(*args, **options)

        return call

    patch.setattr(io, "open", open_)
    for name in ("fsync", "mkdir", "rename", "replace"):
        patch.setattr(os, name, watched(getattr(os, name)))


def full(code=errno.ENOSPC):
    def fail():
        raise OSError(code, os.strerror(code))

    return fail


TRAIN = (
    "train",
    *DATA,
    "--solver",
    "lbfgs",
    "--engine",
    "serial",
    "--tol",
    "0",
    "--max-iter",
    "3",
    "--out",
    "run",
)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    home = tmp_path_factory.mktemp("undisturbed")
    (home / "data.zarr").symlink_to(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert run(*TRAIN).exit_code == 3
    return outcome(home / "run")


def begin(name, passes):
    """Leave a run of two iterations, with its model, that the same command with more goes on from."""
    if passes:
        words = [word if word != "3" else "1" for word in TRAIN]
        assert run(*words[:-1], name).exit_code == 3


def all_points(*values):
    return pytest.param(*values, 1, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])


@pytest.mark.parametrize(
    ("code", "passes", "step"),
    [
        (errno.ENOSPC, 0, 11),
        (errno.ENOSPC, 2, 11),
        (errno.EDQUOT, 2, 37),
        (errno.EFBIG, 0, 37),
        (errno.EIO, 0, 37),
        all_points(errno.ENOSPC, 0),
        all_points(errno.ENOSPC, 2),
    ],
)
def test_a_disk_that_is_full_at_any_point_keeps_what_is_there_and_the_command_goes_on(
    here, monkeypatch, undisturbed, code, passes, step
):
    found = set()
    for allowed in range(0, 1000, step):
        name = f"run{allowed}"
        command = (*TRAIN[:-1], name)
        begin(name, passes)
        before = load_model(here / name / "model.zarr").theta.tobytes() if passes else None
        disk = Disk(here / name, allowed, full(code))
        with monkeypatch.context() as patch:
            lay_under(disk, patch)
            result = run(*command)
        assert "Traceback" not in result.output
        if result.exit_code == 1:
            assert result.stderr.count("Error: ") == 1
            for part in (
                name,
                "could not be written: " + os.strerror(code),
                "needed",
                "free there",
                "run the same again",
            ):
                assert part in result.stderr
            kept = RunDirectory(here / name).passes()
            assert (
                f"checkpoint after pass {kept} is kept"
                if kept
                else "No pass was complete" in result.stderr
            ) or not kept
            found.add(kept)
        assert not drafts(here / name)
        require_whole(here / name)
        if passes and (here / name / "model.zarr").exists():
            assert load_model(here / name / "model.zarr").theta.tobytes() in (
                before,
                undisturbed[0],
            )
        again = run(*command)
        assert again.exit_code == 3, again.output
        assert outcome(here / name) == undisturbed
        if disk.points <= allowed:
            break
    else:
        raise AssertionError("a run never ended")
    assert found  # some points were hit
    assert found >= {0, 1, 2, 3} or passes or step > 11


@pytest.mark.parametrize("step", [17, all_points()])
def test_a_disk_that_refuses_once_leaves_no_wrong_file(here, monkeypatch, undisturbed, step):
    for allowed in range(0, 1000, step):
        name = f"run{allowed}"
        disk = Disk(here / name, allowed, full(), once=True)
        with monkeypatch.context() as patch:
            lay_under(disk, patch)
            result = run(*TRAIN[:-1], name)
        assert result.exit_code in (1, 3), result.output
        require_whole(here / name)
        assert not drafts(here / name)
        assert run(*TRAIN[:-1], name).exit_code == 3
        assert outcome(here / name) == undisturbed
        if disk.points <= allowed:
            return


def interrupt():
    if threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("late", "step"), [(False, 13), (True, 13), all_points(False), all_points(True)]
)
def test_an_interruption_beside_any_write_changes_no_bit(
    here, monkeypatch, undisturbed, late, step
):
    """The files alone must bear it; that the command holds signals back while it writes is tested below."""
    for allowed in range(0, 1000, step):
        name = f"run{allowed}"
        disk = Disk(here / name, allowed, interrupt, late, once=True)
        with monkeypatch.context() as patch:
            lay_under(disk, patch)
            result = run(*TRAIN[:-1], name)
        assert result.exit_code == 3, result.output
        require_whole(here / name)
        assert run(*TRAIN[:-1], name).exit_code == 3
        assert not drafts(here / name)
        assert outcome(here / name) == undisturbed
        if disk.points <= allowed:
            return
    raise AssertionError("a run never ended")


SAVING = {
    str(Path(dsoftmax.__file__).parent / name)
    for name in ("runs/checkpoint.py", "system/files.py", "runs/directory.py", "runs/history.py")
}


def interrupted_at_line(number, call):
    """Call, with KeyboardInterrupt at a line of the modules that save; return how many lines they ran."""
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


def check_lines(here, undisturbed, numbers):
    for number in numbers:
        name = f"run{number}"
        results = []
        interrupted_at_line(
            number, lambda name=name, results=results: results.append(run(*TRAIN[:-1], name))
        )
        assert results[0].exit_code == 3, results[0].output
        assert "Traceback" not in results[0].output
        results.clear()
        gc.collect()  # a process that ends lets go of its lock; here the traceback may hold the file
        if (here / name).exists():
            require_whole(here / name)
        assert run(*TRAIN[:-1], name).exit_code == 3
        assert not drafts(here / name)
        assert outcome(here / name) == undisturbed


# Between the opening of a file and its with block no interruption can be caught; the interpreter closes it then, and warns.
BETWEEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def lines_of_a_run():
    return interrupted_at_line(-1, lambda: run(*TRAIN[:-1], "lines"))


@BETWEEN
def test_an_interruption_at_a_line_of_what_saves_changes_no_bit(here, undisturbed):
    lines = lines_of_a_run()
    assert lines > 500
    check_lines(
        here,
        undisturbed,
        np.random.default_rng(1).choice(np.arange(1, lines + 1), 20, replace=False),
    )


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@BETWEEN
def test_an_interruption_at_any_line_of_what_saves_changes_no_bit(here, undisturbed):
    check_lines(here, undisturbed, range(1, lines_of_a_run() + 1))


def contents(path):
    return {
        str(entry.relative_to(path)): entry.read_bytes()
        for entry in sorted(path.rglob("*"))
        if entry.is_file()
    }


@pytest.mark.parametrize("exchange", [True, False])
def test_models_and_predictions_are_replaced_whole_or_not_at_all(
    here, data, monkeypatch, rng, exchange
):
    if (
        not exchange
    ):  # as on systems that rename in two steps, where the first is taken back if the second fails
        monkeypatch.setattr("dsoftmax.system.files._exchange", lambda draft, path: False)
    source = opened(zarr.open_array(data / "X", mode="r"))
    old, new = (Model(rng.normal(size=(K, P + 1)), np.array(["a", "b", "c"])) for _ in range(2))
    writers = {
        "model.zarr": save_model,
        "out.zarr": lambda model, path, overwrite: write_predictions(
            model, source, path, with_probabilities=True, overwrite=overwrite
        ),
    }
    for name, write in writers.items():
        place = here / name
        write(new, here / "expected", overwrite=True)
        expected = contents(here / "expected")
        write(old, place, overwrite=False)
        before = contents(place)
        assert before != expected
        for allowed in range(0, 1000, 2):
            disk = Disk(here, allowed, full(), once=not exchange)
            with monkeypatch.context() as patch:
                lay_under(disk, patch)
                caught = []
                try:
                    write(new, place, overwrite=True)
                except WriteError as error:
                    caught.append(str(error))
            assert all(name in message and "free there" in message for message in caught)
            # If anything failed and nobody said so, it was the flush of a directory's names.
            assert contents(place) == (before if caught else expected)
            assert not drafts(here)
            if disk.points <= allowed:
                break
            write(old, place, overwrite=True)
        assert allowed > 5
        assert contents(place) == expected


def test_the_scene_of_the_demo_is_whole_or_not_there(here, monkeypatch):
    command = ("demo", "--memory", "768MiB", "--size", "0.001", "--dir", "demo")
    for allowed in (0, 3, 17):
        with monkeypatch.context() as patch:
            lay_under(Disk(here / "demo", allowed, full()), patch)
            result = run(*command)
        assert result.exit_code == 1, result.output
        assert "scene.zarr could not be written: No space left on device" in result.stderr
        assert not (here / "demo/scene.zarr").exists()
        assert not (here / "demo").exists() or not drafts(here / "demo")
    assert run(*command).exit_code in (0, 3)


def test_a_history_that_lacks_passes_of_the_checkpoint_is_an_error(here):
    assert run(*TRAIN).exit_code == 3
    lines = Path("run/history.jsonl").read_text().splitlines(keepends=True)
    Path("run/history.jsonl").write_text("".join([lines[0], "{damaged}\n", *lines[2:]]))
    with pytest.raises(ReadError, match="first 1 of the 4 passes"):
        History(Path("run/history.jsonl"), n_passes=4)
    result = run(*TRAIN)
    assert result.exit_code == 1
    assert "history.jsonl" in result.stderr


# Limits of the system, not ours


def start(*words, limit=None, cwd=None, stdout=subprocess.PIPE):
    """Start a command in a session of its own, so that a signal reaches it alone and its children can be found."""

    def limited():
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )

    return subprocess.Popen(
        [sys.executable, "-m", "dsoftmax", *map(str, words)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limited if limit is not None else None,
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dsoftmax.__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def ended(process):
    """Wait for a command; one that takes too long is killed, and fails the test."""
    try:
        stdout, stderr = process.communicate(timeout=WAIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"it hangs: {process.communicate()}") from None
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("file", ["run.json", "checkpoint.npz"])
def test_the_limit_on_the_size_of_a_file(here, undisturbed, file):
    assert run(*TRAIN[:-1], "other").exit_code == 3
    limit = Path("other", file).stat().st_size - 100
    code, _, stderr = ended(start(*TRAIN, limit=limit))
    assert code == 1, stderr
    assert f"run/{file} could not be written: File too large" in stderr
    assert "ulimit -f" in stderr
    assert "Traceback" not in stderr
    assert not drafts("run")
    assert run(*TRAIN).exit_code == 3
    assert outcome("run") == undisturbed


def test_a_file_system_that_is_full(here, undisturbed):
    place = here / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs rights that this process does not have")
    try:
        command = (*TRAIN[:-1], place / "run")
        failed = 0
        for pages in range(64):
            free = os.statvfs(place)
            (place / "filler").write_bytes(bytes(max(free.f_bavail - pages, 0) * free.f_bsize))
            result = run(*command)
            (place / "filler").unlink()
            if result.exit_code == 3:
                break
            failed += 1
            assert result.exit_code == 1, result.output
            assert "No space left on device" in result.stderr
            assert result.stderr.count("Error: ") == 1
            if (place / "run").exists():
                require_whole(place / "run")
                assert not drafts(place / "run")
        assert failed > 4
        assert outcome(place / "run") == undisturbed
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_nobody_can_hold(here):
    assert run(*TRAIN).exit_code == 3
    with Path("/dev/full").open("w") as nowhere:
        code, _, stderr = ended(start("evaluate", "run", *DATA, stdout=nowhere))
    assert code == 1, stderr
    assert "No space left on device" in stderr
    assert "Traceback" not in stderr


# Signals


def test_an_error_that_is_its_own_cause_comes_out_as_it_is():
    error = RuntimeError("again")
    error.__cause__ = error
    with pytest.raises(RuntimeError, match="again"), interrupts.unwrapped():
        raise error
    other = RuntimeError("around")
    with pytest.raises(KeyboardInterrupt), interrupts.unwrapped():
        raise other from KeyboardInterrupt()


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_a_signal_waits_behind_a_shield_and_is_one_wish_for_a_second(number, monkeypatch):
    before, done = signal.getsignal(number), []
    with interrupts.handled():
        with pytest.raises(KeyboardInterrupt), interrupts.shielded(), interrupts.shielded():
            done.append(signal.raise_signal(number))
        assert done == [None]
        signal.raise_signal(number)  # the same wish
        with pytest.raises(
            KeyboardInterrupt
        ):  # and it was heard, wherever its KeyboardInterrupt went
            interrupts.require_none()
        monkeypatch.setattr(interrupts, "GRACE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
    with interrupts.handled():
        interrupts.require_none()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_an_interruption_that_a_destructor_swallows_is_not_shown_and_not_lost():
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
        ("dsoftmax.cli.data.open_data", interrupts.NOTHING),
        ("dsoftmax.training.prepare.prepare", "To go on"),
    ],
)
def test_an_interruption_that_an_import_wraps_is_an_interruption(
    here, monkeypatch, capsys, where, said
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


def handles_signals(process):
    """Whether the command has come so far that SIGTERM is its own."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def wait_for_handlers(process):
    deadline = time.monotonic() + WAIT
    while process.poll() is None and not handles_signals(process) and time.monotonic() < deadline:
        time.sleep(0.002)


def orphans(session):
    """The processes of a session that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == session:
            found.append(int(status.parent.name))
    return found


def require_no_orphans(process):
    deadline = time.monotonic() + 10
    while orphans(process.pid):
        assert time.monotonic() < deadline, f"processes left: {orphans(process.pid)}"
        time.sleep(0.05)


def send(process, number, group):
    if process.poll() is None:
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


LAST_WORDS = {
    "train": ("passes in", 3),
    "predict": ("labels in", 0),
    "demo": ("dsoftmax predict", 0),
}


def disturb(rng, seconds, *words):
    """Start a command, send it signals at a moment within ``seconds``, and return how it ended."""
    process = start(*words)
    wait_for_handlers(process)
    number = rng.choice([signal.SIGINT, signal.SIGTERM])
    group = bool(rng.random() < 0.5)  # a terminal sends to all processes of a command
    time.sleep(rng.uniform(0, seconds))
    send(process, number, group)
    how = rng.random()
    if how < 0.4:  # the same wish again, at once or when patience ends
        time.sleep(rng.uniform(0, 0.3) if how < 0.25 else 1.2)
        send(process, number, group)
    code, stdout, stderr = ended(process)
    assert "Traceback" not in stderr, stderr
    assert "rror in" not in stderr, stderr  # as loggers of libraries begin
    require_no_orphans(process)
    said, whole = LAST_WORDS[words[0]]
    if code == -number and said in stdout:
        code = whole  # when all is done the interpreter takes our handlers away, in the last moment of the process
    return code, stdout, stderr


LONG = (
    "train",
    *DATA,
    "--solver",
    "gradient-descent",
    "--tol",
    "0",
    "--max-iter",
    "60",
    "--out",
    "run",
)


@pytest.fixture(scope="module")
def long_run(data, tmp_path_factory):
    """What a run of many passes gives when nothing disturbs it, and the seconds that it takes."""
    home = tmp_path_factory.mktemp("long")
    (home / "data.zarr").symlink_to(data)
    process = start(*LONG, cwd=home)
    wait_for_handlers(process)
    started = time.monotonic()
    code, _, stderr = ended(process)
    assert code == 3, stderr
    return outcome(home / "run"), time.monotonic() - started


def disturb_and_go_on(rng, long_run, times, *engine):
    """Interrupt a run several times, then let it end; return how often it was interrupted before its end."""
    expected, seconds = long_run
    seconds += 4.0 if engine else 0.1
    interrupted = 0
    for _ in range(times):
        code, stdout, stderr = disturb(rng, seconds, *LONG, *engine)
        assert code == 3, stderr
        if "Stopped at max_iter" not in stdout:
            interrupted += 1
            assert any(word in stderr for word in ("To go on", interrupts.NOTHING, "goes on")), (
                stderr
            )
        if Path("run").exists():
            require_whole("run")
    code, _, stderr = ended(start(*LONG))
    assert code == 3, stderr
    assert not drafts("run")
    assert outcome("run") == expected
    return interrupted


@pytest.mark.parametrize("seed", range(2))
def test_signals_at_any_moment_change_no_bit(here, long_run, seed):
    disturb_and_go_on(np.random.default_rng(seed), long_run, 2)


def test_signals_at_any_moment_leave_no_worker_process(here, long_run):
    disturb_and_go_on(np.random.default_rng(10), long_run, 2, "--workers", "2")


def test_a_signal_before_anything_began_leaves_nothing(here):
    rng = np.random.default_rng(3)
    for number in (signal.SIGINT, signal.SIGTERM):
        begun = True
        for _ in range(
            5
        ):  # on a machine that is busy with other things the moment may be a late one
            process = start(*LONG)
            time.sleep(rng.uniform(0, 0.1))
            send(process, signal.SIGSTOP, group=False)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            begun = Path("run").exists()
            send(process, number, group=False)
            send(process, signal.SIGCONT, group=False)
            code, _, stderr = ended(process)
            # Before our first line the interpreter answers in its own way: it may lose the signal in a destructor, and says so.
            lost = "Exception ignored" in stderr and "KeyboardInterrupt" in stderr
            if not (begun or lost or Path("run").exists()):
                break
            shutil.rmtree("run", ignore_errors=True)
        assert not begun
        assert not lost
        assert code in (3, -number) or "dsoftmax/" not in stderr.replace("dsoftmax/__init__", "")
        assert not Path("run").exists()


def predict_disturbed(rng, seconds, before, expected):
    code, _, stderr = disturb(
        rng, seconds, "predict", "run", *DATA[:3], "--out", "out.zarr", "--overwrite"
    )
    assert code in (0, 3), stderr
    assert contents(Path("out.zarr")) in ((expected,) if code == 0 else (before, expected))
    at_once = "Stopped at once" in stderr
    assert at_once or not [
        entry.name for entry in Path().iterdir() if entry.name.startswith(".out.zarr")
    ]
    return code == 3


@pytest.fixture
def predictions(here):
    """Predictions of an old model that predict will replace, and what it will write."""
    assert run(*TRAIN).exit_code == 3
    predict = ("predict", "run", *DATA[:3], "--out")
    assert run(*predict, "expected.zarr").exit_code == 0
    assert run(*predict, "out.zarr", "--probabilities").exit_code == 0
    return contents(Path("out.zarr")), contents(Path("expected.zarr"))


def test_predictions_are_the_old_or_the_new_ones_whenever_a_signal_comes(predictions):
    rng = np.random.default_rng(4)
    for _ in range(3):
        predict_disturbed(rng, 1.2, *predictions)


def demo_disturbed(rng, seconds, *words):
    code, _, stderr = disturb(rng, seconds, *words)
    assert code in (0, 3), stderr
    if Path("demo/run").exists():
        require_whole("demo/run")
    return code == 3


def test_the_demo_goes_on_after_signals(here):
    command = ("demo", "--memory", "768MiB", "--size", "0.001", "--dir", "demo")
    assert run(*command[:-1], "whole").exit_code == 0
    rng = np.random.default_rng(6)
    demo_disturbed(rng, 2.5, *command)
    code, _, stderr = ended(start(*command))
    assert code == 0, stderr
    assert outcome("demo/run") == outcome("whole/run")
    assert not drafts("demo")


CHAOS_SECONDS = float(os.environ.get("DSOFTMAX_CHAOS_SECONDS", "120"))


@pytest.mark.chaos
@pytest.mark.timeout(CHAOS_SECONDS + 600)
@pytest.mark.parametrize("what", ["threads", "workers", "predict", "demo"])
def test_signals_for_minutes(here, long_run, predictions, what, monkeypatch, record_property):
    """A quarter of the seconds for each command; the seeds are printed, so that what failed can be made again."""
    deadline = time.monotonic() + CHAOS_SECONDS / 4
    whole = ("demo", "--memory", "768MiB", "--size", "0.001", "--dir")
    if what == "demo":
        assert run(*whole, "whole").exit_code == 0
    seed = tries = interrupted = 0
    while time.monotonic() < deadline:
        print(f"seed {seed}")
        rng = np.random.default_rng([99, seed])
        place = here / f"{what}{seed}"
        place.mkdir()
        (place / "data.zarr").symlink_to(here / "data.zarr")
        if what in ("threads", "workers"):
            monkeypatch.chdir(place)
            interrupted += disturb_and_go_on(
                rng, long_run, 4, *(("--workers", "2") if what == "workers" else ())
            )
            tries += 4
        elif what == "predict":
            monkeypatch.chdir(here)
            interrupted += predict_disturbed(rng, 1.3, *predictions)
            for entry in Path().glob(".out.zarr*"):
                subprocess.run(
                    ["rm", "-r", str(entry)], check=True
                )  # of one that was stopped at once
            if contents(Path("out.zarr")) != predictions[0]:
                assert (
                    run(
                        "predict",
                        "run",
                        *DATA[:3],
                        "--out",
                        "out.zarr",
                        "--probabilities",
                        "--overwrite",
                    ).exit_code
                    == 0
                )
            tries += 1
        else:
            monkeypatch.chdir(place)
            for _ in range(3):
                interrupted += demo_disturbed(rng, 3.0, *whole, "demo")
            code, _, stderr = ended(start(*whole, "demo"))
            assert code == 0, stderr
            assert outcome("demo/run") == outcome(here / "whole/run")
            assert not drafts("demo")
            tries += 3
        seed += 1
    print(f"{what}: {tries} commands disturbed, {interrupted} stopped")
    record_property("disturbed", tries)
    assert tries
