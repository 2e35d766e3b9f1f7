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
from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.protocol import Problem

Float = NDArray[np.float64]

EIGENVALUE_ROUNDING = 1e-14
"""Least eigenvalue, as a fraction of the largest: what lies below is rounding."""

RANK_ONE_LIFT = 1e-9
"""Least λ of the inverse with a diagonal of A, as a fraction of the largest curvature.

A shift of all classes has no curvature of its own.
"""
EIGEN_CLASSES = 32
"""Most classes for which the inverse uses all of A where G is a diagonal.

Beyond, products with A's eigenvectors would be most of a step. The diagonal of A leads to the
optimum in as many passes (banking77 TF-IDF: 14 both ways).
"""
TILE_ENTRIES = 2**14
"""Entries of a tile of columns that stay in the cache while they are inverted."""
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
    _last: list[tuple[Float, Float, Float]] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def of(cls, problem: Problem) -> "Kronecker":
        """Return the preconditioner of a problem. All who ask share it, and its eigenvectors."""
        if problem not in _OF_PROBLEM:
            gram = problem.gram.copy()
            if not problem.free[:, -1].any():
                gram[..., -1] = 0
                gram[-1] = 0
            penalty = float(problem.penalty.max(initial=0))
            _OF_PROBLEM[problem] = cls(gram, penalty, problem.free)
        return _OF_PROBLEM[problem]

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

    def _eigen_of(self, moments: Float) -> tuple[Float, Float]:
        """Return eigenvalues and eigenvectors of A, which are kept until the next A comes."""
        known = self._last[0] if self._last else None
        if known is None or known[0] is not moments:
            known = moments, *scipy.linalg.eigh(moments)
            self._last[:] = [known]
        return known[1], known[2]

    def _divisor(self, sizes: Float) -> Float:
        """Return the eigenvalues of A ⊗ G + λI, (K, p+1), from those of A."""
        scale = np.outer(np.maximum(sizes, 0), self._eigen[0])
        floor = max(EIGENVALUE_ROUNDING * float(scale.max(initial=0)), 1e-300)
        return np.maximum(scale + self.penalty, floor)

    def _fixed_at_zero(self, V: Float) -> Float:
        """Return V after its entries that are not free were set to 0."""
        if not self.free.all():
            V[~self.free] = 0
        return V

    def product(self, moments: Float) -> Callable[[Float], Float]:
        """Return the map from V (K, p+1) to (A ⊗ G + λI)·V; entries that are not free become 0."""

        def product(V: Float) -> Float:
            turned = times_moments(moments, V)
            turned = turned * self.gram if self.gram.ndim == 1 else turned @ self.gram
            return self._fixed_at_zero(turned + self.penalty * V)

        return product

    def matrix(self, moments: Float) -> Float:
        """Return A ⊗ G + λI, (K·(p+1), K·(p+1)); rows and columns that are not free become 0."""
        found = kronecker_matrix(moments, self.gram, self.penalty)
        fixed = ~self.free.ravel()
        found[fixed, :] = found[:, fixed] = 0
        return found

    def inverse(self, moments: Float) -> Callable[[Float], Float]:
        """Return the map from V (K, p+1) to (A ⊗ G + λI)⁻¹·V, by the eigenvectors of A and of G.

        Parameters
        ----------
        moments : (K, K) or (K,) float64
            A, or its diagonal: see `_rank_one_inverse`. Of more than `EIGEN_CLASSES` classes the
            diagonal alone is used if G is a diagonal too.

        Notes
        -----
        Work: 10·K³ flops, then 4·K²·(p+1) + 4·K·(p+1)² for each V. A diagonal G saves the last
        term, and a diagonal of A the terms of K² and K³.
        """
        if self._by_diagonal(moments):
            return self._rank_one_inverse(diagonal_of(moments))
        sizes, vectors = self._eigen_of(moments)
        divisor, basis = self._divisor(sizes), self._eigen[1]

        def product(right: Float) -> Float:
            turned = vectors.T @ right
            if basis is not None:
                turned = turned @ basis
            turned /= divisor
            if basis is not None:
                turned = turned @ basis.T
            return self._fixed_at_zero(vectors @ turned)

        return product

    def inverse_norm(self, moments: Float, V: Float) -> float:
        """Return ⟨V, (A ⊗ G + λI)⁻¹V⟩ of a V (K, p+1) that is 0 in entries that are not free.

        Work: 10·K³ flops unless A is the last one, then 2·K²·(p+1) + 2·K·(p+1)², which is half of
        that of `inverse`.
        """
        if self._by_diagonal(moments):
            return float(np.vdot(V, self._rank_one_inverse(diagonal_of(moments))(V)))
        sizes, vectors = self._eigen_of(moments)
        turned, basis = vectors.T @ V, self._eigen[1]
        turned = turned if basis is None else turned @ basis
        return float(np.sum(np.square(turned, out=turned) / self._divisor(sizes)))

    def _by_diagonal(self, moments: Float) -> bool:
        return moments.ndim == 1 or (self.gram.ndim == 1 and len(moments) > EIGEN_CLASSES)

    def _rank_one_inverse(self, curvatures: Float) -> Callable[[Float], Float]:
        """Return the inverse for A ≈ diag c − ccᵀ/Σc with the diagonal ``curvatures``, (K,).

        Take an eigenvalue l of G. Then l·A + λI is a diagonal matrix D less one of rank one.
        Sherman and Morrison's formula inverts it:

            (D − (l/s)·ccᵀ)⁻¹r = D⁻¹r + D⁻¹c·(cᵀD⁻¹r)·l/(λ·Σ c/D),    D = l·c + λ, s = Σc

        Work: 8·K·(p+1) + 4·K·(p+1)² flops for each V. D⁻¹ is formed anew for tiles of columns,
        which takes less time than reading it.
        """
        c = class_masses(curvatures)
        values, basis = self._eigen
        largest = float(c.max(initial=0)) * values
        least = EIGENVALUE_ROUNDING * float(largest.max(initial=0))
        lift = np.maximum(self.penalty, np.maximum(RANK_ONE_LIFT * largest, least))
        lift = np.maximum(lift, 1e-300)
        step = max(TILE_ENTRIES // len(c), 64)

        def product(right: Float) -> Float:
            turned = right.copy() if basis is None else right @ basis
            for start in range(0, len(values), step):
                tile = slice(start, start + step)
                part, inverse = turned[:, tile], 1 / (np.outer(c, values[tile]) + lift[tile])
                part *= inverse
                factor = values[tile] / (lift[tile] * (c @ inverse))
                inverse *= c[:, None]
                inverse *= factor * (c @ part)
                part += inverse
            if basis is not None:
                turned = turned @ basis.T
            return self._fixed_at_zero(turned)

        return product


_OF_PROBLEM: WeakKeyDictionary[Problem, Kronecker] = WeakKeyDictionary()


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
