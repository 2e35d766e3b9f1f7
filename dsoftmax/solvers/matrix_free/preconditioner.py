"""About the inverse Hessian of a surrogate, to precondition its minimisation.

Far from the minimum it is the inverse of A ⊗ G with tempered moments: A is that of the
probabilities at θ/10. Rows that are classified well have nearly no curvature at θ, and steps by it
would move logits by thousands. The curvature that a step meets on its way is that of a θ in
between. Near the minimum it is the inverse of the class blocks of the Hessian at θ, if the sample
is large enough to make them cheap beside its gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import definite
from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.matrix_free.face_pairs import FacePairs
from dsoftmax.solvers.matrix_free.part import BlockPart, DensePart, Part, SparsePart
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
        if self._has_blocks(theta, number):
            return self._by_blocks(theta, number)
        return self.kronecker.inverse(self._moments(theta, number))

    def part_at(self, theta: Float, number: int, pairs: FacePairs) -> Part:
        """Return about the Hessian at a point, with inverses of parts of it.

        If class blocks are worth their work, they compete with the moments. The winner is the
        matrix whose curvatures along the last steps are most nearly proportional to those found.
        """
        A = self._moments(theta, number)
        if self.kronecker.gram.ndim == 1:
            return SparsePart(self.kronecker, A)
        found: Part = DensePart(self.kronecker, A)
        if not self._has_blocks(theta, number):
            return found
        blocks = self.local.class_blocks(theta, _block_rows(theta.shape[1]), number)
        places = np.arange(theta.shape[1])
        blocks[:, places, places] += self.damping
        other = BlockPart(blocks)
        return min((found, other), key=lambda part: _spread(part, pairs, theta.shape))

    def _moments(self, theta: Float, number: int) -> Float:
        A = self.local.moments(TEMPERS[min(number, len(TEMPERS) - 1)] * theta)
        return A + (self.damped if A.ndim == 1 else np.diag(self.damped))

    def _has_blocks(self, theta: Float, number: int) -> bool:
        K, d = theta.shape
        dense = self.kronecker.gram.ndim == 2
        return number >= BLOCKS_FROM and dense and worth_blocks(K, d, self.local.n_rows)

    def _by_blocks(self, theta: Float, number: int) -> Callable[[Float], Float]:
        blocks = self.local.class_blocks(theta, _block_rows(theta.shape[1]), number)
        solves = [_solver(block, added) for block, added in zip(blocks, self.damping, strict=True)]
        return lambda right: np.stack([one(r) for one, r in zip(solves, right, strict=True)])


def _spread(part: Part, pairs: FacePairs, shape: tuple[int, ...]) -> float:
    """Return the standard deviation of log(sᵀB·s/sᵀy) over the pairs; 0 without pairs."""
    logs = []
    for s, y in zip(pairs.steps, pairs.changes, strict=True):
        step = np.zeros(shape)
        step.ravel()[pairs.entries] = s
        bends, found = float(np.sum(step * part.product(step))), float(s @ y)
        if bends > 0 and found > 0:
            logs.append(np.log(bends / found))
    return float(np.std(logs)) if logs else 0.0


def _block_rows(n_columns: int) -> int:
    return max(BLOCK_ROWS * n_columns, LEAST_BLOCK_ROWS)


def _solver(block: Float, added: Float) -> Callable[[Float], Float]:
    """Return the solve with a block and a diagonal, lifted until it is positive definite."""
    block[np.diag_indices(len(block))] += added
    solves = (definite.solver(block, lift) for lift in LIFTS)
    diagonal = definite.diagonal_solver(block, added.shape)
    return next((one for one in solves if one is not None), diagonal)


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
