"""A disk that fails at a chosen write, and checks of the files that it leaves."""

import errno
import io
import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from dsoftmax.results.stored_model import load_model
from dsoftmax.runs.checkpoint import read_arrays
from dsoftmax.runs.directory import RunDirectory


class Disk:
    """Count the operations that change files under a directory, and let chosen ones fail.

    Parameters
    ----------
    top : Path
        The directory.
    allowed : int
        Number of operations that succeed before the first that fails.
    fail : callable
        Function that raises. It is called before the operation, or after it if ``late``.
    late : bool
    once : bool
        Whether only one operation fails, and the later ones succeed.
    """

    def __init__(self, top, allowed, fail, late=False, once=False):
        self.top, self.allowed, self.fail = str(top), allowed, fail
        self.late, self.once = late, once
        self.points = 0

    def due(self):
        """Count one operation, and return whether it fails."""
        self.points += 1
        return self.points == self.allowed + 1 if self.once else self.points > self.allowed

    @contextmanager
    def point(self, path):
        """Run an operation on a path as the block, and fail if it is due."""
        ours = str(Path(path).absolute()).startswith(self.top)
        due = ours and self.due()
        if due and not self.late:
            self.fail()
        yield
        if due and self.late:
            self.fail()


def lay_under(disk, patch):
    """Patch pathlib, open and os, so that ``disk`` counts their operations."""
    opened, wanted = io.open, ("w", "x", "a", "+")

    class File(io.FileIO):
        def write(self, data):
            view = memoryview(data).cast("B")
            if disk.points == disk.allowed and not disk.late and len(view) > 1:
                view = view[: len(view) // 2]  # a full disk takes a part of the last write
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
    """Return a function that raises the error of a full disk."""

    def fail():
        raise OSError(code, os.strerror(code))

    return fail


def drafts(path):
    """Return the names of half-written files, which a run or a group never has at its end."""
    hidden = [entry.name for entry in Path(path).rglob(".*") if entry.name != ".lock"]
    return hidden + list(Path(path).rglob("*.partial"))


def require_whole(path):
    """Check that every file of a run directory can be read."""
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
        found = [json.loads(line)["pass"] for line in text.splitlines()]
        assert found == list(range(1, text.count("\n") + 1))


def contents(path):
    """Return the bytes of every file below a directory, by its relative path."""
    return {
        str(entry.relative_to(path)): entry.read_bytes()
        for entry in sorted(path.rglob("*"))
        if entry.is_file()
    }


def all_points(*values):
    """Return a parameter set for a test of every operation, which is not run by default."""
    return pytest.param(*values, 1, marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])
