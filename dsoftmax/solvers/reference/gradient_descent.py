"""Gradient descent: with the step 1/L, with Armijo's rule, and accelerated. The reference for everything else.

L ≥ λmax(∇²F) comes from Böhning's bound, so that the fixed step never increases F.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.protocol import Answer, Query

Float = NDArray[np.float64]

C1 = 0.25
"""Of Armijo's rule. A small one would accept steps close to 2/L, which jump across the valley and hardly fall."""
MAX_HALVINGS = 40


@dataclass(frozen=True)
class DescentState:
    """See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    trial : (K, p+1) float64
        The point of the next query.
    step : float
        Its step along the negative gradient.
    halvings : int
        Trials rejected since the last accepted one.
    error : float
        Rounding of ``value``.
    """

    theta: Float
    value: float
    gradient: Float
    n_iter: int
    stuck: str
    trial: Float
    step: float
    halvings: int
    error: float


@dataclass(frozen=True)
class FixedStep:
    """θ ← θ − ∇F/L (Nesterov 2018, theorem 2.1.14). One pass an iteration.

    Attributes
    ----------
    step : float
        1/L.
    """

    step: float

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> DescentState:
        return _begin(theta, answer, n_iter, self.step)

    def ask(self, state: DescentState) -> tuple[DescentState, Query]:
        return state, Query(state.trial)

    def tell(self, state: DescentState, answer: Answer) -> DescentState:
        return _move(state, answer, self.step)


@dataclass(frozen=True)
class Armijo:
    """Gradient descent with backtracking (Nocedal and Wright 2006, algorithm 3.1), each step twice the last to begin with.

    Where the change of F is below rounding, the slope at the trial decides: it must not point uphill by more than 1 − 2c₁
    of the slope at the start (Hager and Zhang 2005, eq. 4.1, with δ = c₁).

    Attributes
    ----------
    step : float
        The first trial.
    """

    step: float

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> DescentState:
        return _begin(theta, answer, n_iter, self.step)

    def ask(self, state: DescentState) -> tuple[DescentState, Query]:
        return state, Query(state.trial)

    def tell(self, state: DescentState, answer: Answer) -> DescentState:
        if np.isnan(state.value):
            return _move(state, answer, self.step)
        square = float(np.sum(state.gradient**2))
        decrease = answer.value <= state.value - C1 * state.step * square
        error = max(state.error, answer.value_error)
        slope = -float(np.sum(answer.gradient * state.gradient))
        rounding = abs(answer.value - state.value) <= error
        if slope <= (1 - 2 * C1) * square if rounding else decrease:
            return _move(state, answer, 2 * state.step)
        if state.halvings == MAX_HALVINGS:
            return replace(state, stuck="no step along the gradient decreases F beyond rounding")
        step = state.step / 2
        return replace(
            state, step=step, trial=state.theta - step * state.gradient, halvings=state.halvings + 1
        )


def _begin(theta: Float, answer: Answer | None, n_iter: int, step: float) -> DescentState:
    state = DescentState(theta, np.nan, np.zeros_like(theta), n_iter, "", theta, step, 0, 0.0)
    return state if answer is None else replace(_move(state, answer, step), n_iter=n_iter)


def _move(state: DescentState, answer: Answer, step: float) -> DescentState:
    """Accept the trial and aim the next one."""
    return DescentState(
        theta=state.trial,
        value=answer.value,
        gradient=answer.gradient,
        n_iter=state.n_iter + (0 if np.isnan(state.value) else 1),
        stuck="" if np.isfinite(answer.value) else "F is not finite",
        trial=state.trial - step * answer.gradient,
        step=step,
        halvings=0,
        error=answer.value_error,
    )


@dataclass(frozen=True)
class NesterovState:
    """See `dsoftmax.solvers.protocol.State`; ``theta`` is the point where the gradient was taken.

    Attributes
    ----------
    landed : (K, p+1) float64
        The last gradient step's end, xₖ.
    momentum : float
        tₖ.
    trial : (K, p+1) float64
        The extrapolated point of the next query, yₖ₊₁.
    """

    theta: Float
    value: float
    gradient: Float
    n_iter: int
    stuck: str
    landed: Float
    momentum: float
    trial: Float


@dataclass(frozen=True)
class Nesterov:
    """Accelerated gradient with the gradient restart of O'Donoghue and Candès (2015, section 3.2). One pass an iteration.

    Attributes
    ----------
    step : float
        1/L.
    """

    step: float

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> NesterovState:
        state = NesterovState(theta, np.nan, np.zeros_like(theta), n_iter, "", theta, 1.0, theta)
        return state if answer is None else replace(self.tell(state, answer), n_iter=n_iter)

    def ask(self, state: NesterovState) -> tuple[NesterovState, Query]:
        return state, Query(state.trial)

    def tell(self, state: NesterovState, answer: Answer) -> NesterovState:
        landed = state.trial - self.step * answer.gradient
        restart = float(np.sum(answer.gradient * (landed - state.landed))) > 0
        before = 1.0 if restart else state.momentum
        momentum = (1 + np.sqrt(1 + 4 * before**2)) / 2
        trial = landed if restart else landed + (before - 1) / momentum * (landed - state.landed)
        return NesterovState(
            theta=state.trial,
            value=answer.value,
            gradient=answer.gradient,
            n_iter=state.n_iter + (0 if np.isnan(state.value) else 1),
            stuck="" if np.isfinite(answer.value) else "F is not finite",
            landed=landed,
            momentum=float(momentum),
            trial=trial,
        )
