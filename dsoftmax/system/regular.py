"""Files that others wrote: opened only if they are regular, and JSON of any depth."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a file to read bytes. A pipe is an error, where `open` would wait for a writer.

    Raises
    ------
    OSError
        There is no file, or it is a pipe, a device, a socket or a directory.
    """
    handle = os.open(path, _FLAGS)
    try:
        require_regular(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb", buffering)
    except BaseException:
        os.close(handle)
        raise


def require_regular(mode: int, path: Path) -> None:
    """Raise unless a file's mode is that of a regular file.

    Raises
    ------
    OSError
    """
    if not stat.S_ISREG(mode):
        kind = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(kind, "it is no regular file", str(path))


def read_json(path: Path) -> Any:
    """Return what a file of JSON holds.

    Raises
    ------
    OSError
        It is no regular file, or cannot be read.
    ValueError
        It is no JSON, or nested too deep.
    """
    with open_regular(path) as file:
        return parse_json(file.read())


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises
    ------
    ValueError
        It is no JSON, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
