"""Limited-memory BFGS (Nocedal and Wright 2006, chapter 7.2), one pass an iteration when the first step is accepted.

Preconditioned, H⁰ is (A ⊗ G + λI)⁻¹ of `dsoftmax.solvers.kronecker`, with the A of the newest point, scaled by γ = sᵀy/(yᵀH⁰y)
as eq. 7.20 scales the identity.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.oracle import Answer, Problem, Query
from dsoftmax.solvers.kronecker import Kronecker
from dsoftmax.solvers.line_search import Search, advance, begin

Float = NDArray[np.float64]


@dataclass(frozen=True)
class LBFGSState:
    """See `dsoftmax.oracle.State` for the common fields.

    Attributes
    ----------
    steps, changes : (n, K, p+1) float64, n ≤ memory
        sₖ = θₖ₊₁ − θₖ and yₖ = ∇Fₖ₊₁ − ∇Fₖ, oldest first.
    moments : (K, K) float64
        A at θ; of shape (0, 0) without a preconditioner.
    direction : (K, p+1) float64
    search : Search
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    steps: Float
    changes: Float
    moments: Float
    direction: Float
    search: Search


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS.

    Attributes
    ----------
    memory : int
        Pairs kept.
    kronecker : Kronecker, optional
        The preconditioner.
    moments : (K, K) float64, optional
        A at the start, where its answer is known.
    """

    memory: int = 10
    kronecker: Kronecker | None = None
    moments: Float | None = None

    @classmethod
    def preconditioned(cls, problem: Problem) -> "LBFGS":
        """Return the solver with the Kronecker preconditioner of a problem."""
        return cls(kronecker=Kronecker.of(problem), moments=problem.moments)

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> LBFGSState:
        none = np.zeros((0, *theta.shape))
        zero = np.zeros(theta.shape)
        waiting = begin(np.nan, np.nan, 0.0, 0.0)
        moments = np.zeros((0, 0)) if self.moments is None else self.moments
        state = LBFGSState(theta, np.nan, zero, 0.0, n_iter, "", none, none, moments, zero, waiting)
        return state if answer is None else self._accept(state, theta, answer, n_iter)

    def ask(self, state: LBFGSState) -> Query:
        return Query(state.theta + state.search.step * state.direction, moments=self.kronecker is not None)

    def tell(self, state: LBFGSState, answer: Answer) -> LBFGSState:
        if np.isnan(state.value):
            return self._accept(state, state.theta, answer, state.n_iter)
        slope = float(np.sum(answer.gradient * state.direction))
        search = advance(state.search, answer.value, slope, answer.value_error)
        if search.verdict == "accepted":
            theta = state.theta + state.search.step * state.direction
            s, y = theta - state.theta, answer.gradient - state.gradient
            if np.sum(s * y) > 1e-14 * np.sum(y * y) > 0:
                keep = max(len(state.steps) + 1 - self.memory, 0)
                steps, changes = np.stack([*state.steps, s])[keep:], np.stack([*state.changes, y])[keep:]
                state = replace(state, steps=steps, changes=changes)
            return self._accept(state, theta, answer, state.n_iter + 1)
        if search.verdict == "failed":
            if len(state.steps):  # forget what may be rounding, and try once more downhill
                none = state.steps[:0]
                return self._aim(replace(state, steps=none, changes=none))
            return replace(
                state,
                search=search,
                stuck="no step along the gradient decreases F beyond rounding",
            )
        return replace(state, search=search)

    def _accept(self, state: LBFGSState, theta: Float, answer: Answer, n_iter: int) -> LBFGSState:
        return self._aim(
            replace(
                state,
                theta=theta,
                value=answer.value,
                gradient=answer.gradient,
                value_error=answer.value_error,
                n_iter=n_iter,
                stuck="" if np.isfinite(answer.value) else "F is not finite",
                moments=state.moments if answer.moments is None else answer.moments,
            )
        )

    def _aim(self, state: LBFGSState) -> LBFGSState:
        """Choose the next direction and begin its line search."""
        if state.stuck:
            return state
        direction = -inverse_product(state.gradient, state.steps, state.changes, self._first_product(state))
        slope = float(np.sum(direction * state.gradient))
        if not slope < 0 and len(state.steps):  # rounding made the pairs useless
            state = replace(state, steps=state.steps[:0], changes=state.changes[:0])
            direction = -self._first_product(state)(state.gradient)
            slope = float(np.sum(direction * state.gradient))
        plain = not len(state.steps) and self.kronecker is None
        length = 1.0 / max(float(np.sqrt(max(-slope, 0))), 1e-300) if plain else 1.0
        search = begin(state.value, slope, state.value_error, length)
        return replace(state, direction=direction, search=search)

    def _first_product(self, state: LBFGSState) -> Callable[[Float], Float]:
        if self.kronecker is None:
            return np.copy
        return self.kronecker.inverse(state.moments)


def inverse_product(gradient: Float, steps: Float, changes: Float, first: Callable[[Float], Float] = np.copy) -> Float:
    """Return H·∇F by the two-loop recursion (algorithm 7.4), with H⁰ = γ·first, γ = sᵀy/(yᵀ·first(y)) of the newest pair.

    Work 4·n·K·p flops for n pairs, and two of ``first``.
    """
    q = gradient.copy()
    rho = [1 / float(np.sum(s * y)) for s, y in zip(steps, changes, strict=True)]
    alpha = np.zeros(len(steps))
    for i in reversed(range(len(steps))):
        alpha[i] = rho[i] * np.sum(steps[i] * q)
        q -= alpha[i] * changes[i]
    q = first(q)
    if len(steps):
        q *= 1 / (rho[-1] * float(np.sum(changes[-1] * first(changes[-1]))))
    for i in range(len(steps)):
        beta = rho[i] * np.sum(changes[i] * q)
        q += (alpha[i] - beta) * steps[i]
    return q
