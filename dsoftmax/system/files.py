"""Files and directories that appear whole or not at all, and errors that name what was not written.

A draft is written beside its target as ``.NAME.…``, flushed to the disk, and renamed. The old
target stays until the new one is complete: also if the disk is full, the process is killed, or the
machine loses power.
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

from dsoftmax.errors import DsoftmaxError, OutputExistsError, WriteError
from dsoftmax.system.interrupts import finished
from dsoftmax.system.units import size

CURES = {
    errno.ENOSPC: "Free space there",
    errno.EDQUOT: "Free some of your quota there, or have it raised",
    errno.EFBIG: "Raise the limit on the size of a file (`ulimit -f`), or use a file system that "
    "allows larger files",
}
"""Cure of each error number that has one of its own."""
NO_PLACE = (
    errno.EINVAL,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
)
"""Error numbers that more free space would not cure."""
NO_REPLACE, EXCHANGE = 1, 2
"""Flags of ``renameat2``, from <stdio.h>."""


@contextmanager
def writing(path: Path, n_bytes: int) -> Iterator[None]:
    """Turn errors of the file system in the block into errors that name a cure.

    Parameters
    ----------
    path : Path
        Final name of the file or directory that the block writes.
    n_bytes : int
        Its size before compression, in bytes.

    Raises
    ------
    WriteError
    """
    try:
        yield
    except DsoftmaxError:
        raise
    except OSError as error:
        cure = CURES.get(error.errno or 0, "Make sure that this place can be written")
        space = (
            ""
            if error.errno in NO_PLACE
            else f"It needs up to {size(n_bytes)}; {_free(path)} free there. "
        )
        raise WriteError(
            f"{path} could not be written: {error.strerror or error}. {space}Complete files are "
            f"unchanged. {cure}, then run the same again."
        ) from error


def make_directory(path: Path, n_bytes: int = 0) -> None:
    """Make a directory and its parents, if they do not exist.

    Parameters
    ----------
    path : Path
    n_bytes : int
        Size of the files that will be written there, for the message of an error (bytes).

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
                f"The directory {path} cannot be made: {error.strerror or error}. Name another "
                "place, or make sure that this one can be written."
            ) from error


def _free(path: Path) -> str:
    place = path.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        return f"{size(shutil.disk_usage(place).free)} are"
    except OSError:
        return "an unknown number of bytes is"


@contextmanager
def replacing(path: Path, n_bytes: int, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Yield the open draft of a file, which replaces the file at the end of the block.

    After an error the draft is removed, and the file is unchanged.

    Parameters
    ----------
    path : Path
    n_bytes : int
        Size of the file, for the message of an error (bytes).
    overwrite : bool
        Whether the draft replaces what has appeared at ``path`` in the meantime.

    Raises
    ------
    WriteError
    OutputExistsError
        Something has appeared at ``path``, and ``overwrite`` is false.
    """
    draft = _beside(path)
    try:
        with writing(path, n_bytes):
            with draft.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if overwrite:
                draft.replace(path)
            else:
                _rename_new(draft, path)
            _flush_directory(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_directory(path: Path, n_bytes: int, overwrite: bool = True) -> Iterator[Path]:
    """Yield the path of a draft, which replaces a directory at the end of the block.

    Every file of the draft is flushed. Then the draft and the old directory exchange their names,
    and the old one is removed. After an error the draft is removed, and the old one is unchanged.
    Errors of the block pass unchanged, so the block itself uses `writing` for those of the draft.

    Parameters
    ----------
    path : Path
    n_bytes : int
        Size of the directory, for the message of an error (bytes).
    overwrite : bool
        Whether the draft replaces what has appeared at ``path`` in the meantime.

    Raises
    ------
    WriteError
    OutputExistsError
        Something has appeared at ``path``, and ``overwrite`` is false.
    """
    draft = _beside(path)
    old = draft.with_name(f"{draft.name}.old")
    try:
        make_directory(path.parent, n_bytes)
        yield draft
        with writing(path, n_bytes):
            _flush_tree(draft)
            if not overwrite:
                _rename_new(draft, path)
            elif not exists(path):
                draft.rename(path)
            elif not _rename(draft, path, EXCHANGE):
                path.rename(old)
                draft.rename(path)
            _flush_directory(path.parent)
    except BaseException:
        if exists(old) and not exists(path):
            old.rename(path)
        raise
    finally:
        finished(lambda: _clear(path, draft, old))


def _clear(path: Path, draft: Path, old: Path) -> None:
    """Remove the draft, and the old directory if another one has its name."""
    remove(draft)
    if exists(path):
        remove(old)


def _rename_new(draft: Path, path: Path) -> None:
    """Rename a draft to a name that is free.

    Raises
    ------
    OutputExistsError
        It is free no longer.
    """
    if _rename(draft, path, NO_REPLACE):
        return
    if exists(path):
        raise OutputExistsError(
            f"{path} has appeared since this began: another command may write there too. It is "
            "unchanged. Pass another path, or overwrite=True (--overwrite) to replace it."
        )
    draft.rename(path)


def _rename(a: Path, b: Path, how: int) -> bool:
    """Rename as Linux's ``renameat2`` does; return False if the system cannot, or b exists.

    Two renames would exchange names everywhere, but a kill between them would leave nothing at
    ``path`` and the old directory under a hidden name. Python has no call for ``renameat2``, hence
    ctypes. Other systems, and file systems such as NFS, use ordinary renames.
    """
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = -100  # AT_FDCWD of <fcntl.h>
    return rename(here, os.fsencode(a), here, os.fsencode(b), how) == 0


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")


def exists(path: Path) -> bool:
    """Return whether anything has this name, including a broken link."""
    return path.exists() or path.is_symlink()


def remove(path: Path) -> bool:
    """Remove a file, a link or a directory, and return whether nothing is left of it.

    It is tried four times within about a second, because threads of Zarr that were writing into a
    directory when an error occurred may add a file while it is removed.
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
    """Flush the names in a directory; do nothing if the system cannot, as on Windows."""
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
