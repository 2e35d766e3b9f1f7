"""The Hessian of a softmax as a Kronecker product, A ⊗ G, and its inverse by two eigendecompositions.

∇²F = (1/S) Σ sᵢ(diag pᵢ − pᵢpᵢᵀ) ⊗ x̃ᵢx̃ᵢᵀ + penalty. Where the two factors of the rows are taken to be independent, that is
A ⊗ G + penalty with A = Σ sᵢ(diag pᵢ − pᵢpᵢᵀ)/S and G = Σ sᵢx̃ᵢx̃ᵢᵀ/S (Martens and Grosse 2015, "Optimizing neural networks
with Kronecker-factored approximate curvature", section 3; one layer). At θ = 0, where P is constant, it is exact. It knows
how the features are scaled and turned, so that steps in its metric do not depend on that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.protocol import Problem

Float = NDArray[np.float64]
ROUNDING = 1e-14
"""Eigenvalues below this part of the largest are rounding."""


@dataclass(frozen=True)
class Kronecker:
    """(A ⊗ G + λI)⁻¹ for one G and any A.

    Attributes
    ----------
    gram : (p+1, p+1) or (p+1,) float64
        G or its diagonal.
    penalty : float
        λ; entries without a penalty get it too, which only shortens steps.
    free : (K, p+1) bool
        Entries that move.
    """

    gram: Float
    penalty: float
    free: NDArray[np.bool_]

    @classmethod
    def of(cls, problem: Problem) -> "Kronecker":
        """Return the preconditioner of a problem."""
        gram = problem.gram.copy()
        if not problem.free[:, -1].any():
            gram[..., -1] = 0
            gram[-1] = 0
        return cls(gram, float(problem.penalty.max(initial=0)), problem.free)

    @cached_property
    def _eigen(self) -> tuple[Float, Float | None]:
        if self.gram.ndim == 1:
            return np.maximum(self.gram, 0), None
        values, vectors = scipy.linalg.eigh(self.gram)
        return np.maximum(values, 0), vectors

    def product(self, moments: Float) -> Callable[[Float], Float]:
        """Return what multiplies (K, p+1) float64 by A ⊗ G + λI; zero where an entry is not free."""

        def product(V: Float) -> Float:
            turned = moments @ V
            found = (
                turned * self.gram if self.gram.ndim == 1 else turned @ self.gram
            ) + self.penalty * V
            held: Float = np.where(self.free, found, 0.0)
            return held

        return product

    def matrix(self, moments: Float) -> Float:
        """Return A ⊗ G + λI, (K·(p+1), K·(p+1)); zero where an entry is not free."""
        found = np.kron(moments, np.diag(self.gram) if self.gram.ndim == 1 else self.gram)
        found[np.diag_indices(len(found))] += self.penalty
        held = ~self.free.ravel()
        found[held, :] = found[:, held] = 0
        return np.asarray(found, np.float64)

    def inverse(self, moments: Float) -> Callable[[Float], Float]:
        """Return what multiplies (K, p+1) float64 by (A ⊗ G + λI)⁻¹.

        Parameters
        ----------
        moments : (K, K) float64
            A.

        Notes
        -----
        Work 10·K³ flops, and 4·K²·(p+1) + 4·K·(p+1)² for each product, without the last term where G is a diagonal.
        """
        sizes, vectors = scipy.linalg.eigh(moments)
        values, basis = self._eigen
        scale = np.outer(np.maximum(sizes, 0), values)
        divisor = np.maximum(
            scale + self.penalty, max(ROUNDING * float(scale.max(initial=0)), 1e-300)
        )

        def product(right: Float) -> Float:
            turned = vectors.T @ right
            if basis is not None:
                turned = turned @ basis
            turned /= divisor
            if basis is not None:
                turned = turned @ basis.T
            found: Float = np.where(self.free, vectors @ turned, 0.0)
            return found

        return product
