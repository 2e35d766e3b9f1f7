"""Limited-memory BFGS (Nocedal and Wright 2006, chapter 7.2).

An iteration costs one pass if its first step is accepted.

A preconditioner replaces the identity in H⁰. It is the inverse of A ⊗ G + λI
(`dsoftmax.solvers.algebra.kronecker`) with the A of the newest point, scaled by γ = sᵀy/(yᵀH⁰y)
as eq. 7.20 scales the identity. Or it is the inverse of a sum of Kronecker products
(`dsoftmax.solvers.algebra.kronecker_sum`), unscaled.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.class_groups import groups, n_groups
from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.algebra.kronecker_sum import sum_bytes
from dsoftmax.solvers.algebra.line_search import Search, advance, begin
from dsoftmax.solvers.lbfgs.pairs import Pairs
from dsoftmax.solvers.lbfgs.state import LBFGSState
from dsoftmax.solvers.protocol import Allocation, Answer, Problem, Query, Sizes

Float = NDArray[np.float64]

PLAIN_PAIRS = 10
"""Pairs in the memory of the plain solver, as in the literature."""
PRECONDITIONED_PAIRS = 20
"""Pairs in the memory of the preconditioned solvers, whose passes are fewer and dearer."""
LENGTHS = (0.4, 2.0)
"""Lengths of the further trials of a pass, in units of the step.

Only the solver with a sum of products makes them: its passes are dear.
"""
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
    n_groups : int
        Number of groups of the sum of Kronecker products, whose curvatures are asked for at
        iterations 0, 1, 3, 7, 15 …; 1 for a single product.
    """

    memory: int = PLAIN_PAIRS
    kronecker: Kronecker | None = None
    moments: Float | None = None
    n_groups: int = 1

    @classmethod
    def plain(cls, problem: Problem) -> "LBFGS":
        """Return the solver without a preconditioner, for any problem."""
        return cls()

    @classmethod
    def preconditioned(cls, problem: Problem) -> "LBFGS":
        """Return the solver with one Kronecker product."""
        return cls(PRECONDITIONED_PAIRS, Kronecker.of(problem), problem.moments)

    @classmethod
    def preconditioned_by_sum(cls, problem: Problem) -> "LBFGS":
        """Return the solver with a sum of Kronecker products, or with one if a sum is too dear."""
        K, d = problem.free.shape
        n = n_groups(problem.n_rows, K, d - 1) if problem.gram.ndim == 2 else 1
        return replace(cls.preconditioned(problem), n_groups=n)

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> LBFGSState:
        zero = np.zeros(theta.shape)
        waiting = begin(np.nan, np.nan, 0.0, 0.0)
        moments = np.zeros((0, 0)) if self.moments is None else self.moments
        K, d = theta.shape
        no_groups = np.zeros((0, K, K)), np.zeros((0, d * (d + 1) // 2), np.float32)
        state = LBFGSState(
            theta, np.nan, zero, 0.0, n_iter, "", Pairs(), moments, *no_groups, zero, waiting
        )
        return state if answer is None else self._accept(state, theta, answer, n_iter)

    def ask(self, state: LBFGSState) -> tuple[LBFGSState, Query]:
        first, summed = state.search.trials == 0, self.n_groups > 1
        point = state.theta + state.search.step * state.direction
        due = summed and first and (state.n_iter + 1) & state.n_iter == 0
        curvatures = groups(state.moments, self.n_groups) if due else None
        trials = None
        if summed and first and not np.isnan(state.value):
            trials = np.stack(
                [state.theta + length * state.search.step * state.direction for length in LENGTHS]
            )
        moments = self.kronecker is not None
        return state, Query(point, moments=moments, curvatures=curvatures, trials=trials)

    def tell(self, state: LBFGSState, answer: Answer) -> LBFGSState:
        if np.isnan(state.value):
            return self._accept(state, state.theta, answer, state.n_iter)
        search, found = _best_trial(state, answer)
        if search.verdict == "accepted":
            answer = replace(
                answer, value=found.value, gradient=found.gradient, value_error=found.value_error
            )
            theta = state.theta + search.step * state.direction
            s, y = theta - state.theta, answer.gradient - state.gradient
            if np.sum(s * y) > LEAST_BEND * np.sum(y * y) > 0:
                state = state.changed(pairs=state.pairs.joined_by(s, y, self.memory))
            return self._accept(state, theta, answer, state.n_iter + 1)
        if search.verdict == "failed":
            if len(state.pairs):  # they may be rounding: forget them, and try once more downhill
                return self._aim(state.changed(pairs=Pairs()))
            stuck = "no step along the gradient decreases F beyond rounding"
            return state.changed(search=search, stuck=stuck)
        return state.changed(search=search)

    def _accept(self, state: LBFGSState, theta: Float, answer: Answer, n_iter: int) -> LBFGSState:
        sums = {}
        if answer.group_grams is not None:
            sums = {"group_moments": answer.group_moments, "group_grams": answer.group_grams}
        return self._aim(
            state.changed(
                theta=theta,
                value=answer.value,
                gradient=answer.gradient,
                value_error=answer.value_error,
                n_iter=n_iter,
                stuck="" if np.isfinite(answer.value) else "F is not finite",
                moments=state.moments if answer.moments is None else answer.moments,
                **sums,
            )
        )

    def _aim(self, state: LBFGSState) -> LBFGSState:
        """Choose the next direction and begin its line search."""
        if state.stuck:
            return state
        first = self._first_product(state)
        scaled = not len(state.group_moments)  # a sum is close enough to the Hessian as it is
        direction = -state.pairs.inverse_product(state.gradient, first, scaled)
        slope = float(np.sum(direction * state.gradient))
        if not slope < 0 and len(state.pairs):  # rounding made the pairs useless
            state = state.changed(pairs=Pairs())
            direction = -first(state.gradient)
            slope = float(np.sum(direction * state.gradient))
        plain = not len(state.pairs) and self.kronecker is None
        length = 1.0 / max(float(np.sqrt(max(-slope, 0))), 1e-300) if plain else 1.0
        search = begin(state.value, slope, state.value_error, length)
        return state.changed(direction=direction, search=search)

    def _first_product(self, state: LBFGSState) -> Callable[[Float], Float]:
        """Return the product with H⁰."""
        if self.kronecker is None:
            return np.copy
        if not len(state.group_moments):
            return self.kronecker.inverse(state.moments)
        return state.curvature(self.kronecker).inverse


def _best_trial(state: LBFGSState, answer: Answer) -> tuple[Search, Answer]:
    """Return the search after the best trial, and the answer there.

    The best trial is the accepted one with the least F, or the first if none is accepted.
    """
    tried = [(_advanced(state, answer, 1.0), answer)]
    for one, length in zip(answer.trials, LENGTHS, strict=False):
        tried.append((_advanced(state, one, length), one))
    accepted = [(search, one) for search, one in tried if search.verdict == "accepted"]
    return min(accepted, key=lambda trial: trial[1].value) if accepted else tried[0]


def _advanced(state: LBFGSState, answer: Answer, length: float) -> Search:
    """Return the search after a trial at ``length`` times its step."""
    slope = float(np.sum(answer.gradient * state.direction))
    search = replace(state.search, step=length * state.search.step)
    return advance(search, answer.value, slope, answer.value_error)


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


def sum_footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver with a sum of Kronecker products."""
    one = preconditioned_footprint(sizes)
    trials = 2 * len(LENGTHS) * sizes.vector
    summed = sum_bytes(sizes.n_rows, sizes.n_classes, sizes.n_features, sizes.gram)
    return Allocation(one.per_model + trials + summed, one.shared)


STEP_VECTORS = 12
"""Arrays with the shape of θ that a step allocates: the next state, and the recursion's scratch."""


def _state_bytes(sizes: Sizes, pairs: int) -> int:
    """Return the bytes of the pairs, and of θ, ∇F, the direction, the query and the answer."""
    return (2 * pairs + 5) * sizes.vector
