"""Which worker visits which chunks: rendezvous hashing with a bound on the load. Pure functions of integers and names."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SLACK = 1.05
"""No worker gets more than this times its fair part of the bytes, plus one chunk."""


def assign(names: Sequence[str], weights: Sequence[int], chunk_bytes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the chunks of each worker.

    Every chunk ranks the workers by a hash of its number and their name and goes to the first that has room. A worker so
    meets the same chunks in every pass and every run; one that is lost moves little else than its own.

    Parameters
    ----------
    names : sequence of str
        A name per worker, stable over restarts.
    weights : sequence of int
        The threads of each worker: its fair part is proportional to them.
    chunk_bytes : (n_chunks,) int64

    Returns
    -------
    list of (n,) int64
        Chunk numbers, ascending, one array a worker.

    References
    ----------
    Thaler and Ravishankar (1998), "Using name-based mappings to increase hit rates"; the bound is that of Mirrokni,
    Thorup and Zadimoghaddam (2018), "Consistent hashing with bounded loads".
    """
    n_chunks, n_workers = len(chunk_bytes), len(names)
    if n_workers == 1:
        return [np.arange(n_chunks)]
    seeds = np.array([int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") for name in names], np.uint64)
    with np.errstate(over="ignore"):
        mixed = _mix(np.arange(1, n_chunks + 1, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) ^ seeds[None, :])
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
    fair = np.asarray(weights, np.float64) / np.sum(weights)
    ranking = np.argsort(np.log(uniform) / fair, axis=1)[:, ::-1]  # weighted rendezvous: −w/log u, largest first
    room = list(SLACK * fair * float(chunk_bytes.sum()))
    owner = np.empty(n_chunks, np.int64)
    for chunk, (size, order) in enumerate(zip(chunk_bytes.tolist(), ranking.tolist(), strict=True)):
        worker = next((w for w in order if room[w] > 0), order[0])
        room[worker] -= size
        owner[chunk] = worker
    return [np.flatnonzero(owner == worker) for worker in range(n_workers)]


def _mix(h: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: NDArray[np.uint64] = h ^ (h >> np.uint64(31))
    return out
