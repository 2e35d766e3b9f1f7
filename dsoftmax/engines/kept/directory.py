"""A folder that does not outlive its process.

The process removes the folder at its end. If it is killed, the next process that uses the same
parent directory does. The file ``NAME.lock`` beside the folder ``NAME`` is locked (flock) while the
owner lives. The system releases the lock of a dead process, so that a free lock marks a folder
without an owner. Process numbers play no part, because systems use them again.
"""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from dsoftmax.system.locks import lock

PREFIX = "dsoftmax-spool-"


class SpoolDirectory:
    """A new folder in ``parent``, made after the folders of dead processes are removed.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        while True:
            self.folder = parent / f"{PREFIX}{uuid.uuid4().hex}"
            self._lock_file = _lock_path(self.folder)
            self._lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            lock(self._lock, wait=True)
            if _same(self._lock, self._lock_file):
                break
            # Another process removed the file between opening and locking.
            os.close(self._lock)
        self.folder.mkdir(mode=0o700)
        self._owner = os.getpid()

    def remove(self) -> None:
        """Remove the folder and release its lock, except in a forked child, which shares both."""
        if os.getpid() != self._owner:
            return
        _remove(self.folder)
        self._lock_file.unlink(missing_ok=True)
        os.close(self._lock)


def remove_leftovers(parent: Path) -> list[str]:
    """Remove the folders in ``parent`` whose owners are dead, and return their names."""
    removed = []
    for lock_file in sorted(parent.glob(f"{PREFIX}*.lock")):
        folder = lock_file.with_suffix("")
        try:
            handle = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # removed by now, or another user's
            continue
        try:
            # On a file system without locks, the folders of dead processes stay.
            if lock(handle) and _same(handle, lock_file):
                _remove(folder)
                lock_file.unlink(missing_ok=True)
                removed.append(folder.name)
        finally:
            os.close(handle)
    return removed


def _remove(folder: Path) -> None:
    """Remove a folder in which threads may be writing.

    The folder is renamed first, so that they make no new files in it.
    """
    renamed = folder.with_name(f"{folder.name}.gone")
    with suppress(OSError):
        folder.rename(renamed)
    shutil.rmtree(renamed, ignore_errors=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _same(descriptor: int, path: Path) -> bool:
    """Return whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
