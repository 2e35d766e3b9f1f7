"""Böhning's majorisation (1992, "Multinomial logistic regression algorithm"): F never goes up.

∇²J/S ⪯ ½(I − 11ᵀ/K) ⊗ G everywhere (theorem 2). A quadratic with this curvature therefore lies
above F, and its minimum is the next point: one pass per step, without a line search. Gradients
sum to zero over the classes. There I − 11ᵀ/K is the identity, so that a solve with ½I ⊗ G + λI
gives the same step.

A diagonal of G bounds nothing. If only the diagonal is known, L·I replaces the bound, and the
method is gradient descent with a fixed step.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.protocol import Allocation, Answer, Problem, Query, Sizes
from dsoftmax.solvers.reference.gradient_descent import DescentState, accepted, first_state
from dsoftmax.solvers.reference.gradient_descent import footprint as gradient_descent_footprint

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Bohning:
    """θ ← θ − (½I ⊗ G + λI)⁻¹∇F.

    Attributes
    ----------
    kronecker : Kronecker
        Product whose G bounds the second moments of the weighted rows.
    """

    kronecker: Kronecker

    @classmethod
    def of(cls, problem: Problem) -> "Bohning":
        """Return the solver of a problem."""
        found = Kronecker.of(problem)
        # λmax of the second moments that G must bound, class weights included
        above = 2 * (problem.curvature_bound() - found.penalty)
        if problem.gram.ndim == 1:
            return cls(Kronecker(np.full(problem.gram.shape, above), found.penalty, problem.free))
        top = float(scipy.linalg.eigvalsh(found.gram)[-1])
        return cls(Kronecker(found.gram * (above / max(top, 1e-300)), found.penalty, problem.free))

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> DescentState:
        state = first_state(theta, n_iter)
        return state if answer is None else self.tell(state, answer)

    def ask(self, state: DescentState) -> tuple[DescentState, Query]:
        return state, Query(state.trial)

    def tell(self, state: DescentState, answer: Answer) -> DescentState:
        down = self.kronecker.inverse(0.5 * np.eye(len(state.theta)))(answer.gradient)
        return accepted(state, answer, -down)


def footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver: as gradient descent, with G and its eigenvectors."""
    one = gradient_descent_footprint(sizes)
    scratch = 4 * sizes.vector + 4 * sizes.moments
    return Allocation(one.per_model + 2 * sizes.gram_matrix, one.shared + scratch)
