"""Newton's method with conjugate gradients, a Hessian product a pass: for problems whose Hessian is too large to be held.

Truncated Newton (Nocedal and Wright 2006, algorithm 7.1), preconditioned by A ⊗ G + λI of `dsoftmax.solvers.algebra.kronecker`. No pass
does one thing only:

* A product at θ values the inner iterate θ + x so far as well. Where F does not fall there as the quadratic promised,
  the inner iteration ends: that point is judged by the line search. It does what the radius does in Steihaug's method.
* A trial of the line search asks for a product there too, along the direction in which conjugate gradients would have gone on.
  Where the trial is accepted, this is the first product of the next iteration; were F quadratic, nothing would have been lost.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.algebra.line_search import Search, advance, begin
from dsoftmax.solvers.protocol import Answer, Problem, Query

Float = NDArray[np.float64]

GAMMA, ALPHA = 0.9, (1 + 5**0.5) / 2
"""Of the forcing terms (Eisenstat and Walker 1996, choice 2)."""
MOST, LEAST = 0.5, 1e-4
"""Bounds of the forcing terms."""
MAX_PRODUCTS = 60
"""Of one iteration."""
KEPT = 0.5
"""The inner iteration goes on while F falls by this part of what the quadratic promised."""


@dataclass(frozen=True)
class NewtonCGState:
    """See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    step : (K, p+1) float64
        x, the inner iterate.
    residual : (K, p+1) float64
        ∇F + ∇²F·x.
    direction : (K, p+1) float64
        Of the next product.
    first : float
        ∇Fᵀ(A ⊗ G + λI)⁻¹∇F, which the inner iteration makes smaller by the square of ``forcing``.
    forcing : float
    products : int
        Of this iteration.
    moments : (K, K) float64
        A.
    search : Search
        Along ``step``, once it is a trial.
    trying : bool
        Whether it is.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    step: Float
    residual: Float
    direction: Float
    first: float
    forcing: float
    products: int
    moments: Float
    search: Search
    trying: bool


@dataclass(frozen=True)
class NewtonCG:
    """Newton-CG with products as passes.

    Attributes
    ----------
    kronecker : Kronecker
        The preconditioner.
    moments : (K, K) float64
        A at the start.
    """

    kronecker: Kronecker
    moments: Float

    @classmethod
    def of(cls, problem: Problem) -> "NewtonCG":
        """Return the solver of a problem."""
        return cls(Kronecker.of(problem), problem.moments)

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> NewtonCGState:
        zero = np.zeros(theta.shape)
        state = NewtonCGState(
            theta,
            np.nan,
            zero,
            0.0,
            n_iter,
            "",
            zero,
            zero,
            zero,
            0.0,
            MOST,
            0,
            self.moments,
            _waiting(),
            False,
        )
        return state if answer is None else self._begin(state, answer)

    def ask(self, state: NewtonCGState) -> tuple[NewtonCGState, Query]:
        if np.isnan(state.value):
            return state, Query(state.theta, moments=True)
        if state.trying:
            return state, Query(
                state.theta + state.search.step * state.step, state.direction, moments=True
            )
        trials = (state.theta + state.step)[None] if state.step.any() else None
        return state, Query(state.theta, state.direction, trials=trials)

    def tell(self, state: NewtonCGState, answer: Answer) -> NewtonCGState:
        if np.isnan(state.value):
            return self._begin(state, answer)
        if state.trying:
            return self._judge(state, answer)
        for valued in answer.trials:
            promised = -0.5 * float(np.sum((state.gradient + state.residual) * state.step))
            if not valued.value <= state.value - KEPT * promised + state.value_error:
                return self._judge(self._try(state), valued)
        return self._turn(state, answer)

    def _begin(self, state: NewtonCGState, answer: Answer) -> NewtonCGState:
        """Try the step that the preconditioner would make: at log priors it is Newton's."""
        state = self._at(state, state.theta, answer, state.n_iter)
        if state.stuck:
            return state
        return self._try(replace(state, step=state.direction))

    def _at(self, state: NewtonCGState, theta: Float, answer: Answer, n_iter: int) -> NewtonCGState:
        """Go to a point, and aim the first product there along its preconditioned gradient."""
        if not np.isfinite(answer.value):
            stuck = "F is not finite"
            return replace(
                state,
                theta=theta,
                value=answer.value,
                gradient=answer.gradient,
                n_iter=n_iter,
                stuck=stuck,
            )
        moments = state.moments if answer.moments is None else answer.moments
        turned = self.kronecker.inverse(moments)(answer.gradient)
        first = float(np.sum(turned * answer.gradient))
        forcing = MOST
        if (
            np.isfinite(state.value) and state.first > 0
        ):  # Eisenstat and Walker 1996, eq. 2.6 with its safeguard
            forcing = GAMMA * (max(first, 0.0) / state.first) ** (ALPHA / 2)
            before = GAMMA * state.forcing**ALPHA
            forcing = min(max(forcing, before if before > 0.1 else 0.0, LEAST), MOST)
        return replace(
            state,
            theta=theta,
            value=answer.value,
            gradient=answer.gradient,
            value_error=answer.value_error,
            n_iter=n_iter,
            step=np.zeros_like(theta),
            residual=answer.gradient,
            direction=-turned,
            first=first,
            forcing=forcing,
            products=0,
            moments=moments,
            search=_waiting(),
            trying=False,
        )

    def _turn(self, state: NewtonCGState, answer: Answer) -> NewtonCGState:
        """Take the inner step along the direction whose product is known, and turn (algorithm 5.3)."""
        along, product = state.direction, answer.product
        assert product is not None
        curvature = float(np.sum(along * product))
        if not curvature > 0:
            return self._try(state if state.step.any() else replace(state, step=along))
        length = -float(np.sum(state.residual * along)) / curvature
        step, residual = state.step + length * along, state.residual + length * product
        turned = self.kronecker.inverse(state.moments)(residual)
        size = float(np.sum(turned * residual))
        conjugate = (
            float(np.sum(turned * product)) / curvature
        )  # for any first direction, not the gradient's alone
        state = replace(
            state,
            step=step,
            residual=residual,
            direction=conjugate * along - turned,
            products=state.products + 1,
        )
        if size <= state.forcing**2 * state.first or state.products >= MAX_PRODUCTS:
            return self._try(state)
        return state

    def _try(self, state: NewtonCGState) -> NewtonCGState:
        """Begin the line search along the inner iterate."""
        slope = float(np.sum(state.gradient * state.step))
        if not slope < 0 and state.products:  # rounding: the preconditioned gradient instead
            turned = self.kronecker.inverse(state.moments)(state.gradient)
            state = replace(state, step=-turned, direction=-turned)
            slope = -float(np.sum(state.gradient * turned))
        return replace(state, search=begin(state.value, slope, state.value_error, 1.0), trying=True)

    def _judge(self, state: NewtonCGState, answer: Answer) -> NewtonCGState:
        """Advance the line search by one trial."""
        search = advance(
            state.search,
            answer.value,
            float(np.sum(answer.gradient * state.step)),
            answer.value_error,
        )
        if search.verdict == "failed":
            return replace(
                state,
                search=search,
                stuck="no step of conjugate gradients decreases F beyond rounding",
            )
        if search.verdict != "accepted":
            return replace(state, search=search)
        theta = state.theta + state.search.step * state.step
        there = self._at(state, theta, answer, state.n_iter + 1)
        if (
            answer.product is None
            or there.stuck
            or not np.sum(answer.product * state.direction) > 0
        ):
            return there
        return self._turn(replace(there, direction=state.direction), answer)


def _waiting() -> Search:
    return begin(np.nan, np.nan, 0.0, 0.0)
