"""Newton's method on a sampled surrogate, without any matrix of the size of θ.

The surrogate (`dsoftmax.solvers.matrix_free.model`) has the gradient of the data and the losses of
a sample. Every quadratic model of F is wrong where rows are outliers or classes are tiny. It asks
for steps of ten thousand logits, and over such a distance the losses are straight lines. The losses
of the sample themselves say where they bend.

A pass finds F at the minima of two surrogates, one with ten times the damping of the other, and at
first also at the minimum of the sample's own F. The damping follows which one wins. Each trial adds
a pair to the correction of the curvature.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker, diagonal_of
from dsoftmax.solvers.algebra.l1 import l1_norm, subgradient
from dsoftmax.solvers.algebra.line_search import improves, lowest
from dsoftmax.solvers.algebra.minimise import VALUE_ROUNDING
from dsoftmax.solvers.algebra.moved import moved
from dsoftmax.solvers.matrix_free.correction import positive_correction
from dsoftmax.solvers.matrix_free.minimise import Minimum, minimise, most_pairs
from dsoftmax.solvers.matrix_free.model import Model
from dsoftmax.solvers.matrix_free.orthant import Composite, minimise_with_l1
from dsoftmax.solvers.matrix_free.part import DensePart, SparsePart
from dsoftmax.solvers.matrix_free.preconditioner import Preconditioner, block_bytes
from dsoftmax.solvers.matrix_free.state import MatrixFreeState
from dsoftmax.solvers.protocol import (
    SAMPLE_SLICES,
    Allocation,
    Answer,
    Local,
    Problem,
    Query,
    Sizes,
)

Float = NDArray[np.float64]

TRIALS = 3
"""Most points of a pass."""
FIRST_DAMPING, LEAST_DAMPING = 1e-3, 1e-12
"""μ at first, and at least."""
CAUTION = 10.0
"""Factor of μ of the second surrogate."""
FIRST_BUDGET, OWN_BUDGET, LEAST_BUDGET, MOST_BUDGET = 10, 30, 5, 100
"""Gradients of the sample: at first, for its own minimum, at least and at most."""
L1_BUDGETS = 6
"""Factor of all budgets with an L1 part, whose minimisations must find the zeros too."""
GOOD, BAD = 0.6, 0.3
"""Ratios of the gain to the promised gain above which budgets grow and below which they shrink."""
PAIRS = 6
"""Limit on the pairs of the correction. Older pairs belong to another curvature."""
SMALL_GAIN = 1e-3
"""Gain of a pass, as a fraction of F, below which the sample's products are in float64."""
REFUSALS = 8
"""Refused passes in a row after which the solver is stuck."""
ROUNDING = {True: 2e-7, False: VALUE_ROUNDING}
"""Rounding of the sample's F, relative, in float32 and in float64."""
RUNAWAY = 10.0
"""Fall of a surrogate, in units of F, that shows that it has no minimum."""


@dataclass(frozen=True)
class MatrixFree:
    """The surrogate without matrices.

    Attributes
    ----------
    local : Local
        F on the sample.
    kronecker : Kronecker
        A ⊗ G + λI, which preconditions the minimisations.
    free : (K, p+1) bool
        Entries that move.
    penalty : (K, p+1) float64
        λ of every entry.
    moments : (K, K) or (K,) float64
        A at the start.
    weights : (K, p+1) float64
        λ₁ of every entry.
    """

    local: Local
    kronecker: Kronecker
    free: NDArray[np.bool_]
    penalty: Float
    moments: Float
    weights: Float

    @classmethod
    def of(cls, problem: Problem) -> "MatrixFree":
        """Return the solver of a problem that has a sample."""
        assert problem.local is not None
        weights = np.where(problem.free, problem.l1, 0.0)
        weights[:, -1] = 0
        return cls(
            problem.local,
            Kronecker.of(problem),
            problem.free,
            problem.penalty,
            problem.moments,
            weights,
        )

    @cached_property
    def composite(self) -> bool:
        """Whether F has an L1 part."""
        return bool(self.weights.any())

    @property
    def factor(self) -> int:
        """Factor of all budgets."""
        return L1_BUDGETS if self.composite else 1

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> MatrixFreeState:
        state = MatrixFreeState.begin(theta, n_iter, FIRST_DAMPING, FIRST_BUDGET * self.factor)
        return state if answer is None else self._at(state, theta, answer, n_iter)

    def ask(self, state: MatrixFreeState) -> tuple[MatrixFreeState, Query]:
        if np.isnan(state.value):
            return state, Query(state.theta)
        state = self._aim(state)
        return state, Query(state.trials[0], trials=state.trials[1:], moments=self.composite)

    def tell(self, state: MatrixFreeState, answer: Answer) -> MatrixFreeState:
        if np.isnan(state.value):
            return self._at(state, state.theta, answer, state.n_iter)
        answers = (answer, *answer.trials)
        found = [
            self._with_l1(theta, one) for theta, one in zip(state.trials, answers, strict=False)
        ]
        best = lowest(state, found)
        theta, reached = state.trials[best], found[best]
        state = self._learn(state, answers)
        if not improves(state, reached, theta - state.theta):
            return self._refuse(state)
        gain = state.value - reached.value
        state = _adapted(state, best, gain / max(state.promised[best], 1e-300), self.factor)
        single = state.single and gain >= SMALL_GAIN * abs(state.value)
        at_best = replace(answers[best], moments=answer.moments)
        state = self._at(state, theta, at_best, state.n_iter + 1)
        return replace(state, refused=0, single=single).at_rest()

    def _with_l1(self, theta: Float, answer: Answer) -> Answer:
        """Return an answer with the L1 part of F, and with the subgradient of least norm."""
        if not self.composite:
            return answer
        value = answer.value + l1_norm(theta, self.weights)
        return replace(
            answer, value=value, gradient=subgradient(answer.gradient, theta, self.weights)
        )

    def _at(
        self, state: MatrixFreeState, theta: Float, answer: Answer, n_iter: int
    ) -> MatrixFreeState:
        """Return the state at a point whose answer is known, with an estimate of F − F*."""
        found = self._with_l1(theta, answer)
        state = moved(state, theta, found, n_iter, slope=answer.gradient)
        if not self.composite or state.stuck:
            return state
        A = self.moments if answer.moments is None else answer.moments
        sparse = self.kronecker.gram.ndim == 1
        part = SparsePart(self.kronecker, A) if sparse else DensePart(self.kronecker, A)
        step = part.solve(found.gradient, (theta != 0) | (found.gradient != 0))
        return replace(state, decrement=0.5 * float(np.sum(step * found.gradient)))

    def _refuse(self, state: MatrixFreeState) -> MatrixFreeState:
        """Return the state at the same θ, with float64 or more damping."""
        if state.single:  # float32 may have hidden the way
            return replace(state, single=False, refused=state.refused + 1).at_rest()
        if state.refused >= REFUSALS:
            return replace(state, stuck="no step of the surrogate decreases F beyond rounding")
        return replace(
            state,
            damping=30 * state.damping,
            budget=max(state.budget // 2, LEAST_BUDGET * self.factor),
            refused=state.refused + 1,
        ).at_rest()

    def _learn(self, state: MatrixFreeState, found: tuple[Answer, ...]) -> MatrixFreeState:
        """Add a pair for each point of the pass that is not far from θ."""
        here = self.local.on_threads(state.theta, state.single)[1]
        steps, lacks = list(state.steps), list(state.lacks)
        falling = [-one.value if np.isfinite(one.value) else -np.inf for one in found]
        for i in np.argsort(falling):  # the best comes last
            step = state.trials[i] - state.theta
            if not found[i].value <= state.value + abs(state.value) or not np.any(step):
                continue
            change = self.local.on_threads(state.trials[i], state.single)[1] - here
            steps.append(step)
            lacks.append(found[i].gradient - state.slope - change)
        if not steps:
            return state
        return replace(state, steps=np.stack(steps[-PAIRS:]), lacks=np.stack(lacks[-PAIRS:]))

    def _aim(self, state: MatrixFreeState) -> MatrixFreeState:
        """Minimise the surrogates, which gives the trials of the next query."""
        theta = state.theta
        evaluate = partial(self.local.on_threads, single=state.single)
        value, slope = evaluate(theta)
        curved = np.maximum(diagonal_of(self.local.moments(theta)), 0)
        metric = np.outer(curved, self.kronecker.diagonal) + self.penalty
        metric = np.where(self.free, np.maximum(metric, 1e-12 * metric.max()), 1.0)
        correction = positive_correction(state.steps, state.lacks, metric)
        found: list[tuple[float, Minimum]] = []
        start = theta
        if state.n_iter == 0 and state.refused == 0 and np.any(state.gradient):
            own = Model(evaluate, theta, value)
            found.append(
                (np.nan, self._minimum(state, own, theta, OWN_BUDGET * self.factor, 0 * curved))
            )
            start = found[-1][1].theta
        for factor in (CAUTION, 1.0):
            mu = factor * state.damping
            model = Model(evaluate, theta, value, state.slope - slope, correction, mu * metric)
            one = self._minimum(state, model, start, state.budget, mu * curved)
            found.append((factor, one))
            start = one.theta
        return replace(
            state,
            trials=np.stack([one.theta for _, one in found]),
            dampings=np.array([factor for factor, _ in found]),
            promised=np.array(
                [max(l1_norm(theta, self.weights) - one.value, 0.0) for _, one in found]
            ),
            cut_short=np.array([one.cut_short for _, one in found]),
        )

    def _minimum(
        self, state: MatrixFreeState, model: Model, start: Float, budget: int, damped: Float
    ) -> Minimum:
        """Return about the minimum of a surrogate."""
        preconditioner = Preconditioner(
            self.local, self.kronecker, damped, self.penalty + model.damping
        )
        error = ROUNDING[state.single] * (abs(model.value) + 1e-3)
        most, evaluate = RUNAWAY * abs(state.value), model.value_and_gradient
        if self.composite:
            function = Composite(evaluate, self.weights, self.free, error, most)
            return minimise_with_l1(
                function, start, preconditioner.part_at, budget, self.local.reach
            )
        return minimise(evaluate, start, preconditioner.at, budget, error, most, self.local.reach)


def _adapted(state: MatrixFreeState, best: int, ratio: float, scale: int) -> MatrixFreeState:
    """Return the state with μ and the budget after a step that gained ``ratio`` of its promise.

    ``scale`` is the factor of the budgets.
    """
    factor, damping, budget = state.dampings[best], state.damping, state.budget
    if factor == 1:
        damping /= 10 if ratio > 0.5 else 3
    elif factor == CAUTION:
        damping *= 10 if ratio < 0.7 else 3
    if np.isfinite(factor):
        if state.cut_short[best] and ratio > GOOD:
            budget = min(2 * budget, MOST_BUDGET * scale)
        elif ratio < BAD:
            budget = max(budget // 2, LEAST_BUDGET * scale)
    return replace(state, damping=max(damping, LEAST_DAMPING), budget=budget)


def footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver.

    They are those of the state, of its query and answer, and of G with its eigenvectors. A step
    needs the pairs of L-BFGS and of the correction, the gradients of all slices of the sample, the
    kernel's scratch in each thread, and class blocks with their factors.
    """
    kept = (2 * PAIRS + 2 * TRIALS + 4) * sizes.vector + 2 * sizes.gram_matrix
    vectors = 2 * most_pairs(sizes.vector // 8) + PAIRS + 12
    scratch = vectors * sizes.vector + 4 * sizes.moments + sizes.gram_matrix
    rows = sizes.sample_rows // SAMPLE_SLICES + 1
    row_bytes = 8 * (sizes.n_features + 4 * sizes.n_classes + 8)
    threads = SAMPLE_SLICES * (min(sizes.scratch_bytes, rows * row_bytes) + sizes.vector)
    return Allocation(kept, scratch + threads + block_bytes(sizes))
