r"""Proximal Newton for an L1 penalty (Lee, Sun and Saunders 2014, "Proximal Newton-type methods for minimizing composite functions").

F = smooth part + λ₁‖W‖₁. Between two passes a surrogate of F is minimised in memory, L1 part included, as
`dsoftmax.solvers.surrogate.solver` does without one:

.. math::  m(θ) = f(θ) + ⟨∇F(θ_t) − ∇f(θ_t),\, δ⟩ + ½ δᵀ(ωK + C)δ + ½ μ\, δᵀBδ + λ_1‖W‖_1,   δ = θ − θ_t

with f the smooth part on the sample, K = A ⊗ G + λI (`dsoftmax.solvers.algebra.kronecker`), which sees what the sample does not, and
B = ∇²f(θₜ) + ωK + C. C is the BFGS correction that makes B fit the gradients of the last passes (in the compact form of Byrd,
Nocedal and Schnabel 1994, theorem 2.3). m itself is minimised by proximal Newton steps, each a quadratic with an L1 penalty
(`dsoftmax.solvers.proximal_newton.sparse_quadratic`), whose zeros are exact.

A pass values the minimum of m. Where F does not fall there, the damping μ grows, and C knows more. Since the point is a
minimum with zeros of its own, and not one on a line to it, no zero is lost.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.algebra.line_search import C1, DELTA
from dsoftmax.solvers.protocol import Answer, Local, Problem, Query
from dsoftmax.solvers.proximal_newton.sparse_quadratic import (
    Budget,
    Quadratic,
    minimise,
    subgradient,
)

Float = NDArray[np.float64]

MEMORY = 10
"""Pairs that C is made of."""
MOST_BLEND, KNOWN = 0.01, 0.1
"""ω, and the part of a change of the gradient that the sample must miss for it; ω is less where the sample misses less."""
VALUE_ROUNDING = 4e-16
"""Of F, f and m, as a part of 1 + their size."""
ROUNDING = 1e-9
"""A sample that misses no more than this part of a change is all rows."""
LEAST_DAMPING, MOST_DAMPING, TENFOLD = 1e-2, 1e9, 10.0
DENSE_ENTRIES = 1000
"""With no more entries of θ than this, B is a matrix that is factorised."""
DENSE_PRODUCTS, PRODUCTS = 10_000, 300
"""Of B and a vector between two passes at most, where B is a matrix and where it is not."""
PRECISION = 0.01
"""The surrogate is minimised until its subgradient is this part of what it was."""
NEWTON_STEPS, MOST_HALVINGS = 30, 20
LEAST_CURVATURE = 1e-3
"""A pair that bends less than this part of what B says without it is not believed."""
LIFT = 1e-8
"""Part of the diagonal that is added to B, so that rounding does not make it indefinite; it only shortens Newton steps."""
PIN = 1e-2
"""Curvature of a Newton step in directions that change no probability, as part of the others' mean."""


@dataclass(frozen=True)
class ProximalState:
    """See `dsoftmax.solvers.protocol.State` for the common fields; ``value`` has the L1 part, ``gradient`` is the minimum-norm subgradient.

    Attributes
    ----------
    slope : (K, p+1) float64
        Gradient of the smooth part.
    moments : (K, K) float64
        A at θ.
    trial : (K, p+1) float64
        The point of the next query.
    promised : float
        ⟨slope, δ⟩ + the change of the L1 part: negative.
    damping : float
        μ.
    blend : float
        ω.
    steps, lacks : (n, K, p+1) float64, n ≤ memory
        δ of earlier trials, and by how much the gradient changed there beyond that of the sample.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    slope: Float
    moments: Float
    trial: Float
    promised: float
    damping: float
    blend: float
    steps: Float
    lacks: Float

    @property
    def decrement(self) -> float:
        """An estimate of F − F*: half of what the next step promises, as the Newton decrement is where F is smooth."""
        return -0.5 * self.promised if np.isfinite(self.value) else np.nan


@dataclass(frozen=True)
class ProximalNewton:
    """Proximal Newton on a sampled surrogate.

    Attributes
    ----------
    local : Local
        The sample.
    kronecker : Kronecker
    moments : (K, K) float64
        A at the start.
    penalty : (K, p+1) float64
        λ of every entry.
    weights : (K, p+1) float64
        λ₁ of every entry.
    free : (K, p+1) bool
        Entries that move.
    """

    local: Local
    kronecker: Kronecker
    moments: Float
    penalty: Float
    weights: Float
    free: NDArray[np.bool_]

    @classmethod
    def of(cls, problem: Problem) -> "ProximalNewton":
        """Return the solver of a problem that has a sample."""
        assert problem.local is not None
        weights = np.where(problem.free, problem.l1, 0.0)
        weights[:, -1] = 0
        return cls(
            problem.local,
            Kronecker.of(problem),
            problem.moments,
            problem.penalty,
            weights,
            problem.free,
        )

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> ProximalState:
        none, zero = np.zeros((0, *theta.shape)), np.zeros(theta.shape)
        state = ProximalState(
            theta,
            np.nan,
            zero,
            0.0,
            n_iter,
            "",
            zero,
            self.moments,
            theta,
            0.0,
            0.0,
            MOST_BLEND,
            none,
            none,
        )
        return state if answer is None else self._accept(state, answer, n_iter)

    def ask(self, state: ProximalState) -> tuple[ProximalState, Query]:
        return state, Query(state.trial, moments=True)

    def tell(self, state: ProximalState, answer: Answer) -> ProximalState:
        if np.isnan(state.value):
            return self._accept(state, answer, state.n_iter)
        state = self._learn(state, answer)
        if self._improves(state, answer):
            damping = state.damping / TENFOLD if state.damping > LEAST_DAMPING else 0.0
            return self._accept(replace(state, damping=damping), answer, state.n_iter + 1)
        if state.damping >= MOST_DAMPING:
            return replace(state, stuck="no step of the surrogate decreases F beyond rounding")
        return self._aim(replace(state, damping=max(TENFOLD * state.damping, LEAST_DAMPING)))

    def _l1(self, theta: Float) -> float:
        return float(np.sum(self.weights * np.abs(theta)))

    def _improves(self, state: ProximalState, answer: Answer) -> bool:
        """Whether F falls at the trial (Lee, Sun and Saunders 2014, eq. 2.23); where rounding hides that, whether it still fell on the
        way there, by the slope from the left, as in `dsoftmax.solvers.algebra.line_search`.
        """
        value = answer.value + self._l1(state.trial)
        error = max(state.value_error, answer.value_error, VALUE_ROUNDING * (1 + abs(state.value)))
        if not np.isfinite(value):
            return False
        if value <= state.value + C1 * state.promised and value < state.value - error:
            return True
        step = state.trial - state.theta
        bends = np.where(state.trial != 0, np.sign(state.trial) * step, -np.abs(step))
        slope = float(np.sum(answer.gradient * step) + np.sum(self.weights * bends))
        return bool(value <= state.value + error and slope <= (1 - 2 * DELTA) * -state.promised)

    def _learn(self, state: ProximalState, answer: Answer) -> ProximalState:
        """Remember what the pass says of the curvature that the sample lacks; of a trial that was refused, too."""
        if not (np.isfinite(answer.value) and np.isfinite(answer.gradient).all()):
            return state
        here, there = (
            self.local.value_and_gradient(theta)[1] for theta in (state.theta, state.trial)
        )
        change = answer.gradient - state.slope
        lack = change - (there - here)
        missed = float(np.linalg.norm(lack)) / max(float(np.linalg.norm(change)), 1e-300)
        keep = max(len(state.steps) + 1 - MEMORY, 0)
        steps = np.stack([*state.steps, state.trial - state.theta])[keep:]
        blend = (
            MOST_BLEND * min(1.0, missed / KNOWN) if missed > ROUNDING else 0.0
        )  # the sample is all rows
        lacks = np.stack([*state.lacks, lack])[keep:]
        if missed <= ROUNDING:
            steps, lacks = steps[:0], lacks[:0]
        return replace(state, steps=steps, lacks=lacks, blend=blend)

    def _accept(self, state: ProximalState, answer: Answer, n_iter: int) -> ProximalState:
        value = answer.value + self._l1(state.trial)
        state = replace(
            state,
            theta=state.trial,
            value=value,
            gradient=subgradient(answer.gradient, state.trial, self.weights),
            value_error=answer.value_error,
            n_iter=n_iter,
            stuck="" if np.isfinite(value) else "F is not finite",
            slope=answer.gradient,
            moments=state.moments if answer.moments is None else answer.moments,
        )
        return state if state.stuck else self._aim(state)

    def _aim(self, state: ProximalState) -> ProximalState:
        """Minimise the surrogate: the next trial."""
        while True:
            trial = _Model(self, state).minimum()
            promised = (
                float(np.sum(state.slope * (trial - state.theta)))
                + self._l1(trial)
                - self._l1(state.theta)
            )
            if promised < 0 or not np.any(state.gradient):
                return replace(state, trial=trial, promised=promised)
            if len(state.steps):  # forget what may be rounding
                state = replace(state, steps=state.steps[:0], lacks=state.lacks[:0])
            elif state.damping < MOST_DAMPING:
                state = replace(state, damping=max(TENFOLD**2 * state.damping, LEAST_DAMPING))
            else:
                return replace(state, stuck="no step of the surrogate decreases F beyond rounding")


class _Model:
    """The surrogate m at one point, less its value there."""

    def __init__(self, solver: ProximalNewton, state: ProximalState) -> None:
        self.solver, self.state = solver, state
        self.value, gradient = solver.local.value_and_gradient(state.theta)
        self.error = VALUE_ROUNDING * (1 + abs(self.value))
        self.lift = state.slope - gradient
        self.here = solver.local.products(state.theta)
        self.kronecker = solver.kronecker.product(state.moments)
        self.correction = self._correction(self.here)
        self.dense = state.theta.size <= DENSE_ENTRIES
        self.budget = Budget(DENSE_PRODUCTS if self.dense else PRODUCTS)

    def _blended(self, V: Float) -> Float:
        return self.state.blend * self.kronecker(V) if self.state.blend else np.zeros_like(V)

    def _correction(self, of_sample: Callable[[Float], Float]) -> "_LowRank":
        """Return C for the Hessian of the sample at some point, which it keeps positive definite."""
        first = (lambda V: of_sample(V) + self._blended(V)) if self.state.blend else of_sample
        return _correction(self.state.steps, self.state.lacks, of_sample, first)

    def added(self, V: Float) -> Float:
        """Return (ωK + C + μB)·V."""
        found = self._blended(V) + self.correction.product(V)
        if self.state.damping:
            found = found + self.state.damping * (self.here(V) + found)
        return found

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return m and the gradient of its smooth part."""
        solver, step = self.solver, theta - self.state.theta
        value, gradient = solver.local.value_and_gradient(theta)
        bent = self.added(step)
        moved = (
            value - self.value + float(np.sum(self.lift * step)) + 0.5 * float(np.sum(bent * step))
        )
        return moved + solver._l1(theta) - solver._l1(self.state.theta), gradient + self.lift + bent

    @cached_property
    def _gauge(self) -> bool:
        return bool(self.solver.free[:, :-1].all()) and bool(self.solver.weights.any())

    @cached_property
    def _pin(self) -> Float:
        """Curvature along a shift of all classes, feature by feature, (p+1,)."""
        gram = self.solver.kronecker.gram
        sizes = gram if gram.ndim == 1 else np.diag(gram)
        return (
            PIN
            * float(np.trace(self.state.moments))
            / len(self.state.moments)
            * np.maximum(sizes, 0.0)
        )

    @cached_property
    def _diagonal(self) -> Float:
        gram = self.solver.kronecker.gram
        sizes = gram if gram.ndim == 1 else np.diag(gram)
        found = (
            np.outer(np.maximum(np.diag(self.state.moments), 0.0), np.maximum(sizes, 0.0))
            + self.solver.penalty
        )
        return np.maximum(found, max(1e-10 * float(found.max()), 1e-300))

    @cached_property
    def _added_matrix(self) -> Float:
        """ωK + μB, and the pin."""
        state, solver, K = self.state, self.solver, len(self.state.moments)
        found = state.blend * solver.kronecker.matrix(state.moments)
        if state.damping:
            found += state.damping * (
                solver.local.hessian(state.theta) + found + self.correction.matrix()
            )
        if self._gauge:
            found += np.kron(np.ones((K, K)) / K, np.diag(self._pin))
        return found

    def quadratic(self, theta: Float) -> Quadratic:
        """Return m about another point, as far as it is convex there: C is made anew."""
        solver = self.solver
        if self.dense:
            hessian = solver.local.hessian(theta)
            correction = self._correction(lambda V: (hessian @ V.ravel()).reshape(V.shape))
            matrix = hessian + correction.matrix() + self._added_matrix
            held = ~solver.free.ravel()
            matrix[held, :] = matrix[:, held] = 0
            places = np.diag_indices(len(matrix))
            matrix[places] += LIFT * self._diagonal.ravel() + 1e-12 * max(
                float(matrix[places].max()), 1e-200
            )
            diagonal = matrix[places].reshape(theta.shape)
            return Quadratic(
                lambda V: (matrix @ V.ravel()).reshape(V.shape),
                diagonal,
                matrix,
                solver.weights,
                solver.free,
                self.budget,
            )
        of_sample = solver.local.products(theta)
        correction = self._correction(of_sample)

        def product(V: Float) -> Float:
            found = of_sample(V) + self._blended(V) + correction.product(V)
            if self.state.damping:
                found += self.state.damping * (
                    self.here(V) + self._blended(V) + self.correction.product(V)
                )
            if self._gauge:
                found = found + self._pin * V.mean(axis=0)
            return np.where(solver.free, found, 0.0)

        return Quadratic(product, self._diagonal, None, solver.weights, solver.free, self.budget)

    def minimum(self) -> Float:
        """Return where m is least."""
        solver, theta, gradient, value = self.solver, self.state.theta, self.state.slope, 0.0
        goal = -1.0
        for _ in range(NEWTON_STEPS):
            quadratic = self.quadratic(theta)
            distance = quadratic.distance(gradient, theta)
            if self.budget.spent:
                break
            goal = PRECISION**2 * distance if goal < 0 else goal
            if distance <= goal:
                break
            landed = minimise(quadratic, theta, gradient, max(goal, 0.01 * distance))
            step = landed - theta
            promised = float(np.sum(gradient * step)) + solver._l1(landed) - solver._l1(theta)
            if not promised < 0:
                break
            for halving in range(MOST_HALVINGS):
                landed = (
                    landed if halving == 0 else theta + 0.5**halving * step
                )  # a whole step keeps exact zeros
                following, slope = self.value_and_gradient(landed)
                if (
                    following <= value + C1 * 0.5**halving * promised
                    and following < value - self.error
                ):
                    break
                if (
                    following <= value + self.error
                    and quadratic.distance(slope, landed) < 0.5 * distance
                ):
                    break
            else:
                break
            theta, value, gradient = landed, following, slope
            if self._gauge:
                shifted = shift(theta, float(solver.penalty.max()), float(solver.weights.max()))
                following, slope = self.value_and_gradient(shifted)
                if following < value:
                    theta, value, gradient = shifted, following, slope
        return theta


@dataclass(frozen=True)
class _LowRank:
    """A symmetric matrix of low rank, −Wᵀ·M·W."""

    factor: Float
    middle: Float

    def product(self, V: Float) -> Float:
        if not len(self.middle):
            return np.zeros_like(V)
        found: Float = -((self.middle @ (self.factor @ V.ravel())) @ self.factor).reshape(V.shape)
        return found

    def matrix(self) -> Float:
        """Return it in full."""
        found: Float = -(self.factor.T @ (self.middle @ self.factor))
        return found


def _correction(
    steps: Float, lacks: Float, here: Callable[[Float], Float], first: Callable[[Float], Float]
) -> _LowRank:
    """Return C: the BFGS update of ``first`` by the pairs δ, ∇²f·δ + lack (Byrd, Nocedal and Schnabel 1994, eq. 2.17)."""
    n, size = len(steps), steps.shape[1] * steps.shape[2]
    S, factor = steps.reshape(n, size), np.empty((2 * n, size))
    for i in range(n):
        factor[i], factor[n + i] = first(steps[i]).ravel(), (here(steps[i]) + lacks[i]).ravel()
    bends, along = (
        np.array([float(s @ f) for s, f in zip(S, part, strict=True)])
        for part in (factor[:n], factor[n:])
    )
    believed = (bends > 0) & (along > LEAST_CURVATURE * bends)
    if not believed.all():
        S, factor, n = S[believed], factor[np.tile(believed, 2)], int(believed.sum())
    products = S @ factor[n:].T
    lower = np.tril(products, -1)
    middle = np.block([[S @ factor[:n].T, lower], [lower.T, -np.diag(np.diag(products))]])
    scale = 1 / np.sqrt(np.abs(np.diag(middle)))
    inverse = np.linalg.pinv(middle * np.outer(scale, scale), rcond=1e-12) if n else middle
    return _LowRank(factor, inverse * np.outer(scale, scale))


def shift(theta: Float, penalty: float, l1: float) -> Float:
    """Return θ with each feature's coefficients shifted to where λ/2·‖W‖² + λ₁‖W‖₁ is least: no probability changes.

    The shift is the median of the coefficients and of their mean + λ₁/(λK)·(K − 2i), i = 0 … K (Li and Osher 2009,
    "A new median formula with applications to PDE based denoising").
    """
    W = theta[:, :-1]
    K = len(W)
    spread = np.array(
        [
            0.0 if K == 2 * i else (K - 2 * i) * (l1 / (penalty * K) if penalty else np.inf)
            for i in range(K + 1)
        ]
    )
    best = np.median(np.vstack([W, W.mean(axis=0) + spread[:, None]]), axis=0)
    best[np.abs(best) <= 1e-9 * np.abs(W).max(axis=0)] = 0.0  # rounding must not move what is zero
    return np.column_stack([W - best, theta[:, -1]])
