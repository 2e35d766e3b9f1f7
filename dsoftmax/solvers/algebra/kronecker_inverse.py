"""The inverse of A ⊗ G + λI, by the eigenvectors of A and of G, or of G alone."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

EIGENVALUE_ROUNDING = 1e-14
"""Smaller eigenvalues, relative to the largest, are rounding."""
RANK_ONE_LIFT = 1e-9
"""Least λ, as a fraction of an eigenvalue's largest curvature, in the inverse by a diagonal.

A shift of all classes has no curvature of its own.
"""
TILE_ENTRIES = 2**14
"""Entries of a tile of columns that stay in the cache while they are inverted."""


class Inverse(Protocol):
    """The symmetric map V ↦ (A ⊗ G + λI)⁻¹·V for V (K, p+1)."""

    def __call__(self, right: Float) -> Float:
        """Return the product; entries that are not free become 0."""

    def norm(self, V: Float) -> float:
        """Return ⟨V, (A ⊗ G + λI)⁻¹V⟩ of a V that is 0 in entries that are not free."""


def fixed_at_zero(V: Float, free: NDArray[np.bool_]) -> Float:
    """Return V after its entries that are not free were set to 0."""
    if not free.all():
        V[~free] = 0
    return V


@dataclass(frozen=True)
class WholeInverse:
    """The inverse for a whole A.

    Work 4·K²·(p+1) + 4·K·(p+1)² flops for each V, and half of that for `norm`. A diagonal G saves
    the last term.

    Attributes
    ----------
    divisor : (K, p+1) float64
        Eigenvalues of A ⊗ G + λI.
    vectors : (K, K) float64
        Eigenvectors of A.
    basis : (p+1, p+1) float64 or None
        Eigenvectors of G; None for a diagonal G.
    free : (K, p+1) bool
    """

    divisor: Float
    vectors: Float
    basis: Float | None
    free: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        sizes: Float,
        vectors: Float,
        values: Float,
        basis: Float | None,
        penalty: float,
        free: NDArray[np.bool_],
    ) -> "WholeInverse":
        """Return the inverse from the eigenvalues of A (``sizes``) and of G (``values``)."""
        scale = np.outer(np.maximum(sizes, 0), values)
        floor = max(EIGENVALUE_ROUNDING * float(scale.max(initial=0)), 1e-300)
        return cls(np.maximum(scale + penalty, floor), vectors, basis, free)

    def __call__(self, right: Float) -> Float:
        turned = self._turned(right)
        turned /= self.divisor
        if self.basis is not None:
            turned = turned @ self.basis.T
        return fixed_at_zero(self.vectors @ turned, self.free)

    def norm(self, V: Float) -> float:
        turned = self._turned(V)
        return float(np.sum(np.square(turned, out=turned) / self.divisor))

    def _turned(self, V: Float) -> Float:
        turned: Float = self.vectors.T @ V
        return turned if self.basis is None else turned @ self.basis


@dataclass(frozen=True)
class RankOneInverse:
    """The inverse for A ≈ diag c − ccᵀ/Σc.

    Take an eigenvalue l of G. Then l·A + λI is a diagonal matrix D less one of rank one. Sherman
    and Morrison's formula inverts it:

        (D − (l/s)·ccᵀ)⁻¹r = D⁻¹r + D⁻¹c·(cᵀD⁻¹r)·l/(λ·Σ c/D),    D = l·c + λ, s = Σc

    Work 8·K·(p+1) + 4·K·(p+1)² flops for each V. D⁻¹ is formed anew for tiles of columns, which
    takes less time than reading it.

    Attributes
    ----------
    masses : (K,) float64
        c.
    values : (p+1,) float64
        Eigenvalues l of G.
    lift : (p+1,) float64
        λ, lifted where it is below rounding.
    basis : (p+1, p+1) float64 or None
        Eigenvectors of G; None for a diagonal G.
    free : (K, p+1) bool
    """

    masses: Float
    values: Float
    lift: Float
    basis: Float | None
    free: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        masses: Float,
        values: Float,
        basis: Float | None,
        penalty: float,
        free: NDArray[np.bool_],
    ) -> "RankOneInverse":
        """Return the inverse from c and the eigenvalues of G."""
        largest = float(masses.max(initial=0)) * values
        least = EIGENVALUE_ROUNDING * float(largest.max(initial=0))
        lift = np.maximum(penalty, np.maximum(RANK_ONE_LIFT * largest, least))
        return cls(masses, values, np.maximum(lift, 1e-300), basis, free)

    def __call__(self, right: Float) -> Float:
        c, values, lift = self.masses, self.values, self.lift
        turned = right.copy() if self.basis is None else right @ self.basis
        step = max(TILE_ENTRIES // len(c), 64)
        for start in range(0, len(values), step):
            tile = slice(start, start + step)
            part, inverse = turned[:, tile], 1 / (np.outer(c, values[tile]) + lift[tile])
            part *= inverse
            factor = values[tile] / (lift[tile] * (c @ inverse))
            inverse *= c[:, None]
            inverse *= factor * (c @ part)
            part += inverse
        if self.basis is not None:
            turned = turned @ self.basis.T
        return fixed_at_zero(turned, self.free)

    def norm(self, V: Float) -> float:
        return float(np.vdot(V, self(V)))
