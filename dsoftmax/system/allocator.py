"""Settings of glibc's allocator: reuse the memory of a leaf, and return freed memory at the end."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
NOT_GLIBC = AttributeError, OSError, TypeError
"""Errors of these calls with another C library."""
KEPT_BYTES = 64 * 2**20
"""Free memory at the top of a heap that stays with the process (bytes).

It holds the scratch of a leaf, so that the next leaf reuses it without page faults.
"""
OWN_MAPPING_BYTES = 32 * 2**20
"""Size from which an array gets its own pages, which return to the system once it is freed (bytes).

It is the largest value that glibc allows.
"""


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory that the next leaf allocates again; elsewhere, do nothing.

    By itself, glibc reaches these limits in a process with large arrays, unless its environment
    sets others, as dask's nannies do. Page faults then cost a kernel a sixth to a half of its time.
    """
    with suppress(*NOT_GLIBC):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)


@contextmanager
def giving_back() -> Iterator[None]:
    """Have glibc return the memory freed in the block, and before it; elsewhere, do nothing.

    The trim at the end skips free memory at the top of a thread's heap. glibc returns that memory
    when something below it is freed.
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
