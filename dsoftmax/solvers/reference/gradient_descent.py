"""Gradient descent with the step 1/L: the reference for every other solver.

L ≥ λmax(∇²F) comes from Böhning's bound, so that a step never increases F (Nesterov 2018, theorem
2.1.14).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.protocol import Allocation, Answer, NoDecrement, Problem, Query, Sizes

Float = NDArray[np.float64]


@dataclass(frozen=True)
class DescentState(NoDecrement):
    """State of a solver that accepts every point.

    See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    trial : (K, p+1) float64
        Point of the next query.
    """

    theta: Float
    value: float
    gradient: Float
    n_iter: int
    stuck: str
    trial: Float


def first_state(theta: Float, n_iter: int) -> DescentState:
    """Return the state before the first answer."""
    return DescentState(theta, np.nan, np.zeros_like(theta), n_iter, "", theta)


def accepted(state: DescentState, answer: Answer, step: Float) -> DescentState:
    """Return the state at the trial that was answered, with the next trial ``step`` away."""
    return DescentState(
        theta=state.trial,
        value=answer.value,
        gradient=answer.gradient,
        n_iter=state.n_iter + (0 if np.isnan(state.value) else 1),
        stuck="" if np.isfinite(answer.value) else "F is not finite",
        trial=state.trial + step,
    )


@dataclass(frozen=True)
class GradientDescent:
    """θ ← θ − ∇F/L: one pass per iteration.

    Attributes
    ----------
    step : float
        1/L.
    """

    step: float

    @classmethod
    def of(cls, problem: Problem) -> "GradientDescent":
        """Return the solver of a problem."""
        return cls(1 / problem.curvature_bound())

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> DescentState:
        state = first_state(theta, n_iter)
        return state if answer is None else replace(self.tell(state, answer), n_iter=n_iter)

    def ask(self, state: DescentState) -> tuple[DescentState, Query]:
        return state, Query(state.trial)

    def tell(self, state: DescentState, answer: Answer) -> DescentState:
        return accepted(state, answer, -(self.step * answer.gradient))


def footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver: θ, ∇F, the trial and the answer, and a step's scratch."""
    return Allocation(4 * sizes.vector, 4 * sizes.vector + 2 * sizes.gram_matrix)
