"""Limited-memory BFGS (Nocedal and Wright 2006, chapter 7.2), one pass an iteration when the first step is accepted.

Preconditioned, H⁰ is (A ⊗ G + λI)⁻¹ of `dsoftmax.solvers.algebra.kronecker`, with the A of the newest point, scaled by γ = sᵀy/(yᵀH⁰y)
as eq. 7.20 scales the identity; or the inverse of a sum of such products, as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.algebra.kronecker_sum import KroneckerSum, groups, n_groups
from dsoftmax.solvers.algebra.line_search import Search, advance, begin
from dsoftmax.solvers.lbfgs.pairs import Pairs
from dsoftmax.solvers.protocol import Answer, Problem, Query

Float = NDArray[np.float64]


MEMORY = 20
"""Pairs of the preconditioned solver, whose passes are fewer and dearer."""


LENGTHS = (0.4, 2.0)
"""Of other steps that a pass values, where steps are dear."""


@dataclass(frozen=True)
class LBFGSState:
    """See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    pairs : Pairs
        At most ``memory``.
    moments : (K, K) float64
        A at θ; of shape (0, 0) without a preconditioner.
    group_moments : (groups, K, K) float64
    group_grams : (groups, (p+1)·(p+2)/2) float32
        Of the newest point where they were asked for; of no groups before.
    direction : (K, p+1) float64
    search : Search
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    pairs: Pairs
    moments: Float
    group_moments: Float
    group_grams: NDArray[np.float32]
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
    n_groups : int
        Of pairs and classes whose curvatures are asked for at iterations 0, 1, 3, 7, 15 …, for a sum of Kronecker products; 1 for a
        single one.
    """

    memory: int = 10
    kronecker: Kronecker | None = None
    moments: Float | None = None
    n_groups: int = 1
    _sum: list[tuple[NDArray[np.float32], Callable[[Float], Float]]] = field(
        default_factory=list, compare=False, repr=False
    )

    @classmethod
    def preconditioned(cls, problem: Problem) -> "LBFGS":
        """Return the solver with one Kronecker product."""
        return cls(MEMORY, Kronecker.of(problem), problem.moments)

    @classmethod
    def preconditioned_by_sum(cls, problem: Problem) -> "LBFGS":
        """Return the solver with a sum of Kronecker products, where that is worth it."""
        K, d = problem.free.shape
        n = n_groups(problem.n_rows, K, d - 1) if problem.gram.ndim == 2 else 1
        return replace(cls.preconditioned(problem), n_groups=n)

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> LBFGSState:
        zero = np.zeros(theta.shape)
        waiting = begin(np.nan, np.nan, 0.0, 0.0)
        moments = np.zeros((0, 0)) if self.moments is None else self.moments
        K, d = theta.shape
        none_yet = np.zeros((0, K, K)), np.zeros((0, d * (d + 1) // 2), np.float32)
        state = LBFGSState(
            theta, np.nan, zero, 0.0, n_iter, "", Pairs(), moments, *none_yet, zero, waiting
        )
        return state if answer is None else self._accept(state, theta, answer, n_iter)

    def ask(self, state: LBFGSState) -> tuple[LBFGSState, Query]:
        point = state.theta + state.search.step * state.direction
        due = (
            self.n_groups > 1
            and (state.n_iter + 1) & state.n_iter == 0
            and state.search.trials == 0
        )
        curvatures = groups(state.moments, self.n_groups) if due else None
        trials = None
        if self.n_groups > 1 and state.search.trials == 0 and not np.isnan(state.value):
            trials = np.stack(
                [state.theta + length * state.search.step * state.direction for length in LENGTHS]
            )
        return state, Query(
            point, moments=self.kronecker is not None, curvatures=curvatures, trials=trials
        )

    def tell(self, state: LBFGSState, answer: Answer) -> LBFGSState:
        if np.isnan(state.value):
            return self._accept(state, state.theta, answer, state.n_iter)
        tried = [self._advanced(state, answer, 1.0)]
        tried += [
            self._advanced(state, one, length)
            for one, length in zip(answer.trials, LENGTHS, strict=False)
        ]
        accepted = [
            (one.value, search, one) for search, one in tried if search.verdict == "accepted"
        ]
        search, found = tried[0]
        if accepted:
            _, search, found = min(accepted, key=lambda one: one[0])
            answer = replace(
                answer, value=found.value, gradient=found.gradient, value_error=found.value_error
            )
        if search.verdict == "accepted":
            theta = state.theta + search.step * state.direction
            s, y = theta - state.theta, answer.gradient - state.gradient
            if np.sum(s * y) > 1e-14 * np.sum(y * y) > 0:
                state = replace(state, pairs=state.pairs.joined_by(s, y, self.memory))
            return self._accept(state, theta, answer, state.n_iter + 1)
        if search.verdict == "failed":
            if len(state.pairs):  # forget what may be rounding, and try once more downhill
                return self._aim(replace(state, pairs=Pairs()))
            return replace(
                state,
                search=search,
                stuck="no step along the gradient decreases F beyond rounding",
            )
        return replace(state, search=search)

    def _advanced(self, state: LBFGSState, answer: Answer, length: float) -> tuple[Search, Answer]:
        """Return the search after a trial of ``length`` times its step, and its answer."""
        slope = float(np.sum(answer.gradient * state.direction))
        search = replace(state.search, step=length * state.search.step)
        return advance(search, answer.value, slope, answer.value_error), answer

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
                group_moments=state.group_moments
                if answer.group_moments is None
                else answer.group_moments,
                group_grams=state.group_grams if answer.group_grams is None else answer.group_grams,
            )
        )

    def _aim(self, state: LBFGSState) -> LBFGSState:
        """Choose the next direction and begin its line search."""
        if state.stuck:
            return state
        scaled = not len(
            state.group_moments
        )  # a sum of products is close enough to the Hessian as it is
        direction = -state.pairs.inverse_product(state.gradient, self._first_product(state), scaled)
        slope = float(np.sum(direction * state.gradient))
        if not slope < 0 and len(state.pairs):  # rounding made the pairs useless
            state = replace(state, pairs=Pairs())
            direction = -self._first_product(state)(state.gradient)
            slope = float(np.sum(direction * state.gradient))
        plain = not len(state.pairs) and self.kronecker is None
        length = 1.0 / max(float(np.sqrt(max(-slope, 0))), 1e-300) if plain else 1.0
        search = begin(state.value, slope, state.value_error, length)
        return replace(state, direction=direction, search=search)

    def _first_product(self, state: LBFGSState) -> Callable[[Float], Float]:
        if self.kronecker is None:
            return np.copy
        if not len(state.group_moments):
            return self.kronecker.inverse(state.moments)
        if (
            not self._sum or self._sum[0][0] is not state.group_grams
        ):  # its factors serve until there are new ones
            found = KroneckerSum(
                state.group_moments, state.group_grams, self.kronecker.penalty, self.kronecker.free
            )
            self._sum[:] = [(state.group_grams, found.inverse())]
        return self._sum[0][1]
