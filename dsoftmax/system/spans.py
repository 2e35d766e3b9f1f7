"""Complete reads of parts of a file."""

from collections.abc import Sequence
from typing import BinaryIO


def read_into(file: BinaryIO, view: memoryview) -> None:
    """Fill a flat view of bytes from the current position of an unbuffered file.

    Raises
    ------
    ValueError
        The file ends before the view is full.
    """
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"the file ended after {done:,} of {len(view):,} bytes")
        done += count


def read_spans(file: BinaryIO, spans: Sequence[tuple[int, int]], view: memoryview) -> None:
    """Fill a flat view of bytes with spans of a file, one after the other.

    Spans that are adjacent in the file are read together.

    Parameters
    ----------
    file : unbuffered file
    spans : sequence of (int, int)
        First byte and number of bytes of each span.
    view : memoryview
        Buffer of the length of all spans together.

    Raises
    ------
    ValueError
        The file ends before the view is full.
    """
    done = k = 0
    while k < len(spans):
        start = end = spans[k][0]
        while k < len(spans) and spans[k][0] == end:
            end, k = end + spans[k][1], k + 1
        file.seek(start)
        read_into(file, view[done : done + end - start])
        done += end - start
