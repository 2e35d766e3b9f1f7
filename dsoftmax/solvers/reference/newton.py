"""Newton's method with the exact Hessian and a trust region, several radii in one read.

A pass values the steps of several radii, since points share the rows, and finds the Hessian at the one that is likely to be the
best. Where another one was better, its Hessian is made of what is known: between the last two exact ones, by where the point
lies between theirs, and then corrected by the symmetric rank-one formula for the gradients of the points around (Nocedal and
Wright 2006, eq. 6.24). At θ = 0 with log priors the Hessian is A ⊗ G + penalty exactly, so that the first step needs no pass.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.line_search import improves
from dsoftmax.solvers.protocol import Answer, Problem, Query
from dsoftmax.solvers.reference.trust_region import Metric, kronecker

Float = NDArray[np.float64]

LADDER = (1.0, 2.0, 4.0, 16.0, 0.5, 0.25, 0.06)
"""Radii to try, as parts of the likely best; the Hessian is asked for at the first."""
DAMPED = (0.3, 0.03)
"""Parts of the Newton step to try too, where no radius reaches it."""
FIRST = 0.25
"""The first radius, as part of the Newton step's length."""
NEARLY = 0.85
"""A point whose Hessian is known is the next one where it gained this part of what the best one did."""
GOOD, POOR = 0.75, 0.3
"""Ratios of what was gained to what was promised from which on a radius may grow, and below which it shrinks."""
SEEN = 1e-6
"""A rank-one correction is made where its denominator is larger than this part of what it could be (eq. 6.26)."""
MAX_REFUSED = 12


@dataclass(frozen=True)
class NewtonState:
    """See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    hessian : (K·(p+1), K·(p+1)) float64
        What stands for ∇²F at θ.
    exact : bool
        Whether it is ∇²F.
    places, known : (n, K, p+1) and (n, K·(p+1), K·(p+1)) float64, n ≤ 2
        Points whose exact Hessian was found last, and these.
    radius : float
        The likely best.
    trials : (m, K, p+1) float64
        Points of the next query.
    promised, lengths : (m,) float64
        How far the quadratic falls to each, and how far away it is in the metric.
    refused : int
        Passes since the last step; where the Hessian was not exact, the next one finds it at θ.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    hessian: Float
    exact: bool
    places: Float
    known: Float
    radius: float
    trials: Float
    promised: Float
    lengths: Float
    refused: int

    @property
    def here(self) -> bool:
        """Whether the Hessian is asked for at θ."""
        return bool(np.isnan(self.value)) or (self.refused > 0 and not self.exact)


@dataclass(frozen=True)
class Newton:
    """Newton with a trust region.

    Attributes
    ----------
    metric : Metric
    first : (K·(p+1), K·(p+1)) float64
        A ⊗ G + penalty: the Hessian at a start whose answer came without one.
    """

    metric: Metric
    first: Float

    @classmethod
    def of(cls, problem: Problem) -> "Newton":
        """Return the solver of a problem."""
        return cls(Metric.of(problem), kronecker(problem.moments, problem.gram, problem.penalty))

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> NewtonState:
        none, no_numbers = np.zeros((0, *theta.shape)), np.zeros(0)
        state = NewtonState(
            theta, np.nan, np.zeros_like(theta), 0.0, n_iter, "", self.first, True, none, np.zeros((0, theta.size, theta.size)),
            np.inf, none, no_numbers, no_numbers, 0,
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
                np.stack([*state.places, place])[-2:],
                np.stack([*state.known, answer.hessian])[-2:],
            )
            learnt = replace(state, places=places, known=known)
        best = _best(state, found)
        if not improves(state, found[best], state.trials[best] - state.theta):
            return self._refuse(state, learnt, found)
        theta, reached = state.trials[best], found[best]
        before = replace(reached, value=state.value, gradient=state.gradient)
        exact = best == 0 and not state.here and learnt is not state
        points, answers = [state.theta, *state.trials], [before, *found]
        near = [
            (x, a.gradient)
            for x, a in _ascending(points, answers)
            if a is not reached and a.value <= state.value
        ]
        hessian = (
            learnt.known[-1]
            if exact
            else self._corrected(self._between(learnt, theta), theta, reached.gradient, near[::-1])
        )
        following = _at(learnt, theta, reached, state.n_iter + 1)
        radius = _next_radius(
            state, best, (state.value - reached.value) / max(state.promised[best], 1e-300)
        )
        return self._aim(replace(following, hessian=hessian, exact=exact, radius=radius, refused=0))

    def _begin(self, state: NewtonState, answer: Answer) -> NewtonState:
        hessian = self.first if answer.hessian is None else answer.hessian
        state = _at(state, state.theta, answer, state.n_iter)
        if not state.stuck and not np.isfinite(hessian).all():
            state = replace(state, stuck="the Hessian is not finite")
        return self._aim(
            replace(state, hessian=hessian, places=state.theta[None], known=hessian[None])
        )

    def _refuse(
        self, state: NewtonState, learnt: NewtonState, found: tuple[Answer, ...]
    ) -> NewtonState:
        """Stay, with a smaller radius and a better Hessian."""
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
            hessian = self._corrected(
                state.hessian, state.theta, state.gradient, near, only_more=True
            )
            state = replace(state, hessian=hessian)
        return self._aim(replace(state, radius=radius, refused=state.refused + 1))

    def _between(self, state: NewtonState, theta: Float) -> Float:
        """Return the Hessian between the last two exact ones, where θ lies between their points."""
        if len(state.known) < 2:
            return state.known[-1]
        along = self._logits(state.places[1] - state.places[0])
        reach = float(along @ along)
        part = float(along @ self._logits(theta - state.places[0])) / reach if reach > 0 else 1.0
        part = min(max(part, 0.0), 1.0)
        found: Float = (1 - part) * state.known[0] + part * state.known[1]
        return found

    def _logits(self, step: Float) -> Float:
        """Return a step's entries in the scale of the logits' change."""
        found: Float = step[self.metric.free] / self.metric.scale
        return found

    def _corrected(
        self,
        hessian: Float,
        theta: Float,
        gradient: Float,
        points: list[tuple[Float, Float]],
        only_more: bool = False,
    ) -> Float:
        """Return the Hessian after rank-one corrections that fit the gradients of points, the best last."""
        found, moves = hessian, self.metric.free.ravel()
        for at, slope in points:
            step = (at - theta).ravel()
            lack = (slope - gradient).ravel() - found @ step
            below = float(lack @ step)
            size = float(
                np.linalg.norm(lack[moves] * self.metric.scale)
                * np.linalg.norm(step[moves] / self.metric.scale)
            )
            if (below if only_more else abs(below)) > SEEN * size > 0:
                found = found + np.outer(lack, lack) / below
        return found

    def _aim(self, state: NewtonState) -> NewtonState:
        """Solve the subproblem for every radius: the next points."""
        if state.stuck:
            return state
        quadratic = self.metric.quadratic(state.hessian, state.gradient)
        newton = quadratic.step()
        full = newton[2]
        radius = min(state.radius if np.isfinite(state.radius) else FIRST * full, full)
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


def _at(state: NewtonState, theta: Float, answer: Answer, n_iter: int) -> NewtonState:
    return replace(
        state,
        theta=theta,
        value=answer.value,
        gradient=answer.gradient,
        value_error=answer.value_error,
        n_iter=n_iter,
        stuck="" if np.isfinite(answer.value) else "F is not finite",
    )


def _ascending(
    points: Float | list[Float], answers: tuple[Answer, ...] | list[Answer]
) -> list[tuple[Float, Answer]]:
    """Return the points whose F is finite and their answers, the least F first."""
    pairs = [
        (x, a)
        for x, a in zip(points, answers, strict=True)
        if np.isfinite(a.value) and np.isfinite(a.gradient).all()
    ]
    return sorted(pairs, key=lambda pair: pair[1].value)


def _best(state: NewtonState, found: tuple[Answer, ...]) -> int:
    """Return which trial is the next point: the least F, or the first where it is nearly as good, for its Hessian is known."""
    values = np.array([one.value if np.isfinite(one.value) else np.inf for one in found])
    error = max(state.value_error, found[0].value_error)
    if not state.here and state.value - values[0] >= NEARLY * (state.value - values.min()) > error:
        return 0
    sizes = np.array([np.linalg.norm(one.gradient) for one in found])
    return int(np.argmin(np.where(values <= values.min() + error, sizes, np.inf)))


def _next_radius(state: NewtonState, best: int, ratio: float) -> float:
    """Return the length of the best step; twice it where nothing longer was tried and it kept its promise."""
    length = float(state.lengths[best])
    if ratio < POOR:
        return 0.5 * length
    longest = length > 0.99 * state.lengths.max()
    return 2 * length if ratio > GOOD and longest else length
