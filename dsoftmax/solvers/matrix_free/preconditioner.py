"""About the inverse Hessian of a surrogate, to precondition its minimisation.

Far from the minimum it is the inverse of A ⊗ G with tempered moments: A is that of the
probabilities at θ/10. Where rows are classified well, the curvature at θ is nearly zero, and steps
by it would move logits by thousands. The curvature that a step meets on its way is that of a θ in
between. Near the minimum it is the inverse of the class blocks of the Hessian at θ, if the sample
is large enough to make them cheap beside its gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.protocol import Local, Sizes

Float = NDArray[np.float64]

TEMPERS = (0.1, 0.1, 0.1, 0.3, 1.0)
"""Factors of θ at which the moments are taken, one refresh after the other."""
BLOCKS_FROM = 3
"""Number of the refresh from which class blocks replace the moments."""
LEAST_BLOCK_ROWS = 2000
"""Least rows of the sample from which class blocks are formed."""
BLOCK_ROWS = 4
"""Rows for each feature from which class blocks are formed."""
BLOCK_ENTRIES = 2**24
"""Most entries of all class blocks together."""
BLOCK_PRICE = 30.0
"""Most gradients of the sample that the work of making the blocks may equal."""
LIFTS = (1e-6, 1e-4, 1e-2, 1.0)
"""Constants added to a block of unit diagonal until it has a Cholesky factor."""


@dataclass(frozen=True)
class Preconditioner:
    """The preconditioners of a minimisation.

    Attributes
    ----------
    local : Local
    kronecker : Kronecker
    damped : (K,) float64
        Diagonal of the moments times μ.
    damping : (K, p+1) float64
        λ of every entry plus the diagonal of the damping.
    """

    local: Local
    kronecker: Kronecker
    damped: Float
    damping: Float

    def at(self, theta: Float, number: int) -> Callable[[Float], Float]:
        """Return the map from r to about H⁻¹·r at a point; ``number`` counts its refreshes."""
        K, d = theta.shape
        dense = self.kronecker.gram.ndim == 2
        if number >= BLOCKS_FROM and dense and worth_blocks(K, d, self.local.n_rows):
            return self._by_blocks(theta, number)
        A = self.local.moments(TEMPERS[min(number, len(TEMPERS) - 1)] * theta)
        return self.kronecker.inverse(A + (self.damped if A.ndim == 1 else np.diag(self.damped)))

    def _by_blocks(self, theta: Float, number: int) -> Callable[[Float], Float]:
        blocks = self.local.class_blocks(theta, _block_rows(theta.shape[1]), number)
        factors = [_factor(block, added) for block, added in zip(blocks, self.damping, strict=True)]

        def solve(right: Float) -> Float:
            found = np.empty_like(right)
            for k, (factor, size) in enumerate(factors):
                turned = scipy.linalg.cho_solve((factor, True), right[k] / size, check_finite=False)
                found[k] = turned / size
            return found

        return solve


def _block_rows(n_columns: int) -> int:
    return max(BLOCK_ROWS * n_columns, LEAST_BLOCK_ROWS)


def _factor(block: Float, added: Float) -> tuple[Float, Float]:
    """Return the Cholesky factor of a block scaled to a unit diagonal, and the scale."""
    block[np.diag_indices(len(block))] += added
    size = np.sqrt(np.maximum(np.diag(block), 1e-300))
    block /= np.outer(size, size)
    for lift in LIFTS:
        lifted = block.copy()
        lifted[np.diag_indices(len(block))] += lift
        try:
            return scipy.linalg.cholesky(
                lifted, lower=True, overwrite_a=True, check_finite=False
            ), size
        except scipy.linalg.LinAlgError:
            continue
    return np.eye(len(block)), size


def worth_blocks(n_classes: int, n_columns: int, sample_rows: int) -> bool:
    """Return whether blocks are worth their work: d/4·n_b/n_s + d²/(12·n_s) gradients."""
    d, n = n_columns, max(sample_rows, 1)
    price = d / 4 * min(n, _block_rows(d)) / n + d * d / (12 * n)
    return n_classes * d * d <= BLOCK_ENTRIES and price <= BLOCK_PRICE


def block_bytes(sizes: Sizes) -> int:
    """Return the bytes of class blocks and of their factors, if they are formed."""
    K, d = sizes.n_classes, sizes.n_features + 1
    if not sizes.gram or not worth_blocks(K, d, sizes.sample_rows):
        return 0
    return 2 * 8 * K * d * d + 8 * 4 * d * min(_block_rows(d), sizes.sample_rows)
