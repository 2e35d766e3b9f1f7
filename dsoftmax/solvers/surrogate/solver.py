r"""Newton's method on a surrogate: a sample in memory, corrected to agree with the data.

A pass at θₜ has found F, ∇F and perhaps ∇²F. The surrogate is m, with f the same objective on the
sample and δ = θ − θₜ:

.. math::

    m(θ) = α f(θ) + ⟨∇F(θ_t) − α∇f(θ_t),\, δ⟩ + ½ δᵀ\bigl(C + (1 − α)∇²f(θ_t) + μB\bigr)δ,
    B = ∇²f(θ_t) + C

m is that of Shamir, Srebro and Zhang (2014, "Communication-efficient distributed optimization using
an approximate Newton-type method", eq. 13; see also Jordan, Lee and Yang 2019). It has the gradient
of the data at θₜ, and the curvature of the sample everywhere. That curvature follows the losses. A
quadratic would not.

C is the part of the Hessian that the sample lacks. It has two parts. The exact part is ∇²F − ∇²f
at the last point whose Hessian was asked for. The other part is the symmetric rank-one matrix
that fits the gradients of the passes since (Nocedal and Wright 2006, section 6.2;
`dsoftmax.solvers.algebra.low_rank.rank_one_fit`). With C the error of a step is that of the
sample's *third* derivative.

C has negative eigenvalues if the sample curves more than the data. The surrogate with α = 1 then
falls without end, because f flattens. The largest α with C + (1 − α)∇²f(θₜ) ⪰ 0 makes it convex,
at the price of 1 − α of the third derivative.

A pass finds F at three points. The first is the minimum of the convex m. The second is that of a
bolder m, with α = 1 or without the rank-one matrix. The third is that of the convex m damped by μ,
which is Levenberg and Marquardt's damping in the metric of B. A step that is too bold therefore
costs no pass of its own. After a refusal the points are those of three μ. The best one is the next
θ.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import damping, definite
from dsoftmax.solvers.algebra.line_search import improves, lowest
from dsoftmax.solvers.algebra.low_rank import rank_one_fit
from dsoftmax.solvers.algebra.minimise import minimise
from dsoftmax.solvers.algebra.moved import moved
from dsoftmax.solvers.protocol import Allocation, Answer, Local, Problem, Query, Sizes
from dsoftmax.solvers.surrogate.curvature import Gauge
from dsoftmax.solvers.surrogate.model import Model, times
from dsoftmax.solvers.surrogate.state import SurrogateState

Float = NDArray[np.float64]

TRIALS = 3
"""Number of points of a pass: each costs little, because the rows are shared."""
LEAST_DAMPING = 1e-3
"""Least μ that is not zero: a smaller one changes no step."""
CAUTIOUS_DAMPING = 0.3
"""μ of the third trial. The first two are not damped."""
TRUST = (0.75, 1.3)
"""Ratios of the gain to the promised gain between which C is good enough to save a Hessian."""
CHEAP_ENTRIES = 400
"""Entries of θ up to which every pass is asked for the Hessian.

The Hessian then costs no more than the passes that it saves.
"""
PAIRS = 10
"""Limit on the pairs of the rank-one matrix."""
THREAD_BYTES = 8 * 2**20
"""Bytes that a minimising thread comes to occupy: its stack, and the allocator's reserve for it."""


@dataclass(frozen=True)
class Surrogate:
    """Newton on a sampled surrogate.

    Attributes
    ----------
    local : Local
        F on the sample.
    free : (K, p+1) bool
        Entries that move.
    penalty : (K, p+1) float64
        λ of every entry.
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
        return cls(problem.local, problem.free, problem.penalty, problem.exact_hessians)

    @property
    def gauge(self) -> Gauge:
        """The directions in which F does not curve."""
        return Gauge(self.free, self.penalty)

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> SurrogateState:
        state = SurrogateState.begin(theta, n_iter)
        return state if answer is None else moved(state, theta, answer, n_iter)

    def ask(self, state: SurrogateState) -> tuple[SurrogateState, Query]:
        if np.isnan(state.value):
            return state, Query(state.theta)
        H = self.local.hessian(state.theta)
        state = self._aim(state, H)
        first, *others = state.trials
        cheap = first.size <= CHEAP_ENTRIES
        hessian = self.hessians and not self.local.whole and (not state.trusted or cheap)
        single = hessian and not self.gauge.needs_double(H)
        trials = np.stack(others) if others else None
        return state, Query(first, hessian=hessian, single=single, trials=trials)

    def tell(self, state: SurrogateState, answer: Answer) -> SurrogateState:
        if np.isnan(state.value):
            return moved(state, state.theta, answer, state.n_iter)
        found = (answer, *answer.trials)
        best = lowest(state, found)
        state = self._learn(state, found)
        if answer.hessian is not None and np.isfinite(answer.hessian).all():
            exact = answer.hessian - self.local.hessian(state.trials[0])
            state = replace(state, correction=exact, steps=state.steps[:0], lacks=state.lacks[:0])
        if not improves(state, found[best], state.trials[best] - state.theta):
            return self._refuse(state)
        gain = state.value - found[best].value
        kept = TRUST[0] <= gain / max(state.promised[best], 1e-300) <= TRUST[1]
        least = state.dampings[best] / damping.FACTOR ** (3 if self._looks_back(state) else 1)
        state = replace(
            state,
            damping=least if least >= LEAST_DAMPING else 0.0,
            trusted=bool(kept) or found[best].value >= state.value - found[best].value_error,
            exact=answer.hessian is not None and best == 0,
            refused=0,
        )
        return moved(state, state.trials[best], found[best], state.n_iter + 1).at_rest()

    def _refuse(self, state: SurrogateState) -> SurrogateState:
        """Return the state at the same θ, with more damping."""
        if state.damping >= damping.MOST:
            return replace(state, stuck="no step of the surrogate decreases F beyond rounding")
        larger = max(damping.FACTOR * float(state.dampings.max()), LEAST_DAMPING)
        back = self._looks_back(state)  # C is now exact at θ, and damping begins anew
        return replace(
            state,
            exact=state.exact or back,
            trusted=back,
            refused=state.refused + 1,
            damping=0.0 if back else larger,
        ).at_rest()

    def _looks_back(self, state: SurrogateState) -> bool:
        """Return whether the next pass finds the Hessian at θ.

        It does after a refusal, if the Hessian is unknown there.
        """
        unknown = state.refused > 0 and not state.exact
        return self.hessians and unknown and state.theta.size > CHEAP_ENTRIES

    def _learn(self, state: SurrogateState, found: tuple[Answer, ...]) -> SurrogateState:
        """Add a pair for each point of the pass, whose lack the rank-one matrix then fits."""
        here = self.local.value_and_gradient(state.theta)[1]
        steps, lacks = list(state.steps), list(state.lacks)
        falling = [-one.value if np.isfinite(one.value) else -np.inf for one in found]
        for i in np.argsort(falling):  # the best comes last
            if not found[i].value <= state.value + abs(state.value):
                continue  # a point this far away says nothing of the curvature at θ
            step = state.trials[i] - state.theta
            change = found[i].gradient - state.gradient
            change = change - (self.local.value_and_gradient(state.trials[i])[1] - here)
            lack = change - times(state.correction, step)
            if np.sum(step * step) > 0:
                steps.append(step)
                lacks.append(lack)
        if not steps:
            return state
        oldest = max(len(steps) - PAIRS, 0)
        return replace(state, steps=np.stack(steps)[oldest:], lacks=np.stack(lacks)[oldest:])

    def _aim(self, state: SurrogateState, H: Float) -> SurrogateState:
        """Minimise several surrogates, which gives the trials of the next query.

        H is the Hessian of the sample at θ.
        """
        theta = state.theta
        exact = state.correction if state.correction.size else np.zeros_like(H)
        fitted, share = self.gauge.bounded(
            exact + rank_one_fit(state.steps, state.lacks, theta.size), H
        )
        pinned = self.gauge.pinned(H + fitted)
        solve = definite.shaped_solver(pinned, theta.shape)
        solve = solve or definite.diagonal_solver(pinned, theta.shape)
        dampings, models = self._models(state, H, exact, fitted, share)
        found = _minima(models, solve)
        if self._looks_back(state):
            found, dampings = [(theta, 0.0), *found], [0.0, *dampings]
        return replace(
            state,
            trials=np.stack([point for point, _ in found]),
            promised=np.array([fall for _, fall in found]),
            dampings=np.array(dampings),
        )

    def _models(
        self, state: SurrogateState, H: Float, exact: Float, fitted: Float, share: float
    ) -> tuple[list[float], list[Model]]:
        """Return the surrogates whose minima the next pass visits, with their μ."""
        theta, B = state.theta, H + fitted
        value, slope = self.local.value_and_gradient(theta)

        def model(C: Float, share: float, most: float = np.inf) -> Model:
            lift, added = state.gradient - share * slope, C + (1 - share) * H
            return Model(self.local, self.gauge, theta, value, share, lift, added, most)

        if state.n_iter == 0 and state.refused == 0 and np.any(state.gradient):
            # The sample's own minimum: far from the optimum its gradient is the better guide.
            none = np.zeros_like(theta), np.zeros((0, 0))
            own = Model(self.local, self.gauge, theta, value, 1.0, *none)
            if self.local.whole:
                return [0.0], [own]
            return [0.0, 0.0], [own, model(fitted, 1.0, state.value)]
        if state.damping > 0:
            dampings = [state.damping * damping.FACTOR**k for k in range(TRIALS)]
            return dampings, [model(fitted + mu * B, share) for mu in dampings]
        bold = (
            model(*self.gauge.bounded(exact, H))
            if len(state.steps)
            else model(fitted, 1.0, state.value)
        )
        cautious = model(fitted + CAUTIOUS_DAMPING * B, share)
        return [0.0, 0.0, CAUTIOUS_DAMPING], [model(fitted, share), bold, cautious]


def _minima(models: list[Model], solve: Callable[[Float], Float]) -> list[tuple[Float, float]]:
    """Return the minimum of each model and the fall to it; each on a thread of its own."""

    def minimum(model: Model) -> tuple[Float, float]:
        return minimise(model.function, model.theta, solve, model.factorise)

    if len(models) == 1:
        return [minimum(models[0])]
    with ThreadPoolExecutor(len(models)) as pool:
        return list(pool.map(minimum, models))


def footprint(sizes: Sizes) -> Allocation:
    """Return the bytes of the solver.

    A model has two Hessians: C and that of the answer. A step needs seven more, and four in each
    thread that factorises.
    """
    threads = TRIALS * (THREAD_BYTES + sizes.scratch_bytes + 15 * sizes.vector)
    return Allocation(
        (2 * PAIRS + 15) * sizes.vector + 2 * sizes.matrix + sizes.sample_bytes,
        (2 * PAIRS + 20) * sizes.vector + (7 + 4 * TRIALS) * sizes.matrix + threads,
    )
