"""Böhning's majorisation (1992, "Multinomial logistic regression algorithm"): the safe reference, F never goes up.

∇²J/S ⪯ ½(I − 11ᵀ/K) ⊗ G everywhere (theorem 2), so that the quadratic with this curvature in place of the Hessian lies above F,
and its minimum is the next point: one pass a step, without a line search. Gradients sum to zero over the classes, where
I − 11ᵀ/K is the identity, so that the solve with ½I ⊗ G + λI is the same. Where G is known by its diagonal alone, which bounds
nothing, L·I takes its place, and the method is gradient descent with a fixed step.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.protocol import Answer, Problem, Query
from dsoftmax.solvers.reference.gradient_descent import DescentState

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Bohning:
    """θ ← θ − (½I ⊗ G + λI)⁻¹∇F.

    Attributes
    ----------
    kronecker : Kronecker
        Its G bounds the second moments of the weighted rows.
    """

    kronecker: Kronecker

    @classmethod
    def of(cls, problem: Problem) -> "Bohning":
        """Return the solver of a problem."""
        found = Kronecker.of(problem)
        above = 2 * (
            problem.curvature_bound() - found.penalty
        )  # λmax of what G must bound, class weights included
        if problem.gram.ndim == 1:
            return cls(Kronecker(np.full(problem.gram.shape, above), found.penalty, problem.free))
        top = float(scipy.linalg.eigvalsh(found.gram)[-1])
        return cls(Kronecker(found.gram * (above / max(top, 1e-300)), found.penalty, problem.free))

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> DescentState:
        state = DescentState(theta, np.nan, np.zeros_like(theta), n_iter, "", theta, 1.0, 0, 0.0)
        return state if answer is None else self.tell(state, answer)

    def ask(self, state: DescentState) -> tuple[DescentState, Query]:
        return state, Query(state.trial)

    def tell(self, state: DescentState, answer: Answer) -> DescentState:
        down = self.kronecker.inverse(0.5 * np.eye(len(state.theta)))(answer.gradient)
        return DescentState(
            theta=state.trial,
            value=answer.value,
            gradient=answer.gradient,
            n_iter=state.n_iter + (0 if np.isnan(state.value) else 1),
            stuck="" if np.isfinite(answer.value) else "F is not finite",
            trial=state.trial - down,
            step=1.0,
            halvings=0,
            error=answer.value_error,
        )
