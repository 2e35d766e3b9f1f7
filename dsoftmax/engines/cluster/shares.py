"""Which worker visits which chunks: rendezvous hashing with a bound on the load.

Pure functions of integers and names.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SLACK = 0.005
"""Largest excess of a worker over its fair part of the bytes, as a fraction of that part. A chunk
that fits nowhere may exceed it."""
LEAST = 0.05
"""Largest excess of all workers together, as a fraction of the smallest fair part: the smallest
worker loses no more than that."""
SLAB_SCORES = 2**19
"""Number of scores that are in memory at once."""


def assign(
    names: Sequence[str], weights: Sequence[float], chunk_bytes: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return the chunks of each worker.

    Every chunk ranks the workers by a hash of its number and their name, and goes to the first
    worker whose bound allows it. Chunks that fit nowhere go to the least loaded worker, the largest
    chunk first. A worker meets the same chunks in every pass and every run. A lost worker moves
    few chunks that are not its own.

    Parameters
    ----------
    names : sequence of str
        A name per worker, stable over restarts.
    weights : sequence of float
        Threads of each worker, or another measure of its speed. Its fair part is proportional.
    chunk_bytes : (n_chunks,) int64

    Returns
    -------
    list of (n,) int64
        Chunk numbers, ascending, one array a worker.

    Notes
    -----
    Work: n_chunks · n_workers hashes in the first round. Each further round hashes the chunks that
    found their worker full. Memory: `SLAB_SCORES` scores and a few integers a chunk.

    References
    ----------
    Thaler and Ravishankar (1998), "Using name-based mappings to increase hit rates". The bound is
    that of Mirrokni, Thorup and Zadimoghaddam (2018), "Consistent hashing with bounded loads".
    """
    n_chunks, n_workers = len(chunk_bytes), len(names)
    if n_workers == 1:
        return [np.arange(n_chunks)]
    seeds = np.array(
        [
            int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
            for name in names
        ],
        np.uint64,
    )
    fair = np.asarray(weights, np.float64) / np.sum(weights)
    bound = (1 + min(SLACK, LEAST * float(fair.min()))) * fair * float(chunk_bytes.sum())
    free = bound.copy()
    owner = np.full(n_chunks, -1, np.int64)
    left, open_ = np.arange(n_chunks), np.ones(n_workers, bool)
    while len(left) and open_.any():
        wanted = np.flatnonzero(open_)[_favourite(left, seeds[open_], fair[open_])]
        for worker in np.unique(wanted):
            mine = left[wanted == worker]
            taken = np.cumsum(chunk_bytes[mine]) <= free[worker]
            owner[mine[taken]] = worker
            free[worker] -= chunk_bytes[mine[taken]].sum()
            open_[worker] = bool(taken.all())
        left = left[owner[left] < 0]
    load = (bound - free).tolist()
    parts = fair.tolist()
    for chunk in left[np.argsort(-chunk_bytes[left], kind="stable")].tolist():
        size = float(chunk_bytes[chunk])
        least = min(
            range(n_workers),
            key=lambda worker: ((load[worker] + size) / parts[worker], names[worker]),
        )
        load[least] += size
        owner[chunk] = least
    return [np.flatnonzero(owner == worker) for worker in range(n_workers)]


def _favourite(
    chunks: NDArray[np.int64], seeds: NDArray[np.uint64], fair: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the index of each chunk's first worker: weighted rendezvous, the largest −w/log u."""
    best = np.empty(len(chunks), np.int64)
    step = max(SLAB_SCORES // len(seeds), 1)
    for start in range(0, len(chunks), step):
        numbers = chunks[start : start + step].astype(np.uint64) + np.uint64(1)
        with np.errstate(over="ignore"):
            mixed = splitmix64(numbers[:, None] * np.uint64(0x9E3779B97F4A7C15) ^ seeds[None, :])
        uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
        best[start : start + step] = np.argmax(np.log(uniform) / fair, axis=1)
    return best


def splitmix64(h: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix bits with the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: NDArray[np.uint64] = h ^ (h >> np.uint64(31))
    return out
