r"""Proximal Newton for an L1 penalty.

Lee, Sun and Saunders 2014, "Proximal Newton-type methods for minimizing composite functions". F
is a smooth part plus λ₁‖W‖₁. A surrogate of F, L1 part included, is minimised in memory between
two passes, with f the smooth part on the sample and δ = θ − θₜ:

.. math::

    m(θ) = f(θ) + ⟨∇F(θ_t) − ∇f(θ_t),\, δ⟩ + ½ δᵀ(ωK + C)δ + ½ μ\, δᵀBδ + λ_1‖W‖_1

K is A ⊗ G + λI (`dsoftmax.solvers.algebra.kronecker`). It curves in directions that the sample does
not see. B is ∇²f(θₜ) + ωK + C. C is the BFGS correction that makes B fit the gradients of the last
passes (`dsoftmax.solvers.algebra.low_rank.bfgs_update`).

m is minimised by proximal Newton steps. Each step minimises a quadratic with an L1 penalty
(`dsoftmax.solvers.proximal_newton.sparse_quadratic`), whose zeros are exact.

A pass finds F at the minimum of m. If F does not fall there, the damping μ grows, and C has
learnt one more pair. The point is a minimum of m and not a point on a line to it, so that no zero
is lost.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import damping
from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.algebra.l1 import l1_norm, subgradient
from dsoftmax.solvers.algebra.line_search import C1, DELTA
from dsoftmax.solvers.algebra.minimise import VALUE_ROUNDING
from dsoftmax.solvers.protocol import Allocation, Answer, Local, Problem, Query, Sizes
from dsoftmax.solvers.proximal_newton.model import DENSE_ENTRIES, Model, Smooth
from dsoftmax.solvers.proximal_newton.state import ProximalState

Float = NDArray[np.float64]

PAIRS = 10
"""Limit on the pairs of C."""
MOST_BLEND = 0.01
"""Largest ω: K is a rough estimate, and more of it slows the steps."""
FULL_BLEND_MISS = 0.1
"""Fraction of a change of the gradient that the sample misses, from which on ω is `MOST_BLEND`."""
WHOLE_MISS = 1e-9
"""Fraction of a change of the gradient below which a miss is rounding.

The sample then has all rows.
"""
LEAST_DAMPING = 1e-2
"""Least μ that is not zero: a smaller one changes no step."""


@dataclass(frozen=True)
class ProximalNewton:
    """Proximal Newton on a sampled surrogate.

    Attributes
    ----------
    local : Local
        The smooth part of F on the sample.
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
        kronecker = Kronecker.of(problem)
        return cls(
            problem.local, kronecker, problem.moments, problem.penalty, weights, problem.free
        )

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> ProximalState:
        none, zero = np.zeros((0, *theta.shape)), np.zeros(theta.shape)
        state = ProximalState(
            theta, np.nan, zero, 0.0, n_iter, "", zero, self.moments, theta, 0.0, 0.0,
            MOST_BLEND, none, none,
        )  # fmt: skip
        return state if answer is None else self._accept(state, answer, n_iter)

    def ask(self, state: ProximalState) -> tuple[ProximalState, Query]:
        return state, Query(state.trial, moments=True)

    def tell(self, state: ProximalState, answer: Answer) -> ProximalState:
        if np.isnan(state.value):
            return self._accept(state, answer, state.n_iter)
        state = self._learn(state, answer)
        if self._improves(state, answer):
            less = state.damping / damping.FACTOR if state.damping > LEAST_DAMPING else 0.0
            return self._accept(replace(state, damping=less), answer, state.n_iter + 1)
        if state.damping >= damping.MOST:
            return replace(state, stuck="no step of the surrogate decreases F beyond rounding")
        return self._aim(replace(state, damping=max(damping.FACTOR * state.damping, LEAST_DAMPING)))

    def _improves(self, state: ProximalState, answer: Answer) -> bool:
        """Return whether F falls at the trial (Lee, Sun and Saunders 2014, eq. 2.23).

        If rounding hides the fall, the slope decides, as in
        `dsoftmax.solvers.algebra.line_search`: F must still fall just before the trial, by its
        slope from the left.
        """
        value = answer.value + l1_norm(state.trial, self.weights)
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
        """Add a pair for the curvature that the sample lacks; a refused trial gives one too."""
        if not (np.isfinite(answer.value) and np.isfinite(answer.gradient).all()):
            return state
        here, there = (
            self.local.value_and_gradient(theta)[1] for theta in (state.theta, state.trial)
        )
        change = answer.gradient - state.slope
        lack = change - (there - here)
        missed = float(np.linalg.norm(lack)) / max(float(np.linalg.norm(change)), 1e-300)
        if not missed > WHOLE_MISS:
            return replace(state, steps=state.steps[:0], lacks=state.lacks[:0], blend=0.0)
        oldest = max(len(state.steps) + 1 - PAIRS, 0)
        return replace(
            state,
            steps=np.stack([*state.steps, state.trial - state.theta])[oldest:],
            lacks=np.stack([*state.lacks, lack])[oldest:],
            blend=MOST_BLEND * min(1.0, missed / FULL_BLEND_MISS),
        )

    def _accept(self, state: ProximalState, answer: Answer, n_iter: int) -> ProximalState:
        value = answer.value + l1_norm(state.trial, self.weights)
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
        """Minimise the surrogate, which gives the next trial."""
        parts = Smooth(self.local, self.kronecker, self.penalty, self.weights, self.free)
        while True:
            trial = Model(parts, state).minimum()
            promised = float(np.sum(state.slope * (trial - state.theta)))
            promised = promised + l1_norm(trial, self.weights) - l1_norm(state.theta, self.weights)
            if promised < 0 or not np.any(state.gradient):
                return replace(state, trial=trial, promised=promised)
            if len(state.steps):  # the pairs may be rounding
                state = replace(state, steps=state.steps[:0], lacks=state.lacks[:0])
            elif state.damping < damping.MOST:
                larger = max(damping.FACTOR**2 * state.damping, LEAST_DAMPING)
                state = replace(state, damping=larger)
            else:
                return replace(state, stuck="no step of the surrogate decreases F beyond rounding")


def footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver.

    A model has its pairs and no Hessian. A step needs eight Hessians if B is a matrix, and four
    times the pairs for the corrections.
    """
    matrix = sizes.matrix if sizes.vector <= 8 * DENSE_ENTRIES else 0
    pairs = 2 * PAIRS * sizes.vector
    return Allocation(
        pairs + 10 * sizes.vector + sizes.gram_matrix + 3 * sizes.moments + sizes.sample_bytes,
        4 * pairs + 40 * sizes.vector + 8 * matrix + sizes.scratch_bytes,
    )
