"""Things that go wrong in a worker: signals, errors, pauses and slow chunks."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, Status, get_worker

from dsoftmax.errors import ReadError


@dataclass(frozen=True)
class Mischief:
    """Something that happens once: to the first process that calls it after it was armed."""

    place: Path
    act: str

    def arm(self, *_):
        (self.place / "armed").touch()

    @property
    def pid(self):
        """Number of the process that it happened to; 0 before."""
        done = self.place / "done"
        return int(done.read_text() or 0) if done.exists() else 0

    def __call__(self, *_):
        if not (self.place / "armed").exists():
            return
        try:
            with (self.place / "done").open("x") as done:
                done.write(str(os.getpid()))
        except FileExistsError:
            return
        if self.act == "fail":
            raise ReadError("X is out of reach for a moment")
        if self.act == "pause":
            worker = Client._get_global_client() or get_worker()
            worker.loop.add_callback(setattr, worker, "status", Status.paused)
        else:
            os.kill(os.getpid(), getattr(signal, self.act))


@dataclass(frozen=True)
class Slow:
    """A delay of each load, in one process or in all."""

    seconds: float
    pid: int = 0

    def __call__(self, chunk):
        if self.pid in (0, os.getpid()):
            time.sleep(self.seconds)


@dataclass(frozen=True)
class Log:
    """A record of which process loads which chunk."""

    place: Path

    def __call__(self, chunk):
        with (self.place / "loads").open("a") as file:
            file.write(f"{os.getpid()} {chunk}\n")

    def take(self):
        """Return the pairs (process, chunk) since the last call."""
        file = self.place / "loads"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        file.unlink(missing_ok=True)
        return [tuple(map(int, line.split())) for line in lines]


@dataclass(frozen=True)
class Watched:
    """A source, or a share of it, that calls ``before`` before each load.

    A ``resident`` one loads in every pass.
    """

    inner: Any
    before: Any
    resident: bool = True

    def load(self, chunk, buffer=None):
        self.before(chunk)
        return self.inner.load(chunk, buffer)

    def share(self, chunks):
        return Watched(self.inner.share(chunks), self.before, self.resident)

    def __getattr__(self, name):
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


@dataclass(frozen=True)
class Visited:
    """A visit that calls ``before`` first."""

    inner: Any
    before: Any

    def __call__(self, block):
        self.before()
        return self.inner(block)

    def footprint(self, n_features, sparse):
        return self.inner.footprint(n_features, sparse)


def at_pass(number, act):
    """Return a watcher that acts when the pass before this one has ended."""
    return lambda record, run: act() if record.pass_ == number - 1 else None


def paused(pause, dask_worker=None):
    """Pause a worker, or let it run again."""
    dask_worker.status = Status.paused if pause else Status.running
