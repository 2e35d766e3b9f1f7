"""A sum of Kronecker products over groups of classes, and its inverse."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.class_groups import n_groups
from dsoftmax.solvers.algebra.conjugate_gradients import conjugate_gradients
from dsoftmax.solvers.algebra.kronecker import Kronecker

Float = NDArray[np.float64]

INVERSE_TOLERANCE = 0.05
"""Factor by which the residual falls when the inverse is applied.

A search direction needs no more.
"""
INVERSE_PRODUCTS = 100
"""Limit on the products when the inverse is applied."""
MOST_BLOCK_ENTRIES = 2**24
"""Limit on the entries of all class blocks of the Hessian that are factorised: 128 MiB."""
BLOCK_LIFTS = (1e-6, 1e-4, 1e-2, 1.0)
"""Constants added to a diagonal of ones, in turn, until the class block is positive definite.

The Gram matrices are rounded to float32, so that a block can be indefinite by about 1e-7.
"""


@dataclass(frozen=True)
class KroneckerSum:
    """Σ A_g ⊗ G_g + λI, with a term for each class and for each pair that curves much.

    One product A ⊗ G takes probabilities and features to be independent. Within a class they
    nearly are, and the term of a pair is exact (`dsoftmax.kernels.curvature.curvatures`). On
    images of ten classes the sum needs a seventh of the passes of one product.

    The inverse has no closed form. Conjugate gradients apply it in memory, in about five
    products. Their preconditioner is the class blocks on the diagonal of the sum, or (ΣA_g) ⊗ G
    if these blocks are too large.

    Attributes
    ----------
    moments : (groups, K, K) float64
        A_g.
    grams : (groups, (p+1)·(p+2)/2) float32
        G_g, upper triangles row by row, in the scale in which A_g has trace 1.
    penalty : float
        λ.
    free : (K, p+1) bool
        Entries that move.
    """

    moments: Float
    grams: NDArray[np.float32]
    penalty: float
    free: NDArray[np.bool_]

    @cached_property
    def inverse(self) -> Callable[[Float], Float]:
        """Map from V (K, p+1) to the inverse times V.

        The first access factorises: K·(p+1)³/3 flops. Each V costs about five times
        2·groups·K·(p+1)·(K + p+1) flops in float32, and 2·K·(p+1)².
        """
        whole, moments = self._unpacked(), self.moments.astype(np.float32)
        first = self._preconditioner(whole)
        penalty, free = self.penalty, self.free  # without self: a cycle would outlive the state

        def product(V: Float) -> Float:
            scale = float(np.abs(V).max(initial=0)) or 1.0  # float32 has less range
            turned = np.matmul((V / scale).astype(np.float32), whole)
            summed = np.matmul(moments, turned).sum(axis=0).astype(np.float64) * scale
            found: Float = np.where(free, summed + penalty * V, 0.0)
            return found

        return lambda right: conjugate_gradients(
            product, right, first, INVERSE_TOLERANCE, INVERSE_PRODUCTS
        )[0]

    def _unpacked(self) -> NDArray[np.float32]:
        """Return G_g as full matrices, (groups, p+1, p+1)."""
        d = self.free.shape[1]
        whole = np.zeros((len(self.grams), d, d), np.float32)
        row, column = np.triu_indices(d)
        whole[:, row, column] = whole[:, column, row] = self.grams
        return whole

    def _preconditioner(self, whole: NDArray[np.float32]) -> Callable[[Float], Float]:
        K, d = self.free.shape
        if K * d * d > MOST_BLOCK_ENTRIES:
            traces = np.trace(self.moments, axis1=1, axis2=2)
            gram = np.tensordot(traces / max(float(traces.sum()), 1e-300), whole, 1)
            return Kronecker(gram, self.penalty, self.free).inverse(self.moments.sum(axis=0))
        factors = [self._class_block(k, whole) for k in range(K)]

        def product(right: Float) -> Float:
            parts = (
                scale * scipy.linalg.cho_solve(factor, scale * r)
                for (scale, factor), r in zip(factors, right, strict=True)
            )
            return np.stack(list(parts))

        return product

    def _class_block(self, k: int, whole: NDArray[np.float32]) -> tuple[Float, tuple[Float, bool]]:
        """Return the scale (p+1,) of the block of class k, and the factor of the scaled block."""
        moments = self.moments[:, k, k].astype(np.float32)
        block = np.tensordot(moments, whole, 1).astype(np.float64)
        size = np.diag(block) + self.penalty
        positive = np.where(size > 0, size, 1)
        scale = np.where(self.free[k] & (size > 0), 1 / np.sqrt(positive), 0.0)
        return scale, _factor(block * np.outer(scale, scale))


def _factor(scaled: Float) -> tuple[Float, bool]:
    """Return the Cholesky factor of a matrix with a diagonal of ones, for SciPy's `cho_solve`."""
    for lift in BLOCK_LIFTS:
        scaled[np.diag_indices(len(scaled))] = 1 + lift
        with suppress(scipy.linalg.LinAlgError):
            factor, lower = scipy.linalg.cho_factor(scaled, check_finite=False)
            return factor, lower
    return np.eye(len(scaled)), False


def sum_bytes(n_rows: int, n_classes: int, n_features: int, gram: bool = True) -> int:
    """Return the bytes of a sum in the process that steps.

    They are the Gram matrices as they arrive, as they are stored and as they are unpacked, the
    class blocks and the moments. The old sum and the new one coexist for a moment. The result is 0
    if there are no groups, or no Gram matrix.
    """
    K, d, n = n_classes, n_features + 1, n_groups(n_rows, n_classes, n_features)
    if n == 1 or not gram:
        return 0
    grams, blocks = 25 * n * d * d, 2 * 8 * min(K * d * d, MOST_BLOCK_ENTRIES)
    return grams + blocks + 24 * n * K * K + 8 * n * K * d
