"""Reads of a file that are whole or an error."""

from collections.abc import Sequence
from typing import BinaryIO


def read_into(file: BinaryIO, view: memoryview) -> None:
    """Fill a flat view of bytes from where an unbuffered file stands.

    Raises
    ------
    ValueError
        The file ends before.
    """
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"the file ended after {done:,} of {len(view):,} bytes")
        done += count


def read_spans(file: BinaryIO, spans: Sequence[tuple[int, int]], view: memoryview) -> None:
    """Fill a flat view of bytes with spans of a file, one after the other; those that follow each other are read together.

    Parameters
    ----------
    file : unbuffered file
    spans : sequence of (int, int)
        Where each begins, and its bytes.
    view : memoryview
        As long as all of them.

    Raises
    ------
    ValueError
        The file ends before.
    """
    done = k = 0
    while k < len(spans):
        start = end = spans[k][0]
        while k < len(spans) and spans[k][0] == end:
            end, k = end + spans[k][1], k + 1
        file.seek(start)
        read_into(file, view[done : done + end - start])
        done += end - start
