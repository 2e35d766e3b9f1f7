"""Newton's method with the exact Hessian and a trust region, several radii per pass.

A pass finds F at the steps of several radii, because the points share the rows. It finds the
Hessian at the point that is likely to be the best. If another point was better, its Hessian is
estimated in two steps. The first interpolates between the last two exact Hessians, by the point's
place on the line between theirs. The second corrects the result by the symmetric rank-one
formula, for the gradients of the points around (Nocedal and Wright 2006, eq. 6.24).

The Hessian at θ = 0 with log priors is A ⊗ G + penalty exactly, so that the first step needs no
pass.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import kronecker_matrix
from dsoftmax.solvers.algebra.line_search import improves
from dsoftmax.solvers.algebra.moved import moved
from dsoftmax.solvers.protocol import Allocation, Answer, Problem, Query, Sizes
from dsoftmax.solvers.reference.hessian_estimate import between, corrected
from dsoftmax.solvers.reference.newton_state import NewtonState
from dsoftmax.solvers.reference.trust_region import Metric

Float = NDArray[np.float64]

LADDER = (1.0, 2.0, 4.0, 16.0, 0.5, 0.25, 0.06)
"""Radii to try, as multiples of the likely best. The Hessian is asked for at the first."""
DAMPED = (0.3, 0.03)
"""Fractions of the Newton step to try too, if no radius reaches it."""
FIRST_RADIUS = 0.25
"""First radius, as a fraction of the Newton step's length."""
NEARLY = 0.85
"""Fraction of the best gain from which on the point with the exact Hessian is preferred."""
KEPT_PROMISE, BROKEN_PROMISE = 0.75, 0.3
"""Ratios of the gain to the promised gain.

A radius may grow above the first, and shrinks below the second.
"""
MAX_REFUSED = 12
"""Limit on the passes without a step."""


@dataclass(frozen=True)
class Newton:
    """Newton with a trust region.

    Attributes
    ----------
    metric : Metric
    first : (K·(p+1), K·(p+1)) float64
        A ⊗ G + penalty: the Hessian at a start whose answer is known without a pass.
    """

    metric: Metric
    first: Float

    @classmethod
    def of(cls, problem: Problem) -> "Newton":
        """Return the solver of a problem."""
        return cls(
            Metric.of(problem), kronecker_matrix(problem.moments, problem.gram, problem.penalty)
        )

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> NewtonState:
        none, no_numbers = np.zeros((0, *theta.shape)), np.zeros(0)
        state = NewtonState(
            theta, np.nan, np.zeros_like(theta), 0.0, n_iter, "", self.first, True, none,
            np.zeros((0, theta.size, theta.size)), np.inf, none, no_numbers, no_numbers, 0,
        )  # fmt: skip
        return state if answer is None else self._begin(state, answer)

    def ask(self, state: NewtonState) -> tuple[NewtonState, Query]:
        if np.isnan(state.value):
            return state, Query(state.theta, hessian=True)
        if state.here:
            return state, Query(state.theta, hessian=True, trials=state.trials)
        first, *others = state.trials
        return state, Query(first, hessian=True, trials=np.stack(others) if others else None)

    def tell(self, state: NewtonState, answer: Answer) -> NewtonState:
        if np.isnan(state.value):
            return self._begin(state, answer)
        found = answer.trials if state.here else (answer, *answer.trials)
        place = state.theta if state.here else state.trials[0]
        learnt = state
        if answer.hessian is not None and np.isfinite(answer.hessian).all():
            places, known = (
                np.stack([*state.places, place][-2:]),
                np.stack([*state.known, answer.hessian][-2:]),
            )
            learnt = replace(state, places=places, known=known)
        best = _best(state, found)
        if not improves(state, found[best], state.trials[best] - state.theta):
            return self._refuse(state, learnt, found)
        theta, reached = state.trials[best], found[best]
        exact = best == 0 and not state.here and learnt is not state
        hessian = (
            learnt.known[-1] if exact else self._estimate(state, learnt, theta, reached, found)
        )
        gain = state.value - reached.value
        return self._aim(
            replace(
                moved(learnt, theta, reached, state.n_iter + 1),
                hessian=hessian,
                exact=exact,
                radius=_next_radius(state, best, gain / max(state.promised[best], 1e-300)),
                refused=0,
            )
        )

    def _estimate(
        self,
        state: NewtonState,
        learnt: NewtonState,
        theta: Float,
        reached: Answer,
        found: tuple[Answer, ...],
    ) -> Float:
        """Return the Hessian at a trial, estimated from exact ones and from points around."""
        before = replace(reached, value=state.value, gradient=state.gradient)
        points, answers = [state.theta, *state.trials], [before, *found]
        near = [
            (x, a.gradient)
            for x, a in _ascending(points, answers)
            if a is not reached and a.value <= state.value
        ]
        return corrected(
            self.metric, between(self.metric, learnt, theta), theta, reached.gradient, near[::-1]
        )

    def _begin(self, state: NewtonState, answer: Answer) -> NewtonState:
        hessian = self.first if answer.hessian is None else answer.hessian
        state = moved(state, state.theta, answer, state.n_iter)
        if not state.stuck and not np.isfinite(hessian).all():
            state = replace(state, stuck="the Hessian is not finite")
        return self._aim(
            replace(state, hessian=hessian, places=state.theta[None], known=hessian[None])
        )

    def _refuse(
        self, state: NewtonState, learnt: NewtonState, found: tuple[Answer, ...]
    ) -> NewtonState:
        """Return the state at the same θ, with a smaller radius and a better Hessian."""
        if state.refused + 1 >= MAX_REFUSED:
            return replace(state, stuck="no step in the trust region decreases F beyond rounding")
        radius = 0.25 * float(state.lengths.min())
        if state.here and learnt is not state:
            state = replace(learnt, hessian=learnt.known[-1], exact=True)
        else:
            limit = state.value + abs(state.value)
            near = [
                (x, a.gradient) for x, a in _ascending(state.trials, found) if a.value <= limit
            ][::-1]
            hessian = corrected(
                self.metric, state.hessian, state.theta, state.gradient, near, only_more=True
            )
            state = replace(state, hessian=hessian)
        return self._aim(replace(state, radius=radius, refused=state.refused + 1))

    def _aim(self, state: NewtonState) -> NewtonState:
        """Solve the subproblem for every radius, which gives the trials of the next query."""
        if state.stuck:
            return state
        quadratic = self.metric.quadratic(state.hessian, state.gradient)
        newton = quadratic.step()
        full = newton[2]
        radius = min(state.radius if np.isfinite(state.radius) else FIRST_RADIUS * full, full)
        lengths: list[float] = []
        for part in LADDER:
            length = min(part * radius, full)
            if all(abs(length - other) > 0.05 * other for other in lengths):
                lengths.append(length)
        steps = [quadratic.step(length) if length < full else newton for length in lengths]
        if full > 1.5 * radius:
            steps += [(t * newton[0], (2 * t - t * t) * newton[1], t * full) for t in DAMPED]
        trials, promised, reached = zip(*steps, strict=True)
        return replace(
            state,
            radius=radius,
            trials=state.theta + np.stack(trials),
            promised=np.array(promised),
            lengths=np.array(reached),
        )


def _ascending(
    points: Float | list[Float], answers: tuple[Answer, ...] | list[Answer]
) -> list[tuple[Float, Answer]]:
    """Return the points with a finite F and their answers, in ascending order of F."""
    pairs = [
        (x, a)
        for x, a in zip(points, answers, strict=True)
        if np.isfinite(a.value) and np.isfinite(a.gradient).all()
    ]
    return sorted(pairs, key=lambda pair: pair[1].value)


def _best(state: NewtonState, found: tuple[Answer, ...]) -> int:
    """Return the index of the next point: the least F, or the first trial if it is nearly as good.

    The Hessian is known at the first trial.
    """
    values = np.array([one.value if np.isfinite(one.value) else np.inf for one in found])
    error = max(state.value_error, found[0].value_error)
    if not state.here and state.value - values[0] >= NEARLY * (state.value - values.min()) > error:
        return 0
    sizes = np.array([np.linalg.norm(one.gradient) for one in found])
    return int(np.argmin(np.where(values <= values.min() + error, sizes, np.inf)))


def _next_radius(state: NewtonState, best: int, ratio: float) -> float:
    """Return the length of the best step, doubled or halved.

    It is doubled if the step kept its promise and was the longest trial, and halved if it broke
    its promise.
    """
    length = float(state.lengths[best])
    if ratio < BROKEN_PROMISE:
        return 0.5 * length
    longest = length > 0.99 * state.lengths.max()
    return 2 * length if ratio > KEPT_PROMISE and longest else length


def footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver.

    A model has seven Hessians: that of the state, the last two exact ones, that of the start, the
    metric, its pins, and that of the answer. A step needs eleven more: the next state has three,
    the eigendecomposition eight.
    """
    trials = 2 * (len(LADDER) + len(DAMPED))
    return Allocation(
        (trials + 10) * sizes.vector + 7 * sizes.matrix,
        (trials + 20) * sizes.vector + 11 * sizes.matrix,
    )
