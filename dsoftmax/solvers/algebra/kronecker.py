"""The Hessian of a softmax as a Kronecker product A ⊗ G, and its inverse.

The Hessian is a sum over the rows::

    ∇²F = (1/S) Σ sᵢ(diag pᵢ − pᵢpᵢᵀ) ⊗ x̃ᵢx̃ᵢᵀ + penalty

If the two factors of the rows are independent, the sum becomes a product::

    A ⊗ G + penalty,     A = Σ sᵢ(diag pᵢ − pᵢpᵢᵀ)/S,     G = Σ sᵢx̃ᵢx̃ᵢᵀ/S

This is the layer-wise approximation of Martens and Grosse (2015, "Optimizing neural networks with
Kronecker-factored approximate curvature", section 3). It is exact at θ = 0, because P is constant
there. A step in its metric does not depend on how the features are scaled or rotated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker_inverse import (
    Inverse,
    RankOneInverse,
    WholeInverse,
    fixed_at_zero,
)
from dsoftmax.solvers.protocol import Problem

Float = NDArray[np.float64]


EIGEN_CLASSES = 32
"""Most classes for which the inverse uses all of A where G is a diagonal.

Beyond, products with A's eigenvectors would be most of a step. The diagonal of A leads to the
optimum in as many passes (banking77 TF-IDF: 14 both ways).
"""
MASS_ROUNDS = 50
"""Rounds of the fixed point of `class_masses`."""


def kronecker_matrix(moments: Float, gram: Float, penalty: Float | float) -> Float:
    """Return A ⊗ G + diag(penalty).

    Parameters
    ----------
    moments : (K, K) or (K,) float64
        A, or its diagonal.
    gram : (p+1, p+1) or (p+1,) float64
        G or its diagonal.
    penalty : float or (K, p+1) float64

    Returns
    -------
    (K·(p+1), K·(p+1)) float64
    """
    if moments.ndim == 1:
        moments = times_moments(moments, np.eye(len(moments)))
    found = np.asarray(np.kron(moments, gram if gram.ndim == 2 else np.diag(gram)), np.float64)
    found[np.diag_indices(len(found))] += np.ravel(penalty)
    return found


def shift_matrix(curvature: Float, n_classes: int) -> Float:
    """Return (11ᵀ/K) ⊗ diag c: curvature of the shift of all classes, and of nothing else.

    Parameters
    ----------
    curvature : (p+1,) float64
        c, the curvature of the shift of each feature.
    n_classes : int
        K.

    Returns
    -------
    (K·(p+1), K·(p+1)) float64
    """
    return np.kron(np.full((n_classes, n_classes), 1 / n_classes), np.diag(curvature))


@dataclass(frozen=True)
class Kronecker:
    """A ⊗ G + λI for one G and any A, as a product, as a matrix and as an inverse.

    Attributes
    ----------
    gram : (p+1, p+1) or (p+1,) float64
        G or its diagonal.
    penalty : float
        λ. Entries without a penalty get λ too, which only shortens steps.
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

    @property
    def diagonal(self) -> Float:
        """Diagonal of G, (p+1,)."""
        return self.gram if self.gram.ndim == 1 else np.diag(self.gram)

    @cached_property
    def _eigen(self) -> tuple[Float, Float | None]:
        """Eigenvalues and eigenvectors of G, computed for the first inverse.

        They follow from G alone. Proximal Newton asks for no inverse, so it does not pay for them.
        """
        if self.gram.ndim == 1:
            return np.maximum(self.gram, 0), None
        values, vectors = scipy.linalg.eigh(self.gram)
        return np.maximum(values, 0), vectors

    def product(self, moments: Float) -> Callable[[Float], Float]:
        """Return the map from V (K, p+1) to (A ⊗ G + λI)·V; entries that are not free become 0."""

        def product(V: Float) -> Float:
            turned = times_moments(moments, V)
            turned = turned * self.gram if self.gram.ndim == 1 else turned @ self.gram
            return fixed_at_zero(turned + self.penalty * V, self.free)

        return product

    def matrix(self, moments: Float) -> Float:
        """Return A ⊗ G + λI, (K·(p+1), K·(p+1)); rows and columns that are not free become 0."""
        found = kronecker_matrix(moments, self.gram, self.penalty)
        fixed = ~self.free.ravel()
        found[fixed, :] = found[:, fixed] = 0
        return found

    def inverse(self, moments: Float) -> Inverse:
        """Return the map from V (K, p+1) to (A ⊗ G + λI)⁻¹·V.

        Parameters
        ----------
        moments : (K, K) or (K,) float64
            A, or its diagonal. Of more than `EIGEN_CLASSES` classes the diagonal alone is used if
            G is a diagonal too.

        Notes
        -----
        Work: 10·K³ flops for the eigenvectors of A, none for its diagonal. The first inverse takes
        10·(p+1)³ more.
        """
        values, basis = self._eigen
        if moments.ndim == 1 or (basis is None and len(moments) > EIGEN_CLASSES):
            masses = class_masses(diagonal_of(moments))
            return RankOneInverse.of(masses, values, basis, self.penalty, self.free)
        sizes, vectors = scipy.linalg.eigh(moments)
        return WholeInverse.of(sizes, vectors, values, basis, self.penalty, self.free)


def times_moments(moments: Float, V: Float) -> Float:
    """Return A·V for A (K, K), or for its diagonal (K,) as `Kronecker.inverse` understands it."""
    if moments.ndim == 2:
        return moments @ V
    c = class_masses(moments)
    found: Float = c[:, None] * (V - (c @ V) / c.sum())
    return found


def diagonal_of(moments: Float) -> Float:
    """Return the diagonal of A, (K,), given A or its diagonal."""
    return np.diag(moments) if moments.ndim == 2 else moments


def class_masses(curvatures: Float) -> Float:
    """Return c with c_k(1 − c_k/Σc) = A_kk: the masses of classes that compete independently.

    Parameters
    ----------
    curvatures : (K,) float64
        Diagonal of A.

    Returns
    -------
    (K,) float64
        Solved by `MASS_ROUNDS` rounds of a fixed point; no class has more than 0.9 of the mass.
    """
    c = np.maximum(curvatures, 1e-300)
    for _ in range(MASS_ROUNDS):
        c = np.maximum(curvatures, 1e-300) / np.maximum(1 - c / c.sum(), 0.1)
    return c
