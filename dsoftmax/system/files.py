"""Files and directories that appear whole or not at all, reads that are whole or an error, and errors that say what was not written.

A draft stands beside what it replaces (``.NAME.…``), is flushed to the disk, and is renamed; so what stood there before
is there until the new one is, also when the disk is full, the process is stopped, or the machine loses its power.
"""

import ctypes
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dsoftmax.errors import DsoftmaxError, WriteError
from dsoftmax.system.units import size

CURES = {
    errno.ENOSPC: "Free space there",
    errno.EDQUOT: "Free some of your quota there, or have it raised",
    errno.EFBIG: "Raise the limit on the size of a file (`ulimit -f`), or take a file system that allows larger ones",
}
NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors that more room would not cure."""


@contextmanager
def writing(path: Path, n_bytes: int) -> Iterator[None]:
    """Turn what the file system says while ``path`` is written into an error that says what to do.

    Parameters
    ----------
    path : Path
        What is written, under the name that it has in the end.
    n_bytes : int
        What it needs, before any compression.

    Raises
    ------
    WriteError
    """
    try:
        yield
    except DsoftmaxError:
        raise
    except OSError as error:
        cure = CURES.get(error.errno or 0, "See to it that this place can be written")
        room = (
            ""
            if error.errno in NO_PLACE
            else f"Up to {size(n_bytes)} are needed, {_free(path)} free there. "
        )
        raise WriteError(
            f"{path} could not be written: {error.strerror or error}. {room}What was complete is as it was. {cure}, then run the "
            "same again."
        ) from error


def make_directory(path: Path, n_bytes: int = 0) -> None:
    """Make a directory and those above it, where they do not exist; for what needs so many bytes there.

    Raises
    ------
    WriteError
    """
    with writing(path, n_bytes):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
            raise WriteError(
                f"The directory {path} cannot be made: {error.strerror or error}. Name another place, or see to it that this one "
                "can be written."
            ) from error


def _free(path: Path) -> str:
    place = path.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        return f"{size(shutil.disk_usage(place).free)} are"
    except OSError:
        return "it is not known how many are"


@contextmanager
def replacing(path: Path, n_bytes: int) -> Iterator[BinaryIO]:
    """Open the draft of a file, which takes its place at the end of the block, or is removed after an error.

    Raises
    ------
    WriteError
    """
    draft = _beside(path)
    try:
        with writing(path, n_bytes):
            with draft.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _flush_directory(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_directory(path: Path, n_bytes: int) -> Iterator[Path]:
    """Name the draft of a directory, which takes its place at the end of the block, or is removed after an error.

    What stood at ``path`` changes places with it, in one step where the system can, and is removed once the new directory
    stands. Errors of the block itself pass as they are; it says with `writing` which of them are about the draft. Every
    file of the draft is flushed, one after the other.

    Raises
    ------
    WriteError
    """
    draft = _beside(path)
    old = draft.with_name(f"{draft.name}.old")
    try:
        make_directory(path.parent, n_bytes)
        yield draft
        with writing(path, n_bytes):
            _flush_tree(draft)
            if not exists(path):
                draft.rename(path)
            elif not _exchange(draft, path):
                path.rename(old)
                draft.rename(path)
            _flush_directory(path.parent)
    except BaseException:
        if exists(old) and not exists(path):
            old.rename(path)
        raise
    finally:
        remove(draft)
        if exists(path):
            remove(old)


def _exchange(a: Path, b: Path) -> bool:
    """Let two names change places in one step; False where the system (not Linux) or the file system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <fcntl.h> and <stdio.h>
    return rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def exists(path: Path) -> bool:
    """Return whether anything has this name, a link that leads nowhere included."""
    return path.exists() or path.is_symlink()


def remove(path: Path) -> bool:
    """Remove a file, a link or a directory, if it is there, and return whether it is gone; what cannot be removed stays.

    A directory that threads of Zarr were writing when an error ended it may get another file while it is removed.
    """
    for pause in (0.0, 0.01, 0.1, 1.0):
        time.sleep(pause)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if not exists(path):
            return True
    return False


def _flush_tree(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            with (Path(folder) / name).open("r+b") as file:
                os.fsync(file.fileno())
        _flush_directory(Path(folder))


def _flush_directory(path: Path) -> None:
    """Make the names in a directory last; file systems that cannot (and Windows) have no more to give."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all.

    Raises
    ------
    WriteError
    """
    content = text.encode()
    with replacing(path, len(content)) as file:
        file.write(content)
