"""Decoded blocks that stay with a process from pass to pass: a pinned set within a budget.

A pass meets every chunk once, always in about the same order. A cache that makes room for the latest would have thrown away
each block just before it is met again; blocks that came first and stay are met in every pass.
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
    """Blocks by their chunk, up to a number of bytes; the first come stay. Thread-safe.

    Attributes
    ----------
    budget : int
        Bytes.
    n_bytes : int
        Held now.
    """

    def __init__(self, budget: int = 0) -> None:
        self.budget, self.n_bytes = budget, 0
        self._blocks: dict[int, Block] = {}
        self._lock = threading.Lock()

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._blocks

    def get(self, chunk: int) -> Block | None:
        """Return the block of a chunk, None where it is not kept."""
        return self._blocks.get(chunk)

    def has_room(self, n_bytes: int) -> bool:
        """Return whether a block of so many bytes would be kept."""
        return self.n_bytes + n_bytes <= self.budget

    def keep(self, chunk: int, block: Block) -> bool:
        """Keep a block that owns its memory, if there is room."""
        size = held_bytes(block)
        with self._lock:
            if chunk in self._blocks or not self.has_room(size):
                return False
            self._blocks[chunk] = block
            self.n_bytes += size
        return True

    def retain(self, chunks: NDArray[np.int64]) -> None:
        """Let go of all blocks but those of these chunks."""
        wanted = set(chunks.tolist())
        with self._lock:
            gone = [chunk for chunk in self._blocks if chunk not in wanted]
            with giving_back() if gone else nullcontext():
                for chunk in gone:
                    self.n_bytes -= held_bytes(self._blocks.pop(chunk))

    def resize(self, budget: int) -> None:
        """Change the budget; blocks that no longer fit go, the latest first."""
        with self._lock:
            self.budget = budget
            with giving_back() if self.n_bytes > budget else nullcontext():
                while self.n_bytes > budget:
                    self.n_bytes -= held_bytes(self._blocks.popitem()[1])

    def __del__(self) -> None:
        # The allocator gives each thread a heap: what one of them has freed, the others would take once more from the system.
        self.resize(0)


def held_bytes(block: Block) -> int:
    """Return what a block takes with its labels, weights and groups (bytes)."""
    others = sum(part.nbytes for part in (block.y, block.weights, block.groups) if part is not None)
    words = (
        sum(sys.getsizeof(word) for word in block.y)
        if block.y is not None and block.y.dtype.hasobject
        else 0
    )
    return block.nbytes + others + words


def owned(block: Block) -> Block:
    """Return the block with labels, weights and groups that are no views of something larger, which would be kept with them."""

    def alone(part: NDArray | None) -> NDArray | None:
        return part.copy() if part is not None and part.base is not None else part

    X = block.X
    if not scipy.sparse.issparse(X) and getattr(X.base, "nbytes", X.nbytes) > 1.1 * X.nbytes:
        X = X.copy()
    return replace(
        block, X=X, y=alone(block.y), weights=alone(block.weights), groups=alone(block.groups)
    )
