"""A folder that is gone when its process is: removed by it, or by the next one that comes to the same directory.

The folder ``NAME`` stands beside a file ``NAME.lock``, on which its owner holds a lock (flock) as long as it lives. The system
lets go of a dead process's lock, so one that can be had marks a folder that nobody uses. Process numbers, which are used
again, play no part.
"""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from dsoftmax.system.locks import lock

PREFIX = "dsoftmax-spool-"


class SpoolDirectory:
    """A new folder in ``parent``, after removing what dead processes left there.

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
            os.close(
                self._lock
            )  # another process came between opening and locking, and took it for a leftover
        self.folder.mkdir(mode=0o700)
        self._owner = os.getpid()

    def remove(self) -> None:
        """Remove the folder and let go of its lock; in a forked child, which shares both, do nothing."""
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
        except OSError:  # gone by now, or another user's
            continue
        try:
            if lock(handle) and _same(
                handle, lock_file
            ):  # where there are no locks, leftovers stay
                _remove(folder)
                lock_file.unlink(missing_ok=True)
                removed.append(folder.name)
        finally:
            os.close(handle)
    return removed


def _remove(folder: Path) -> None:
    """Remove a folder in which threads may be writing: under another name, where they make no new files."""
    gone = folder.with_name(f"{folder.name}.gone")
    with suppress(OSError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _same(descriptor: int, path: Path) -> bool:
    """Return whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
