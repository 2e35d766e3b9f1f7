"""The memory that a process may use, and the memory that it takes before anything is planned."""

from dsoftmax.system.allocator import giving_back
from dsoftmax.system.process import free_bytes, resident_bytes

PROCESS_BYTES = 160 * 2**20
"""Bytes of a process that has imported NumPy, SciPy, Zarr and dask and holds no data. Used if the
system does not say."""
MARGIN = 64 * 2**20
"""Bytes that a process comes to take without a plan: modules imported late, thread stacks, and
memory that the allocator does not return."""
UNLIMITED_CACHE = 4
"""Divisor of the free memory: this part caches blocks if the user gives no memory limit."""
TERMINATE = 0.95
"""Fraction of its memory limit at which dask's nanny kills a worker, by default."""
BELOW = 0.95
"""Fraction of the bytes at which dask begins to spill, pause or kill that a plan may use."""

_before: int | None = None


def process_bytes() -> int:
    """Return the bytes of this process when this was first called, with `MARGIN`.

    A later measurement would also count evicted blocks whose memory the allocator uses again.
    """
    global _before
    if _before is None:
        with giving_back():
            pass
        resident = resident_bytes()
        _before = resident + MARGIN if resident else PROCESS_BYTES
    return _before


def spare_bytes() -> int:
    """Return the bytes of this machine that may cache blocks if the user gives no memory limit."""
    return free_bytes() // UNLIMITED_CACHE


def equal_parts(n_workers: int, memory_limit: int | None) -> int | None:
    """Return the bytes of each process if workers and their driver share a memory limit."""
    return None if memory_limit is None else memory_limit // (n_workers + 1)


def planned_part(limit: int, *remedies: float | bool | None) -> int:
    """Return the bytes that a dask worker may use: a little less than dask's first remedy allows.

    Parameters
    ----------
    limit : int
        Memory limit of the worker, in bytes.
    remedies : float, or False or None if it is off
        Fractions of the limit at which dask spills and pauses.
    """
    return int(BELOW * limit * min(float(part) for part in (*remedies, TERMINATE) if part))
