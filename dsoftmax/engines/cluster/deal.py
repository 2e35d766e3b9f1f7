"""Which worker gets which chunks, and the pieces that its share is cut into.

Pure functions of names and sizes.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.engines.cluster.shares import assign

CUT_SECONDS = 1.0
"""Shortest share that is cut, in seconds: every further piece costs about 10 ms."""
CUT_BYTES = 256 * 2**20
"""Smallest share that is cut in the first pass, in bytes: no throughput is known then."""
FRACTIONS = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
"""Pieces of a share that is cut, as fractions of its bytes."""

Chunks = NDArray[np.int64]


@dataclass(frozen=True)
class Hand:
    """The chunks that are dealt to one worker.

    Attributes
    ----------
    name, address, host : str
        Of the worker.
    directory : str
        Local directory, which distinguishes the worker from a later one at the same address.
    chunks, chunk_rows, chunk_bytes : (n,) int64
    """

    name: str
    address: str
    host: str
    directory: str
    chunks: Chunks
    chunk_rows: Chunks
    chunk_bytes: Chunks

    @property
    def n_bytes(self) -> int:
        return int(self.chunk_bytes.sum())


@dataclass(frozen=True)
class Piece:
    """A run of a share's chunks that one task visits.

    Attributes
    ----------
    owner : str
        Address of the worker whose share it is.
    start, stop : int
        Range in the chunks of the share.
    n_rows, n_bytes : int
    seconds : float or None
        Time that the piece takes at its owner's throughput; None if no throughput is known.
    """

    owner: str
    start: int
    stop: int
    n_rows: int
    n_bytes: int
    seconds: float | None = None

    @property
    def expected(self) -> float:
        """Seconds at the owner's throughput, or at a common one if that is unknown."""
        return self.n_bytes / CUT_BYTES if self.seconds is None else self.seconds


def deal(
    n_threads: Mapping[str, int], chunk_bytes: Chunks, owners: NDArray[np.object_] | None = None
) -> dict[str, Chunks]:
    """Return the chunks of each worker, by name.

    Parameters
    ----------
    n_threads : mapping from str to int
        Threads of each worker, by name.
    chunk_bytes : (n_chunks,) int64
    owners : (n_chunks,) object, optional
        Name of the worker that stores each chunk: see `owners_of`. The chunks are hashed to the
        workers when None.
    """
    names = sorted(n_threads)
    if owners is not None:
        return {name: np.flatnonzero(owners == name) for name in names}
    parts = assign(names, [n_threads[name] for name in names], chunk_bytes)
    return dict(zip(names, parts, strict=True))


def owners_of(holders: Sequence[Sequence[str]], names: Mapping[str, str]) -> NDArray[np.object_]:
    """Return the name of the worker that gets each chunk whose data are stored on the cluster.

    Parameters
    ----------
    holders : sequence of sequence of str
        Addresses of the workers that store a part of each chunk; the first that is in ``names``
        gets the chunk.
    names : mapping from str to str
        Names of the workers by address. The first name gets the chunks that none of them stores.
    """
    owners = np.full(len(holders), min(names.values()), object)
    for chunk, addresses in enumerate(holders):
        owners[chunk] = next(
            (names[address] for address in addresses if address in names), owners[chunk]
        )
    return owners


def cut(hands: Collection[Hand], throughput: Mapping[str, float], whole: bool) -> list[list[Piece]]:
    """Cut each share into pieces.

    Parameters
    ----------
    hands : collection of Hand
    throughput : mapping from str to float
        Bytes a second of each worker whose throughput is known, by name.
    whole : bool
        Whether each share stays one piece.

    Returns
    -------
    list of list of Piece
        Pieces of each share in their order. A short share is one piece. Others are four, and
        the first of them is smaller if the worker is slow.
    """
    known = [throughput[one.name] for one in hands if throughput.get(one.name)]
    fair = sum(one.n_bytes for one in hands) / sum(known) if len(known) == len(hands) else None
    found = []
    for hand in hands:
        own = throughput.get(hand.name) or None
        ends = [0, len(hand.chunks)] if whole else bounds(hand.chunk_bytes, own, fair)
        found.append([_piece(hand, start, stop, own) for start, stop in itertools.pairwise(ends)])
    return found


def _piece(hand: Hand, start: int, stop: int, throughput: float | None) -> Piece:
    n_bytes = int(hand.chunk_bytes[start:stop].sum())
    n_rows = int(hand.chunk_rows[start:stop].sum())
    seconds = n_bytes / throughput if throughput else None
    return Piece(hand.address, start, stop, n_rows, n_bytes, seconds)


def bounds(chunk_bytes: Chunks, throughput: float | None, fair: float | None) -> list[int]:
    """Return where the pieces of a share begin, and where the last one ends.

    Parameters
    ----------
    chunk_bytes : (n,) int64
    throughput : float or None
        Bytes a second of the owner.
    fair : float or None
        Seconds in which all workers together would visit all chunks. The first piece of a
        worker that needs longer for its share is shortened in proportion, so that others can
        take the rest.
    """
    n_bytes = int(chunk_bytes.sum())
    seconds = n_bytes / throughput if throughput else None
    if n_bytes <= CUT_BYTES if seconds is None else seconds <= CUT_SECONDS:
        return [0, len(chunk_bytes)]
    slow = 1.0 if fair is None or seconds is None else min(fair / seconds, 1.0)
    first = FRACTIONS[0] * slow
    rest = (1 - first) / (1 - FRACTIONS[0])
    parts = np.cumsum([first, *(rest * fraction for fraction in FRACTIONS[1:-1])]) * n_bytes
    ends = np.maximum(np.searchsorted(np.cumsum(chunk_bytes), parts, side="right"), 1)
    return sorted({0, *ends.tolist(), len(chunk_bytes)})
