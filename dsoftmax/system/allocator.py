"""Let the allocator keep what a leaf takes for the next leaf, and give it back when all is done."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
NOT_GLIBC = AttributeError, OSError, TypeError
"""What asking another C library for its allocator's settings raises."""
KEPT_BYTES = 64 * 2**20
"""Free memory at the top of a heap that is not given back."""
OWN_MAPPING_BYTES = 32 * 2**20
"""Arrays from this size on get pages of their own, which are given back at once: the most that glibc allows."""


@cache
def keep_freed_memory() -> None:
    """Tell glibc not to give memory back that the next leaf takes again; elsewhere, do nothing.

    These are the limits that it comes to by itself in a process whose arrays are large, unless it is told otherwise, as dask's
    nannies do. Page faults then cost a kernel a sixth to a half of its time.
    """
    with suppress(*NOT_GLIBC):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)


@contextmanager
def giving_back() -> Iterator[None]:
    """Have glibc give back what is freed in the block, and what was free before; elsewhere, do nothing.

    The trim at the end passes over what is free at the top of a thread's heap, which is given back when something below it is freed.
    """
    kept = keep_freed_memory.cache_info().currsize > 0
    with suppress(*NOT_GLIBC):
        if kept:
            ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 0)
    try:
        yield
    finally:
        with suppress(*NOT_GLIBC):
            libc = ctypes.CDLL(None)
            libc.malloc_trim(0)
            if kept:
                libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
