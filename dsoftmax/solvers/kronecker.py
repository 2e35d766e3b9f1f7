"""The Hessian of a softmax as a Kronecker product, A ⊗ G, and its inverse by two eigendecompositions.

∇²F = (1/S) Σ sᵢ(diag pᵢ − pᵢpᵢᵀ) ⊗ x̃ᵢx̃ᵢᵀ + penalty. Where the two factors of the rows are taken to be independent, that is
A ⊗ G + penalty with A = Σ sᵢ(diag pᵢ − pᵢpᵢᵀ)/S and G = Σ sᵢx̃ᵢx̃ᵢᵀ/S (Martens and Grosse 2015, "Optimizing neural networks
with Kronecker-factored approximate curvature", section 3; one layer). At θ = 0, where P is constant, it is exact. It knows
how the features are scaled and turned, so that steps in its metric do not depend on that.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.oracle import Problem
from dsoftmax.softmax import upper_triangle
from dsoftmax.solvers.inner import conjugate_gradients

Float = NDArray[np.float64]

TOLERANCE, MAX_PRODUCTS = 0.05, 100
"""Of the conjugate gradients that apply the inverse of a sum: steps need no more."""
WORK = 4
"""Products in memory may take so many times the work of a pass."""
MOST_FEATURES, MOST_ENTRIES = 2048, 3 * 2**22
"""Beyond so many features, or so many entries of all Gram matrices, there are no groups."""
MOST_BLOCK_ENTRIES = 2**24
"""Blocks on the diagonal of the Hessian are factorised while they have no more entries than this."""
LIFTS = (1e-6, 1e-4, 1e-2, 1.0)
"""Added to the diagonal, scaled to 1, of what is factorised, the first that makes it definite: Gram matrices are rounded to float32."""
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
            found = (turned * self.gram if self.gram.ndim == 1 else turned @ self.gram) + self.penalty * V
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
        divisor = np.maximum(scale + self.penalty, max(ROUNDING * float(scale.max(initial=0)), 1e-300))

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


@dataclass(frozen=True)
class KroneckerSum:
    """(Σ A_g ⊗ G_g + λI)⁻¹: a term for each pair of classes that curves much, and for the rest of each class.

    One A ⊗ G takes probabilities and features to be independent. Within a class they are much more so, and the term of a pair is
    exact (`dsoftmax.softmax.curvatures`): on images of ten classes the sum needs a seventh of the passes. Its inverse has
    no closed form and is applied by conjugate gradients in memory, about five steps of them; their preconditioner is the
    diagonal of the sum in blocks of a class, or (ΣA_g) ⊗ G where these blocks are too large.

    Attributes
    ----------
    moments : (groups, K, K) float64
        A_g.
    grams : (groups, (p+1)·(p+2)/2) float32
        G_g, upper triangles row by row, for a trace of A_g of 1.
    penalty : float
    free : (K, p+1) bool
    """

    moments: Float
    grams: NDArray[np.float32]
    penalty: float
    free: NDArray[np.bool_]

    @cached_property
    def _whole(self) -> NDArray[np.float32]:
        d = self.free.shape[1]
        whole = np.zeros((len(self.grams), d, d), np.float32)
        row, column = np.divmod(upper_triangle(d), d)
        whole[:, row, column] = whole[:, column, row] = self.grams
        return whole

    def _first(self) -> Callable[[Float], Float]:
        """Return the preconditioner of the conjugate gradients."""
        K, d = self.free.shape
        if K * d * d > MOST_BLOCK_ENTRIES:
            traces = np.trace(self.moments, axis1=1, axis2=2)
            gram = np.tensordot(traces / max(float(traces.sum()), 1e-300), self._whole, 1)
            return Kronecker(gram, self.penalty, self.free).inverse(self.moments.sum(axis=0))
        factors = []
        for k in range(K):
            block = np.tensordot(self.moments[:, k, k].astype(np.float32), self._whole, 1).astype(np.float64)
            size = np.diag(block) + self.penalty
            scale = np.where(self.free[k] & (size > 0), 1 / np.sqrt(np.where(size > 0, size, 1)), 0.0)
            factors.append((scale, _factor(block * np.outer(scale, scale))))

        def product(right: Float) -> Float:
            parts = (
                scale * scipy.linalg.cho_solve(factor, scale * r) for (scale, factor), r in zip(factors, right, strict=True)
            )
            return np.stack(list(parts))

        return product

    def inverse(self) -> Callable[[Float], Float]:
        """Return what multiplies (K, p+1) float64 by the inverse.

        Notes
        -----
        Work K·(p+1)³/3 flops, and for each product about five times 2·groups·K·(p+1)·(K + p+1) in float32 and 2·K·(p+1)².
        """
        first, moments = self._first(), self.moments.astype(np.float32)

        def product(V: Float) -> Float:
            scale = float(np.abs(V).max(initial=0)) or 1.0  # float32 has less range
            turned = np.matmul((V / scale).astype(np.float32), self._whole)
            found: Float = np.where(
                self.free, np.matmul(moments, turned).sum(axis=0).astype(np.float64) * scale + self.penalty * V, 0.0
            )
            return found

        return lambda right: conjugate_gradients(product, right, first, TOLERANCE, MAX_PRODUCTS)[0]


def _factor(scaled: Float) -> tuple[Float, bool]:
    """Return the Cholesky factor of a matrix with the diagonal 1, as `scipy.linalg.cho_solve` takes it."""
    for lift in LIFTS:
        scaled[np.diag_indices(len(scaled))] = 1 + lift
        with suppress(scipy.linalg.LinAlgError):
            factor, lower = scipy.linalg.cho_factor(scaled, check_finite=False)
            return factor, lower
    return np.eye(len(scaled)), False


def sum_bytes(n_rows: int, n_classes: int, n_features: int, gram: bool = True) -> int:
    """Return what the sum takes in the process that steps: Gram matrices on their way and as they are kept, blocks (bytes)."""
    d, n = n_features + 1, n_groups(n_rows, n_classes, n_features)
    return 0 if n == 1 or not gram else 25 * n * d * d + 8 * min(n_classes * d * d, MOST_BLOCK_ENTRIES)


def n_groups(n_rows: int, n_classes: int, n_features: int) -> int:
    """Return how many groups are worth it: products in memory cost about what the pass does, the Gram matrices fit, and each class
    has one, or else 1.

    A pass costs 4·n·K·p flops, a product 2·groups·K·(p+1)·(K+p+1), and about six are made for it.
    """
    d = n_features + 1
    if d > MOST_FEATURES:
        return 1
    by_work = int(WORK * n_rows / (3 * (n_classes + d)))
    by_memory = MOST_ENTRIES // (d * (d + 1) // 2)
    found = min(n_classes * (n_classes + 1) // 2, by_work, by_memory)
    return found if found >= n_classes else 1


def groups(moments: Float, n: int) -> NDArray[np.int64]:
    """Return the groups of pairs of classes, and of classes on the diagonal, (K, K): see `dsoftmax.softmax.curvatures`.

    Class k has group k, and the n − K pairs that curve most, which is −A_kl = Σ sᵢpᵢₖpᵢₗ/S, have one each.

    Parameters
    ----------
    moments : (K, K) float64
        A.
    n : int
        At least K.
    """
    K = len(moments)
    found = np.repeat(np.arange(K)[:, None], K, axis=1)
    k, other = np.triu_indices(K, 1)
    chosen = np.argsort(moments[k, other], kind="stable")[: max(n - K, 0)]
    for number, pair in enumerate(chosen, K):
        found[k[pair], other[pair]] = found[other[pair], k[pair]] = number
    return found
