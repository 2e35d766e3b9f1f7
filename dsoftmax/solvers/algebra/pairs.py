"""The memory of L-BFGS and its inverse Hessian (Nocedal and Wright 2006, chapter 7.2)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

TILE_ENTRIES = 2**14
"""Entries of a vector that stay in the cache while all pairs pass over them: 128 KiB in float64."""


@dataclass(frozen=True)
class Pairs:
    """Pairs sₖ = θₖ₊₁ − θₖ and yₖ = ∇Fₖ₊₁ − ∇Fₖ, oldest first.

    Attributes
    ----------
    steps, changes : n arrays (K, p+1) float64
        sₖ and yₖ.
    products : (n, n) float64
        sᵢᵀyⱼ for i ≤ j, else 0.
    """

    steps: tuple[Float, ...] = ()
    changes: tuple[Float, ...] = ()
    products: Float = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.steps)

    def joined_by(self, step: Float, change: Float, most: int) -> "Pairs":
        """Return at most ``most`` pairs: a new one, and the newest of these.

        Work: 2·n·K·p flops.
        """
        steps, changes = (*self.steps, step)[-most:], (*self.changes, change)[-most:]
        n = len(steps)
        products = np.zeros((n, n))
        old = n - 1
        products[:old, :old] = self.products[len(self) - old :, len(self) - old :]
        products[:, -1] = _dots(steps, change)
        return Pairs(steps, changes, products)

    def inverse_product(self, gradient: Float, first: Callable[[Float], Float] = np.copy) -> Float:
        """Return H·∇F by the two-loop recursion (algorithm 7.4), with H⁰ = γ·first.

        γ = sᵀy/(yᵀ·first(y)) of the newest pair. The inner products of both loops follow from
        ``products``, so that each pair is read twice instead of five times. Work: 8·n·K·p flops,
        and two calls of ``first``.
        """
        n = len(self)
        if not n:
            return first(gradient)
        bends = np.diag(self.products)
        along, alpha = _dots(self.steps, gradient), np.zeros(n)
        for i in reversed(range(n)):
            alpha[i] = (along[i] - self.products[i, i + 1 :] @ alpha[i + 1 :]) / bends[i]
        q = first(_combined(gradient, self.changes, -alpha))
        q *= bends[-1] / float(np.sum(self.changes[-1] * first(self.changes[-1])))
        across, moves = _dots(self.changes, q), np.zeros(n)
        for i in range(n):
            moves[i] = alpha[i] - (across[i] + self.products[:i, i] @ moves[:i]) / bends[i]
        return _combined(q, self.steps, moves)


def _tiles(size: int) -> Iterator[slice]:
    return (slice(start, start + TILE_ENTRIES) for start in range(0, size, TILE_ENTRIES))


def _dots(vectors: Sequence[Float], other: Float) -> Float:
    """Return the inner product of each vector with ``other``, (n,)."""
    flat, right = [vector.reshape(-1) for vector in vectors], other.reshape(-1)
    found = np.zeros(len(flat))
    for tile in _tiles(len(right)):
        part = right[tile]
        found += [vector[tile] @ part for vector in flat]
    return found


def _combined(vector: Float, others: Sequence[Float], factors: Float) -> Float:
    """Return vector + Σ factorᵢ·otherᵢ."""
    found = vector.copy()
    flat, sums = [other.reshape(-1) for other in others], found.reshape(-1)
    for tile in _tiles(len(sums)):
        part = sums[tile]
        for other, factor in zip(flat, factors, strict=True):
            part += factor * other[tile]
    return found
