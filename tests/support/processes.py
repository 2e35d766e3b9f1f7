"""Run commands in processes of their own, and send them signals."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import dsoftmax

WAIT = 60.0
"""Longest time that one command may take, in seconds."""
LAST_WORDS = {
    "train": ("history file", 3),
    "predict": ("out.zarr/labels", 0),
    "demo": ("dsoftmax predict", 0),
}
"""Last output of each command, and its exit code if nothing disturbs it."""


def start(*words, limit=None, cwd=None, stdout=subprocess.PIPE):
    """Start a command in a session of its own.

    A signal then reaches the command alone, and its child processes can be found.

    Parameters
    ----------
    limit : int, optional
        Largest size of a file that the command may write, in bytes.
    """

    def limited():
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

    checkout = str(Path(dsoftmax.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "dsoftmax", *map(str, words)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limited if limit is not None else None,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": checkout, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def ended(process):
    """Wait for a command, and return its exit code and output.

    A command that takes too long is killed, and fails the test.
    """
    try:
        stdout, stderr = process.communicate(timeout=WAIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"it hangs: {process.communicate()}") from None
    return process.returncode, stdout, stderr


def wait_for_passes(process, n, path="run/history.jsonl"):
    """Wait until the history has `n` passes."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and process.poll() is None:
        if Path(path).exists() and len(Path(path).read_text().splitlines()) >= n:
            return
        time.sleep(0.005)
    raise AssertionError(f"no {n} passes: {process.communicate()}")


def handles_signals(process):
    """Return whether the command has installed its handler of SIGTERM."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def wait_for_handlers(process):
    """Wait until the command handles signals, or has ended."""
    deadline = time.monotonic() + WAIT
    while process.poll() is None and not handles_signals(process) and time.monotonic() < deadline:
        time.sleep(0.002)


def orphans(session):
    """Return the ids of the running processes of a session."""
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
    """Check that all processes of an ended command end within ten seconds."""
    deadline = time.monotonic() + 10
    while orphans(process.pid):
        assert time.monotonic() < deadline, f"processes left: {orphans(process.pid)}"
        time.sleep(0.05)


def send(process, number, group):
    """Send a signal to a process, or to all processes of its group."""
    if process.poll() is None:
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def disturb(rng, seconds, *words):
    """Start a command, send it signals at a moment within ``seconds``, and return how it ended."""
    process = start(*words)
    wait_for_handlers(process)
    number = rng.choice([signal.SIGINT, signal.SIGTERM])
    group = bool(rng.random() < 0.5)  # a terminal sends to all processes of a command
    time.sleep(rng.uniform(0, seconds))
    send(process, number, group)
    how = rng.random()
    if how < 0.4:  # a second signal, within the seconds of grace or after them
        time.sleep(rng.uniform(0, 0.3) if how < 0.25 else 1.2)
        send(process, number, group)
    code, stdout, stderr = ended(process)
    assert "Traceback" not in stderr, stderr
    assert "rror in" not in stderr, stderr  # the first words of the loggers of libraries
    require_no_orphans(process)
    said, undisturbed = LAST_WORDS[words[0]]
    if code == -number and said in stdout:
        # The interpreter removes our handlers in the last moment of a process that has done all.
        code = undisturbed
    return code, stdout, stderr
