"""How many blocks fit in the memory allowed: a pure function of integers."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import MemoryLimitError

PROCESS_BYTES = 160 * 2**20
"""What a Python process with NumPy, SciPy, Zarr and dask imported takes before it holds any data (bytes, measured)."""
DECODE_FACTOR = 3
"""A block takes its decoded bytes, up to as many stored ones until it is decoded, and what the allocator keeps of the last."""


def blocks_that_fit(chunk_bytes: NDArray[np.int64], memory_limit: int) -> int:
    """Return how many of the largest blocks fit in ``memory_limit`` bytes beside the process itself."""
    largest = int(chunk_bytes.max(initial=1))
    return max(memory_limit - PROCESS_BYTES, 0) // (DECODE_FACTOR * max(largest, 1))


def projected_bytes(blocks: int, largest: int) -> int:
    """Return what a process takes that holds ``blocks`` blocks of a chunk of ``largest`` bytes."""
    return PROCESS_BYTES + DECODE_FACTOR * largest * blocks


def plan_threads(n_threads: int, n_chunks: int, chunk_bytes: NDArray[np.int64], memory_limit: int | None) -> tuple[int, bool]:
    """Return how many threads visit ``n_chunks`` chunks, and whether each reads one ahead, so that their blocks fit.

    Raises
    ------
    MemoryLimitError
        Not even one block fits.
    """
    n_threads = max(min(n_threads, n_chunks), 1)
    if memory_limit is None:
        return n_threads, True
    require_blocks(1, chunk_bytes, memory_limit)
    fit = blocks_that_fit(chunk_bytes, memory_limit)
    return min(n_threads, fit), fit >= 2 * n_threads


def require_blocks(needed: int, chunk_bytes: NDArray[np.int64], memory_limit: int | None) -> None:
    """Raise unless ``needed`` blocks of the largest chunk fit.

    Raises
    ------
    MemoryLimitError
        Naming what the largest chunk takes and what limit would do.
    """
    if memory_limit is None or blocks_that_fit(chunk_bytes, memory_limit) >= needed:
        return
    largest = int(chunk_bytes.max(initial=1))
    enough = projected_bytes(needed, largest)
    raise MemoryLimitError(
        f"The memory allowed is {memory_limit / 2**20:,.0f} MiB; the process takes about {PROCESS_BYTES / 2**20:,.0f} MiB "
        f"and a block of the largest chunk {largest / 2**20:,.1f} MiB, and three times that while it is read. Allow at least "
        f"{enough / 2**20:,.0f} MiB, or store X in chunks of fewer rows."
    )
