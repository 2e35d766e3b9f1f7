"""Let the allocator keep what a leaf takes for the next leaf, and give it back when all is done."""

import ctypes
from contextlib import suppress
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
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
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES)


def give_back_freed_memory() -> None:
    """Have glibc give back what is free; elsewhere, do nothing."""
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
