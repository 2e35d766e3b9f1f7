"""Limited-memory BFGS (Nocedal and Wright 2006, chapter 7.2).

An iteration costs one pass if its first step is accepted.

A preconditioner replaces the identity in H⁰. It is the inverse of A ⊗ G + λI
(`dsoftmax.solvers.algebra.kronecker`) with the A of the newest point, scaled by γ = sᵀy/(yᵀH⁰y)
as eq. 7.20 scales the identity.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.algebra.line_search import advance, begin
from dsoftmax.solvers.algebra.moved import moved
from dsoftmax.solvers.algebra.pairs import Pairs
from dsoftmax.solvers.lbfgs.state import LBFGSState
from dsoftmax.solvers.protocol import Allocation, Answer, Problem, Query, Sizes

Float = NDArray[np.float64]

PLAIN_PAIRS = 10
"""Pairs in the memory of the plain solver, as in the literature."""
PRECONDITIONED_PAIRS = 20
"""Pairs in the memory of the preconditioned solvers, whose passes are fewer and dearer."""
LEAST_BEND = 1e-14
"""Least sᵀy of a pair, as a fraction of yᵀy: what lies below is rounding."""


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS.

    Attributes
    ----------
    memory : int
        Limit on the pairs.
    kronecker : Kronecker, optional
        The preconditioner.
    moments : (K, K) float64, optional
        A at the start, if its answer is known.
    """

    memory: int = PLAIN_PAIRS
    kronecker: Kronecker | None = None
    moments: Float | None = None

    @classmethod
    def plain(cls, problem: Problem) -> "LBFGS":
        """Return the solver without a preconditioner, for any problem."""
        return cls()

    @classmethod
    def preconditioned(cls, problem: Problem) -> "LBFGS":
        """Return the solver with one Kronecker product."""
        return cls(PRECONDITIONED_PAIRS, Kronecker.of(problem), problem.moments)

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> LBFGSState:
        zero = np.zeros(theta.shape)
        waiting = begin(np.nan, np.nan, 0.0, 0.0)
        moments = np.zeros((0, 0)) if self.moments is None else self.moments
        state = LBFGSState(theta, np.nan, zero, 0.0, n_iter, "", Pairs(), moments, zero, waiting)
        return state if answer is None else self._accept(state, theta, answer, n_iter)

    def ask(self, state: LBFGSState) -> tuple[LBFGSState, Query]:
        point = state.theta + state.search.step * state.direction
        return state, Query(point, moments=self.kronecker is not None)

    def tell(self, state: LBFGSState, answer: Answer) -> LBFGSState:
        if np.isnan(state.value):
            return self._accept(state, state.theta, answer, state.n_iter)
        slope = float(np.sum(answer.gradient * state.direction))
        search = advance(state.search, answer.value, slope, answer.value_error)
        if search.verdict == "accepted":
            theta = state.theta + search.step * state.direction
            s, y = theta - state.theta, answer.gradient - state.gradient
            if np.sum(s * y) > LEAST_BEND * np.sum(y * y) > 0:
                state = replace(state, pairs=state.pairs.joined_by(s, y, self.memory))
            return self._accept(state, theta, answer, state.n_iter + 1)
        if search.verdict == "failed":
            if len(state.pairs):  # they may be rounding: forget them, and try once more downhill
                return self._aim(replace(state, pairs=Pairs()))
            stuck = "no step along the gradient decreases F beyond rounding"
            return replace(state, search=search, stuck=stuck)
        return replace(state, search=search)

    def _accept(self, state: LBFGSState, theta: Float, answer: Answer, n_iter: int) -> LBFGSState:
        known = self.kronecker is None or answer.moments is None
        moments = state.moments if known else answer.moments
        return self._aim(moved(state, theta, answer, n_iter, moments=moments))

    def _aim(self, state: LBFGSState) -> LBFGSState:
        """Choose the next direction and begin its line search."""
        if state.stuck:
            return state
        first: Callable[[Float], Float] = np.copy
        if self.kronecker is not None:
            first = inverse = self.kronecker.inverse(state.moments)
            state = replace(state, decrement=0.5 * inverse.norm(state.gradient))
        direction = -state.pairs.inverse_product(state.gradient, first)
        slope = float(np.sum(direction * state.gradient))
        if not slope < 0 and len(state.pairs):  # rounding made the pairs useless
            state = replace(state, pairs=Pairs())
            direction = -first(state.gradient)
            slope = float(np.sum(direction * state.gradient))
        plain = not len(state.pairs) and self.kronecker is None
        length = 1.0 / max(float(np.sqrt(max(-slope, 0))), 1e-300) if plain else 1.0
        search = begin(state.value, slope, state.value_error, length)
        return replace(state, direction=direction, search=search)


def plain_footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the plain solver."""
    return Allocation(_state_bytes(sizes, PLAIN_PAIRS), STEP_VECTORS * sizes.vector)


def preconditioned_footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver with one Kronecker product.

    They are those of the state, of G and its eigenvectors, and of A in the state and the answer.
    """
    kronecker = 2 * sizes.gram_matrix + 2 * sizes.moments
    scratch = (STEP_VECTORS + 3) * sizes.vector + sizes.gram_matrix + 4 * sizes.moments
    return Allocation(_state_bytes(sizes, PRECONDITIONED_PAIRS) + kronecker, scratch)


STEP_VECTORS = 12
"""Arrays with the shape of θ that a step allocates: the next state, and the recursion's scratch."""


def _state_bytes(sizes: Sizes, pairs: int) -> int:
    """Return the bytes of the pairs, and of θ, ∇F, the direction, the query and the answer."""
    return (2 * pairs + 5) * sizes.vector
