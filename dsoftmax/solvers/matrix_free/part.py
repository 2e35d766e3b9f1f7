"""About the Hessian of a surrogate, and its inverse on some entries of θ.

An L1 penalty holds most entries at zero, and a step moves the others. So the inverse is that of the
part of the Hessian that belongs to the moving entries. A part of the inverse would be another
matrix: it takes steps as if the entries at zero moved too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.conjugate_gradients import FLAT, conjugate_steps
from dsoftmax.solvers.algebra.kronecker import (
    Kronecker,
    class_masses,
    diagonal_of,
    times_moments,
)

Float = NDArray[np.float64]
Inside = NDArray[np.bool_]

PRODUCTS, PRECISION = 60, 1e-3
"""Most products of one system, and the factor by which its residual falls."""
SHIFT = 1e-2
"""Curvature of the shift of all classes, as a fraction of the classes' mean.

Without a ridge penalty the shift has no curvature of its own, and the L1 part bounds it.
"""
LEAST_CURVATURE = 1e-12
"""Least curvature of an entry, as a fraction of the largest."""


class Part(Protocol):
    """A symmetric positive definite matrix of the entries of θ.

    Attributes
    ----------
    diagonal : (K, p+1) float64
        About its diagonal; positive.
    """

    @property
    def diagonal(self) -> Float: ...

    def product(self, V: Float) -> Float:
        """Return the product with V (K, p+1)."""

    def solve(self, right: Float, inside: Inside) -> Float:
        """Return x with (B·x)ⱼ = rightⱼ for the entries ``inside``, and xⱼ = 0 for the others."""


@dataclass(frozen=True)
class KroneckerPart:
    """Base of the two forms of A ⊗ G + λI.

    Attributes
    ----------
    kronecker : Kronecker
    moments : (K, K) or (K,) float64
        A, or its diagonal.
    """

    kronecker: Kronecker
    moments: Float

    @cached_property
    def diagonal(self) -> Float:
        curved = np.maximum(diagonal_of(self.moments), 0)
        found = np.outer(curved, np.maximum(self.kronecker.diagonal, 0))
        found += self.kronecker.penalty
        return _positive(found)


class DensePart(KroneckerPart):
    """A ⊗ G + λI with a whole matrix G: systems are solved by conjugate gradients."""

    def product(self, V: Float) -> Float:
        """Return the product with V. Work 2·K²·(p+1) + 2·K·(p+1)² flops."""
        turned = times_moments(self.moments, V)
        turned += SHIFT * float(diagonal_of(self.moments).mean()) * V.mean(axis=0)
        found: Float = turned @ self.kronecker.gram
        found += self.kronecker.penalty * V
        return found

    def solve(self, right: Float, inside: Inside) -> Float:
        return _solved(self.product, self.diagonal, right, inside)


@dataclass(frozen=True)
class BlockPart:
    """Class blocks of the Hessian: systems are solved by conjugate gradients.

    Attributes
    ----------
    blocks : (K, p+1, p+1) float64
        With all penalties.
    """

    blocks: Float

    @cached_property
    def diagonal(self) -> Float:
        return _positive(np.einsum("kii->ki", self.blocks))

    def product(self, V: Float) -> Float:
        """Return the product with V. Work 2·K·(p+1)² flops."""
        found: Float = np.matmul(self.blocks, V[:, :, None])[:, :, 0]
        return found

    def solve(self, right: Float, inside: Inside) -> Float:
        return _solved(self.product, self.diagonal, right, inside)


class SparsePart(KroneckerPart):
    """A ⊗ G + λI with a diagonal G and A ≈ diag c − ccᵀ/Σc: systems have a formula."""

    @cached_property
    def _masses(self) -> Float:
        return class_masses(diagonal_of(self.moments))

    @cached_property
    def _divisor(self) -> Float:
        found = np.outer(self._masses, np.maximum(self.kronecker.gram, 0))
        found += self.kronecker.penalty
        return _positive(found)

    def product(self, V: Float) -> Float:
        """Return the product with V. Work 6·K·(p+1) flops."""
        c = self._masses
        found: Float = c[:, None] * (V - (c @ V) / c.sum())
        found *= self.kronecker.gram
        found += self.kronecker.penalty * V
        return found

    def solve(self, right: Float, inside: Inside) -> Float:
        """Return the solution, by Sherman and Morrison's formula for each feature.

        With D = l·c + λ of the classes inside, it is D⁻¹r + D⁻¹c·(cᵀD⁻¹r)·l/(Σc − l·cᵀD⁻¹c).
        Work 10·K·(p+1) flops.
        """
        c, values = self._masses, self.kronecker.gram
        total = float(c.sum())
        found = np.where(inside, right, 0.0)
        found /= self._divisor
        along = np.where(inside, c[:, None], 0.0)
        along /= self._divisor
        left = np.maximum(total - values * (c @ along), SHIFT * total)
        along *= values * (c @ found) / left
        found += along
        return found


def _positive(curvatures: Float) -> Float:
    """Return curvatures of at least `LEAST_CURVATURE`."""
    return np.maximum(curvatures, LEAST_CURVATURE * float(curvatures.max()) + 1e-300)


def _solved(
    product: Callable[[Float], Float], diagonal: Float, right: Float, inside: Inside
) -> Float:
    """Return the solution by at most `PRODUCTS` products."""
    scale = np.where(inside, 1 / diagonal, 0.0)
    right = np.where(inside, right, 0.0)
    found = np.zeros_like(right)
    for step in conjugate_steps(
        product, right, lambda r: r * scale, most=PRODUCTS, tolerance=PRECISION, flat=FLAT,
        inside=inside,
    ):  # fmt: skip
        if not step.length:
            break
        found += step.length * step.direction
    return found if np.any(found) else right * scale
