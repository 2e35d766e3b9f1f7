r"""Newton's method on a surrogate: a sample in memory stands for the data, corrected so that it agrees with them here.

At θₜ a pass has found F, ∇F and perhaps ∇²F. The surrogate is

.. math::  m(θ) = α f(θ) + ⟨∇F(θ_t) − α∇f(θ_t),\, δ⟩ + ½ δᵀ\bigl(C + (1 − α)∇²f(θ_t) + μB\bigr)δ,   δ = θ − θ_t,   B = ∇²f(θ_t) + C

with f the same objective on the sample (Shamir, Srebro and Zhang 2014, "Communication-efficient distributed optimization using an
approximate Newton-type method", eq. 13; Jordan, Lee and Yang 2019). It has the data's gradient at θₜ, and the sample's curvature
everywhere, which follows the losses where a quadratic would not. C is what the sample's Hessian lacks:
∇²F − ∇²f exactly where a pass was asked for it, and beside that the symmetric rank-one matrix that fits the gradients of
the passes since (Nocedal and Wright 2006, section 6.2, in the compact form of Byrd, Nocedal and Schnabel 1994, eq. 5.2). With it
the error of a step is that of the sample's *third* derivative.

Where the sample curves more than the data, C has negative eigenvalues. With all of f, α = 1, the surrogate then falls without end
where f flattens; the largest α with C + (1 − α)∇²f(θₜ) ⪰ 0 makes it convex, at the price of 1 − α of the third derivative.

A pass values several points: the minima of the convex m, of another one (bold, with α = 1, or without the rank-one matrix) and of the
convex m damped by μ (Levenberg and Marquardt's, in the metric of B), so that a step that is too bold costs no pass of its own;
after a refusal, those for several μ. The best one is the next θ.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import definite
from dsoftmax.solvers.algebra.line_search import improves
from dsoftmax.solvers.algebra.minimise import minimise
from dsoftmax.solvers.protocol import Answer, Local, Problem, Query, Sizes
from dsoftmax.solvers.surrogate.model import _Model, _solve, _times

Float = NDArray[np.float64]

TRIALS = 3
"""Points that a pass values."""
TENFOLD, LEAST_DAMPING, DAMPING, MOST_DAMPING = 10.0, 1e-3, 0.3, 1e9
TRUST = (0.75, 1.3)
"""Between these ratios of what a step gained to what was promised, C is good enough to do without a new Hessian."""
CHEAP_ENTRIES = 400
"""With no more entries of θ than this, a Hessian costs no more than a few passes and is always asked for: it saves as many."""
MEMORY = 10
"""Pairs of the rank-one matrix."""
THREAD_BYTES = 8 * 2**20
"""What a thread comes to take: its stack, and what the allocator keeps for it."""
MOST_TAKEN = 0.9
"""Of the sample's curvature in a direction, C takes no more than this part: beyond it, C is wrong."""
FINE = 1e-6
"""Below this reciprocal of the condition number, of what is scaled to a unit diagonal, a pass sums the Hessian in float64."""
PIN = 1e-3
"""Curvature given to directions that change no probability, as part of the others' mean."""


@dataclass(frozen=True)
class SurrogateState:
    """See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    trials : (m, K, p+1) float64
        Points of the query that waits for its answer; the Hessian is asked for at the first, which is θ itself after a refusal.
    promised : (m,) float64
        How far the surrogate falls to each.
    dampings : (m,) float64
        μ of each.
    damping : float
        The least μ to try next.
    trusted : bool
        Whether the last step gained what was promised.
    correction : (K·(p+1), K·(p+1)) float64
        The exact part of C; of shape (0, 0) while it is zero.
    steps, lacks : (n, K, p+1) float64
        δ of earlier points and by how much the change of ∇F differed there from that of ∇f + C·δ.
    refused : int
        Passes since the last step.
    exact : bool
        Whether the Hessian at θ is known.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    trials: Float
    promised: Float
    dampings: Float
    damping: float
    trusted: bool
    correction: Float
    steps: Float
    lacks: Float
    refused: int
    exact: bool = False


@dataclass(frozen=True)
class Surrogate:
    """Newton on a sampled surrogate.

    Attributes
    ----------
    local : Local
        The sample.
    free : (K, p+1) bool
        Entries that move.
    penalty : (K, p+1) float64
    hessians : bool
        Whether passes may be asked for the Hessian.
    """

    local: Local
    free: NDArray[np.bool_]
    penalty: Float
    hessians: bool = True

    @classmethod
    def of(cls, problem: Problem) -> "Surrogate":
        """Return the solver of a problem that has a sample."""
        assert problem.local is not None
        return cls(problem.local, problem.free, problem.penalty)

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> SurrogateState:
        none, no_numbers = np.zeros((0, *theta.shape)), np.zeros(0)
        state = SurrogateState(
            theta, np.nan, np.zeros_like(theta), 0.0, n_iter, "", none, no_numbers, no_numbers, 0.0,
            False, np.zeros((0, 0)), none, none, 0,
        )  # fmt: skip
        return state if answer is None else _at(state, theta, answer, n_iter)

    def ask(self, state: SurrogateState) -> tuple[SurrogateState, Query]:
        if np.isnan(state.value):
            return state, Query(state.theta)
        H = self.local.hessian(state.theta)
        state = self._aim(state, H)
        first, *others = state.trials
        hessian = (
            self.hessians
            and not self.local.whole
            and (not state.trusted or first.size <= CHEAP_ENTRIES)
        )
        trials = np.stack(others) if others else None
        return state, Query(
            first, hessian=hessian, single=hessian and not self._fine(H), trials=trials
        )

    def tell(self, state: SurrogateState, answer: Answer) -> SurrogateState:
        if np.isnan(state.value):
            return _at(state, state.theta, answer, state.n_iter)
        found = (answer, *answer.trials)
        values = np.array([one.value if np.isfinite(one.value) else np.inf for one in found])
        error = max(state.value_error, answer.value_error)
        sizes = np.array([np.linalg.norm(one.gradient) for one in found])
        best = int(np.argmin(np.where(values <= values.min() + error, sizes, np.inf)))
        state = self._learn(state, found)
        if answer.hessian is not None and np.isfinite(answer.hessian).all():
            exact = answer.hessian - self.local.hessian(state.trials[0])
            state = replace(state, correction=exact, steps=state.steps[:0], lacks=state.lacks[:0])
        if not improves(state, found[best], state.trials[best] - state.theta):
            if state.damping >= MOST_DAMPING:
                return replace(state, stuck="no step of the surrogate decreases F beyond rounding")
            larger = max(TENFOLD * float(state.dampings.max()), LEAST_DAMPING)
            back = self._looks_back(state)  # then C is exact here now, and damping begins anew
            state = replace(
                state, exact=state.exact or back, trusted=back, refused=state.refused + 1
            )
            return _at_rest(replace(state, damping=0.0 if back else larger))
        ratio = (state.value - values[best]) / max(state.promised[best], 1e-300)
        trusted = (
            bool(TRUST[0] <= ratio <= TRUST[1])
            or values[best] >= state.value - found[best].value_error
        )
        damping = state.dampings[best] / (TENFOLD**3 if self._looks_back(state) else TENFOLD)
        damping = damping if damping >= LEAST_DAMPING else 0.0
        known = answer.hessian is not None and best == 0
        state = replace(state, damping=damping, trusted=trusted, exact=known, refused=0)
        return _at_rest(_at(state, state.trials[best], found[best], state.n_iter + 1))

    def _looks_back(self, state: SurrogateState) -> bool:
        """Whether the next pass is asked for the Hessian at θ: after a refusal, where it is not known there."""
        return (
            self.hessians
            and state.refused > 0
            and not state.exact
            and state.theta.size > CHEAP_ENTRIES
        )

    def _learn(self, state: SurrogateState, found: tuple[Answer, ...]) -> SurrogateState:
        """Add to the rank-one matrix what the passes' points say of the Hessian that the surrogate lacks."""
        here = self.local.value_and_gradient(state.theta)[1]
        steps, lacks = list(state.steps), list(state.lacks)
        order = np.argsort(
            [-one.value if np.isfinite(one.value) else -np.inf for one in found]
        )  # the best comes last
        for i in order:
            if not found[i].value <= state.value + abs(
                state.value
            ):  # too far away to say anything of here
                continue
            step = state.trials[i] - state.theta
            change = (
                found[i].gradient
                - state.gradient
                - (self.local.value_and_gradient(state.trials[i])[1] - here)
            )
            lack = change - _times(state.correction, step)
            if np.sum(step * step) > 0:
                steps.append(step)
                lacks.append(lack)
        keep = max(len(steps) - MEMORY, 0)
        if not steps:
            return state
        return replace(state, steps=np.stack(steps)[keep:], lacks=np.stack(lacks)[keep:])

    def _fine(self, H: Float) -> bool:
        """Whether some curvature is so small beside the features' own that rounding to float32 would hide it."""
        pinned = self._pinned(H, shifts=True)
        scaled = definite.scaled(pinned, np.sqrt(np.diag(pinned)))
        factor, failed = scipy.linalg.lapack.dpotrf(scaled)
        reciprocal, _ = scipy.linalg.lapack.dpocon(factor, float(np.abs(scaled).sum(axis=0).max()))
        return bool(failed) or float(reciprocal) < FINE

    def _aim(self, state: SurrogateState, H: Float) -> SurrogateState:
        """Minimise surrogates, with H the Hessian of the sample: the next points."""
        theta = state.theta
        exact = state.correction if state.correction.size else np.zeros_like(H)
        fitted, share = self._bounded(exact + _rank_one(state.steps, state.lacks, theta.size), H)
        B = H + fitted
        pinned = self._pinned(B)
        solve = _solve(pinned, theta.shape) or _diagonal(pinned, theta.shape)
        value, slope = self.local.value_and_gradient(theta)

        def model(C: Float, share: float, most: float = np.inf) -> _Model:
            return _Model(
                self, theta, value, share, state.gradient - share * slope, C + (1 - share) * H, most
            )

        if state.n_iter == 0 and state.refused == 0 and np.any(state.gradient):
            # The sample's own minimum: from far away its gradient is the better guide.
            dampings, models = (
                [0.0],
                [_Model(self, theta, value, 1.0, np.zeros_like(theta), np.zeros((0, 0)))],
            )
            if not self.local.whole:
                dampings, models = [0.0, 0.0], [*models, model(fitted, 1.0, state.value)]
        elif state.damping > 0:
            dampings = [state.damping * TENFOLD**k for k in range(TRIALS)]
            models = [model(fitted + damping * B, share) for damping in dampings]
        else:
            other = (
                model(*self._bounded(exact, H))
                if len(state.steps)
                else model(fitted, 1.0, state.value)
            )
            dampings, models = (
                [0.0, 0.0, DAMPING],
                [model(fitted, share), other, model(fitted + DAMPING * B, share)],
            )
        with ThreadPoolExecutor(
            len(models)
        ) as pool:  # each on a core, where there are so many; none knows of the others
            found = list(
                pool.map(
                    lambda model: minimise(model.function, theta, solve, model.factorise), models
                )
            )
        if self._looks_back(state):  # the Hessian is wanted here, where the surrogate must hold
            found, dampings = [(theta, 0.0), *found], [0.0, *dampings]
        return replace(
            state,
            trials=np.stack([point for point, _ in found]),
            promised=np.array([fall for _, fall in found]),
            dampings=np.array(dampings),
        )

    def _bounded(self, C: Float, H: Float) -> tuple[Float, float]:
        """Return C, and the largest α with C + (1 - α)·H positive semidefinite: a convex surrogate, which has a minimum.

        What would take more than `MOST_TAKEN` of H in some direction is cut off C.
        """
        if not C.any():
            return C, 1.0
        pinned = self._pinned(H)
        size = np.sqrt(
            np.diag(pinned) + np.abs(np.diag(C))
        )  # the sample may see nothing of a feature
        scale = np.outer(size, size)
        half = scipy.linalg.cholesky(definite.scaled(pinned, size), lower=True, check_finite=False)
        inner = scipy.linalg.solve_triangular(half, C / scale, lower=True, check_finite=False)
        inner = scipy.linalg.solve_triangular(half, inner.T, lower=True, check_finite=False)
        values, vectors = scipy.linalg.eigh(inner, check_finite=False)
        kept = np.maximum(values, -MOST_TAKEN)
        if kept[0] > values[0]:
            outer = size[:, None] * (half @ vectors)
            C = C + (outer * (kept - values)) @ outer.T
        return C, 1 + min(float(kept[0]), 0.0)

    def _pinned(self, B: Float, shifts: bool = False) -> Float:
        """Return B with curvature in the directions that change no probability, penalised or not with ``shifts``, and where θ must not
        move.
        """
        K, d = self.free.shape
        size = np.maximum(np.diag(B).reshape(K, d).mean(axis=0), 0)
        shift = np.where(
            (self.penalty.max(axis=0) > 0) & (not shifts), 0.0, PIN * np.maximum(size, 1e-12)
        )
        found = B + np.kron(np.ones((K, K)) / K, np.diag(shift))
        floor = 1e-12 * np.maximum(np.diag(found), 0) + 1e-300
        found[np.diag_indices(len(found))] += np.where(self.free.ravel(), floor, 1.0)
        return found


def thread_bytes(sizes: Sizes) -> int:
    """Return the bytes that the minimising threads hold besides their vectors and matrices."""
    return TRIALS * (THREAD_BYTES + sizes.scratch_bytes)


def _at(state: SurrogateState, theta: Float, answer: Answer, n_iter: int) -> SurrogateState:
    return replace(
        state,
        theta=theta,
        value=answer.value,
        gradient=answer.gradient,
        value_error=answer.value_error,
        n_iter=n_iter,
        stuck="" if np.isfinite(answer.value) else "F is not finite",
    )


def _at_rest(state: SurrogateState) -> SurrogateState:
    """Return the state without the points that were answered."""
    return replace(
        state, trials=state.trials[:0], promised=state.promised[:0], dampings=state.dampings[:0]
    )


def _rank_one(steps: Float, lacks: Float, size: int) -> Float:
    """Return the symmetric matrix C of least rank with C·stepᵢ = lackᵢ: Y (SᵀY)⁻¹ Yᵀ with SᵀY made symmetric."""
    if not len(steps):
        return np.zeros((size, size))
    S, Y = steps.reshape(len(steps), -1), lacks.reshape(len(lacks), -1)
    products = S @ Y.T
    middle = np.tril(products) + np.tril(products, -1).T
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(middle)), 1e-300))
    values, vectors = scipy.linalg.eigh(middle * np.outer(scale, scale))
    seen = np.abs(values) > 1e-8  # the others would divide by what is nearly zero (eq. 6.26)
    half = (vectors[:, seen] * scale[:, None]).T @ Y
    found: Float = half.T @ (half / values[seen, None])
    return found


def _diagonal(matrix: Float, shape: tuple[int, ...]) -> Callable[[Float], Float]:
    size = np.maximum(np.diag(matrix), 1e-12 * float(np.abs(matrix).max()) + 1e-300).reshape(shape)
    return lambda right: right / size
