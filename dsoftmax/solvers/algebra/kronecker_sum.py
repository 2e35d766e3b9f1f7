"""A sum of Kronecker products over groups of classes, and its inverse."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.conjugate_gradients import conjugate_gradients
from dsoftmax.solvers.algebra.kronecker import Kronecker

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


@dataclass(frozen=True)
class KroneckerSum:
    """(Σ A_g ⊗ G_g + λI)⁻¹: a term for each pair of classes that curves much, and for the rest of each class.

    One A ⊗ G takes probabilities and features to be independent. Within a class they are much more so, and the term of a pair is
    exact (`dsoftmax.kernels.curvature.curvatures`): on images of ten classes the sum needs a seventh of the passes. Its inverse has
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
        row, column = np.triu_indices(d)
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
            block = np.tensordot(self.moments[:, k, k].astype(np.float32), self._whole, 1).astype(
                np.float64
            )
            size = np.diag(block) + self.penalty
            scale = np.where(
                self.free[k] & (size > 0), 1 / np.sqrt(np.where(size > 0, size, 1)), 0.0
            )
            factors.append((scale, _factor(block * np.outer(scale, scale))))

        def product(right: Float) -> Float:
            parts = (
                scale * scipy.linalg.cho_solve(factor, scale * r)
                for (scale, factor), r in zip(factors, right, strict=True)
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
                self.free,
                np.matmul(moments, turned).sum(axis=0).astype(np.float64) * scale
                + self.penalty * V,
                0.0,
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
    return (
        0 if n == 1 or not gram else 25 * n * d * d + 8 * min(n_classes * d * d, MOST_BLOCK_ENTRIES)
    )


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
    """Return the groups of pairs of classes, and of classes on the diagonal, (K, K): see `dsoftmax.kernels.curvature.curvatures`.

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
