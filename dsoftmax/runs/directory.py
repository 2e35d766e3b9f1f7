"""The run directory: what was asked, what happened, and where to resume.

Every file is whole at any moment.

=================  ==============================================================================
``run.json``       what was asked, the data and their fingerprint, versions; before the first pass
``history.jsonl``  one line a pass
``statistics.npz`` statistics of the first pass; written once
``checkpoint.npz`` state of the solver after the last pass; replaced after every pass
``scores.json``    loss and accuracy of a grid by fold and C; written at its end
``model.zarr``     the model, written at the end; of a grid the model with the best C, on all rows
=================  ==============================================================================

After a pass, the line of history is written first and the checkpoint second. After a crash
between the two, history knows one pass more than the checkpoint, and the line of this pass is
removed.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsoftmax.errors import OutputExistsError, WriteError
from dsoftmax.runs.asked import read_asked, require_same, write_asked
from dsoftmax.runs.saved import count_passes, load_runs, save_runs
from dsoftmax.system.files import exists, make_directory, remove, writing
from dsoftmax.system.locks import lock
from dsoftmax.system.regular import require_regular
from dsoftmax.training.run import Run

ASKED, HISTORY, STATISTICS = "run.json", "history.jsonl", "statistics.npz"
CHECKPOINT, SCORES, MODEL = "checkpoint.npz", "scores.json", "model.zarr"
REMOVED = (MODEL, SCORES, CHECKPOINT, STATISTICS, HISTORY)
"""Files that `RunDirectory.clear` removes, in this order.

The model goes first, because nobody should take it for the model of the next run. The checkpoint
goes second: if an
interruption leaves the others, the run begins anew."""
FILES = (ASKED, *REMOVED)
LOCK = ".lock"


class RunDirectory:
    """The files of one run.

    Parameters
    ----------
    path : Path
        Need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: tuple[int, int] | None = None
        self.entered = False
        """Whether this process has written ``run.json``: then the checkpoint is of its run."""

    def file(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        return self.path / name

    def is_run(self) -> bool:
        """Return whether a run has begun here."""
        return self.file(ASKED).is_file()

    def require_free(self) -> None:
        """Raise if the path holds something other than a run.

        An empty directory is free, and so is a run that was interrupted in its first file.

        Raises
        ------
        OutputExistsError
        """
        if self.is_run() or not exists(self.path):
            return
        foreign: str | None = ""
        if self.path.is_dir():
            names = (entry.name for entry in self.path.iterdir() if not _is_ours(entry))
            foreign = next(names, None)
        if foreign is not None:
            found = f"it holds {foreign}" if foreign else "it is a file"
            raise OutputExistsError(
                f"{self.path} exists and is not a run directory: {found}, and no {ASKED}. Pass "
                "another --out. Nothing there was changed."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory against other processes that train in it.

        The directory is made if it does not exist.

        Raises
        ------
        OutputExistsError
            Another process holds the lock.
        WriteError
        """
        make_directory(self.path)
        with writing(self.file(LOCK), 0):
            if exists(self.file(LOCK)):
                require_regular(self.file(LOCK).stat().st_mode, self.file(LOCK))
            file = self.file(LOCK).open("a")
        with file:
            held = lock(file.fileno())
            if held is False:  # None: the file system has no locks
                raise OutputExistsError(
                    f"Another process is training in {self.path}. Wait for it, stop it, or pass "
                    "another --out."
                )
            self._lock = _identity(os.fstat(file.fileno())) if held else None
            yield

    def clear(self) -> None:
        """Remove the files of a run, and no others.

        ``run.json`` stays until the next run replaces it.

        Raises
        ------
        WriteError
        """
        for name in REMOVED:
            if not remove(self.file(name)):
                raise WriteError(
                    f"{self.file(name)} of the earlier run cannot be removed. Remove it yourself, "
                    "or pass another --out."
                )
        self.remove_drafts()

    def remove_drafts(self) -> None:
        """Remove the unfinished files of a process that was killed."""
        for entry in self.path.iterdir():
            if entry.name != LOCK and _is_ours(entry) and entry.name not in FILES:
                remove(entry)

    def write_asked(self, asked: Mapping[str, Any]) -> None:
        """Write ``run.json``: see `dsoftmax.runs.asked.write_asked`."""
        make_directory(self.path)
        write_asked(self.file(ASKED), asked)
        self.entered = True

    def read_asked(self) -> dict[str, Any]:
        """Return ``run.json``: see `dsoftmax.runs.asked.read_asked`."""
        return read_asked(self.file(ASKED))

    def require_same(self, asked: Mapping[str, Any]) -> None:
        """Raise unless the run here is the one asked: see `dsoftmax.runs.asked.require_same`."""
        require_same(self.file(ASKED), asked)

    def has_checkpoint(self) -> bool:
        """Return whether there is a pass to resume after."""
        return self.file(CHECKPOINT).is_file() and self.file(STATISTICS).is_file()

    def passes(self) -> int:
        """Return the number of passes that the checkpoint knows; 0 without one."""
        return count_passes(self.file(CHECKPOINT)) if self.has_checkpoint() else 0

    def kernel(self) -> str | None:
        """Return the kernel of the run here; None without a checkpoint.

        Raises
        ------
        ReadError
        """
        return str(self.read_asked()["objective"]["kernel"]) if self.has_checkpoint() else None

    def require_locked(self) -> None:
        """Raise if the directory is no longer the one that this process has locked.

        Raises
        ------
        WriteError
            It was removed, moved or replaced.
        """
        try:
            found = _identity(self.file(LOCK).stat())
        except OSError:
            found = None
        if self._lock is not None and found != self._lock:
            raise WriteError(
                f"{self.path} was removed, moved or replaced while this run trained in it. Nothing "
                "was written into what is there now. Move the directory of this run back, and run "
                "the same again."
            )

    def save(self, record: Any, runs: Sequence[Run]) -> None:
        """Write the checkpoint of the pass that was just made. A watcher of training."""
        save_runs(self.file(CHECKPOINT), self.file(STATISTICS), runs)

    def load(self) -> list[Run]:
        """Return the runs of all models at the checkpoint.

        Raises
        ------
        ReadError
            A file is missing or damaged.
        """
        return load_runs(self.file(CHECKPOINT), self.file(STATISTICS))


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_ours(entry: Path) -> bool:
    """Return whether a directory entry is a file of a run, its draft (``.NAME.…``), or the lock."""
    return (
        entry.name == LOCK
        or entry.name in FILES
        or any(entry.name.startswith(f".{name}.") for name in FILES)
    )
