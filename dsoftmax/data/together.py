"""Reads of remote storage that belong to the same rows, made at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any


def read_together(reads: list[Callable[[], Any]], at_once: bool) -> list[Any]:
    """Return the results of some reads.

    Parameters
    ----------
    reads : list of callable
    at_once : bool
        Whether all reads but the first run on threads of their own. Starting them costs some
        100 µs, and each read waits for its latency.
    """
    if not at_once or len(reads) < 2:
        return [read() for read in reads]
    first, *others = reads
    with ThreadPoolExecutor(len(others)) as pool:
        running = [pool.submit(copy_context().run, read) for read in others]
        return [first(), *(one.result() for one in running)]
