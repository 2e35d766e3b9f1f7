"""Decoded blocks that stay in memory between passes: a pinned set within a budget.

Every pass meets all chunks once, in about the same order. A cache that evicts the oldest block
would evict each block just before it is met again. Blocks that came first and stay are met in
every pass.
"""

import sys
import threading
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.system.allocator import giving_back


class Cache:
    """Blocks by their chunk, within a budget; the first blocks stay. Thread-safe.

    Attributes
    ----------
    budget : int
        Bytes that the blocks may take.
    n_bytes : int
        Bytes of the blocks that are cached now.
    """

    def __init__(self, budget: int = 0) -> None:
        self.budget, self.n_bytes = budget, 0
        self._blocks: dict[int, Block] = {}
        self._lock = threading.Lock()

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._blocks

    def get(self, chunk: int) -> Block | None:
        """Return the block of a chunk; None if it is not cached."""
        return self._blocks.get(chunk)

    def fits(self, n_bytes: int) -> bool:
        """Return whether the budget allows another block of ``n_bytes``."""
        return self.n_bytes + n_bytes <= self.budget

    def add(self, chunk: int, block: Block) -> bool:
        """Cache a block that owns its memory, if the budget allows it."""
        size = allocated_bytes(block)
        with self._lock:
            if chunk in self._blocks or not self.fits(size):
                return False
            self._blocks[chunk] = block
            self.n_bytes += size
        return True

    def retain(self, chunks: NDArray[np.int64]) -> None:
        """Evict all blocks except those of these chunks."""
        wanted = set(chunks.tolist())
        with self._lock:
            evicted = [chunk for chunk in self._blocks if chunk not in wanted]
            with giving_back() if evicted else nullcontext():
                for chunk in evicted:
                    self.n_bytes -= allocated_bytes(self._blocks.pop(chunk))

    def resize(self, budget: int) -> None:
        """Change the budget, and evict the latest blocks until the others fit."""
        with self._lock:
            self.budget = budget
            with giving_back() if self.n_bytes > budget else nullcontext():
                while self.n_bytes > budget:
                    self.n_bytes -= allocated_bytes(self._blocks.popitem()[1])

    def __del__(self) -> None:
        # Evicted memory is returned to the system at once, because glibc's heaps of the threads do
        # not share it.
        self.resize(0)


def allocated_bytes(block: Block) -> int:
    """Return the bytes of a block, with its labels, weights and groups."""
    others = sum(part.nbytes for part in _columns(block) if part is not None)
    words = (
        sum(sys.getsizeof(word) for word in block.y)
        if block.y is not None and block.y.dtype.hasobject
        else 0
    )
    return block.nbytes + others + words


def _columns(block: Block) -> tuple[NDArray | None, ...]:
    return block.y, block.weights, block.groups, block.reasons


def owned(block: Block) -> Block:
    """Return the block without views of larger arrays, which the views would keep in memory."""

    def alone(part: NDArray | None) -> NDArray | None:
        return part.copy() if part is not None and part.base is not None else part

    X = block.X
    if not scipy.sparse.issparse(X) and getattr(X.base, "nbytes", X.nbytes) > 1.1 * X.nbytes:
        X = X.copy()
    return replace(
        block,
        X=X,
        y=alone(block.y),
        weights=alone(block.weights),
        groups=alone(block.groups),
        reasons=alone(block.reasons),
    )
