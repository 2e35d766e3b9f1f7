"""The objective F over a source: what a pass asks of the data, and the answer that its sums give.

The formula of F stands in `dsoftmax.objective.penalty`. Sample weights w and class weights c
enter as sᵢ = wᵢ c of the label; S = Σ sᵢ.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.first_pass.held_out import HeldOut
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.first_pass.sample import with_class_weights
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.kernels import softmax
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.objective.cost import Cost
from dsoftmax.objective.on_sample import LocalObjective
from dsoftmax.objective.penalty import Penalty
from dsoftmax.objective.visit import Evaluate, Question, parts_at
from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.protocol import WHOLE_MOMENTS, Answer, Problem, Query

Float = NDArray[np.float64]

ROUNDING = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-15}
"""Relative rounding of F, by the dtype of the products."""


@dataclass(frozen=True)
class Objective:
    """F on a source, through an engine.

    Attributes
    ----------
    engine : Engine
    source : Source
    statistics : Statistics
    C : float
        Inverse strength of the penalty; ``inf`` for none.
    class_weights : (K,) float64 or None
    fit_intercept : bool
    dtype : numpy dtype
        Dtype of the products.
    kernel : str
        Name in `dsoftmax.kernels.choose.KERNELS`.
    held : HeldOut, optional
        Rows that do not count; ``statistics`` then describe the others.
    l1_ratio : float
        ρ.
    """

    engine: Engine
    source: Source
    statistics: Statistics
    C: float
    class_weights: Float | None
    fit_intercept: bool
    dtype: np.dtype
    kernel: str = "numpy"
    held: HeldOut | None = None
    l1_ratio: float = 0.0

    @property
    def total_weight(self) -> float:
        """Return S = Σ wᵢ c of the label."""
        sums = self.statistics.class_weights
        return float(np.sum(sums if self.class_weights is None else sums * self.class_weights))

    @property
    def penalty(self) -> Penalty:
        """Return the penalty of F, and its fixed entries."""
        K = len(self.statistics.classes)
        return Penalty.of(self.C, self.l1_ratio, self.total_weight, K, self.fit_intercept)

    @property
    def curvature_bound(self) -> float:
        """Return L ≥ λmax(∇²F), from ∇²J ⪯ ½(I − 11ᵀ/K) ⊗ XᵀSX (Böhning 1992, theorem 2)."""
        heaviest = 1.0 if self.class_weights is None else float(self.class_weights.max())
        top = heaviest * self.statistics.largest_eigenvalue(self.fit_intercept)
        return 0.5 * top / self.total_weight + self.penalty.l2

    @property
    def _n(self) -> int:
        return int(self.statistics.class_rows.sum())

    def in_gauge(self, theta: Float) -> Float:
        """Return θ in the form that F requires, with the same probabilities."""
        return self.penalty.in_gauge(theta)

    def problem(self) -> Problem:
        """Return what a solver knows before its first question."""
        statistics, penalty = self.statistics, self.penalty
        shape = statistics.class_sums.shape
        mass = statistics.class_weights * (
            1.0 if self.class_weights is None else self.class_weights
        )
        shares = mass / mass.sum()
        total = statistics.class_weights.sum()
        gram = (
            statistics.gram / total
            if statistics.gram.size
            else np.append(statistics.squares / total, 1.0)
        )
        sample = with_class_weights(statistics.sample, self.class_weights)
        kernel = KERNELS[self.kernel]
        local = LocalObjective(sample, penalty, kernel, gram) if sample.n_rows else None
        whole = len(shares) <= WHOLE_MOMENTS
        moments = np.diag(shares) - np.outer(shares, shares) if whole else shares * (1 - shares)
        return Problem(
            lambda: self.curvature_bound,
            penalty.strengths(shape),
            penalty.free(shape),
            gram,
            moments,
            self._n,
            local,
            penalty.l1,
        )

    @cached_property
    def _kronecker(self) -> Kronecker:
        return Kronecker.of(self.problem())

    def gap(self, gradient: Float, moments: Float | None = None) -> float:
        """Return an estimate of F − F*: half the Newton decrement, ½·∇FᵀB⁻¹∇F.

        B = A ⊗ G + λI stands for the Hessian.

        Parameters
        ----------
        gradient : (K, p+1) float64
        moments : (K, K) or (K,) float64, optional
            A, or its diagonal; the moments at the start when None.
        """
        known = self.problem().moments if moments is None else moments
        if not (np.isfinite(gradient).all() and np.isfinite(known).all()):
            return np.nan
        return 0.5 * float(np.sum(gradient * self._kronecker.inverse(known)(gradient)))

    def gap_bound(self, gradient: Float) -> float:
        """Return ‖∇F‖²/(2λ) ≥ F − F*.

        It is nan if some parameter is not penalised, because the bound then fails.
        """
        penalty = self.penalty
        if self.fit_intercept or not penalty.l2 > 0 or penalty.l1 > 0:
            return np.nan
        return float(np.sum(gradient**2)) / (2 * penalty.l2)

    def separated(self, value: float) -> bool:
        """Return whether F proves that every row is classified rightly.

        Any other row has a loss of at least log 2.
        """
        least = self.statistics.least_weight
        if self.class_weights is not None:
            least *= float(self.class_weights[self.class_weights > 0].min(initial=np.inf))
        return bool(value * self.total_weight < np.log(2) * least)

    def start(self) -> tuple[Float, Answer]:
        """Return W = 0 with b = log priors, and the answer there.

        It follows from the statistics: P is constant.
        """
        sums = self.statistics.class_sums
        if self.class_weights is not None:
            sums = sums * self.class_weights[:, None]
        K, d = sums.shape
        theta = np.zeros((K, d))
        mass = sums[:, -1]
        if self.fit_intercept:
            # A given class may have no rows.
            smooth = mass if mass.min() > 0 else mass + 1e-3 * mass.sum() / K
            theta[:, -1] = np.log(smooth)
            theta[:, -1] -= theta[:, -1].mean()
        theta = self.in_gauge(theta)
        P = softmax.softmax(theta[None, :, -1])[0]
        value = -float(mass @ softmax.log_softmax(theta[None, :, -1])[0])
        gradient = np.outer(P, sums.sum(axis=0)) - sums
        return theta, self._answer(Query(theta), {"value": value, "gradient": gradient})

    def answer(self, query: Query) -> tuple[Answer, Cost]:
        """Answer a query with exactly one pass over the data."""
        (answer,), cost = answers([self], [query])
        return answer, cost

    def question(self, query: Query) -> Question:
        """Return the question that a pass answers for a query."""
        return Question(query, self.class_weights, self.dtype, self.held)

    def finish(self, question: Question, sums: Mapping[Any, Any], i: int = 0) -> Answer:
        """Return the answer to question number ``i`` of a pass, from the sums of the pass."""
        query = question.query
        found, *trials = (
            self._answer(query if not j else Query(theta), parts_at(sums, i, j))
            for j, theta in enumerate(question.points())
        )
        return replace(found, trials=tuple(trials))

    def _answer(self, query: Query, parts: Mapping[str, Any]) -> Answer:
        """Return the answer at one point, from its sums by quantity."""
        penalty, theta = self.penalty, query.theta
        value = penalty.value(float(parts["value"]), theta)
        n = max(self._n, 1)
        error = ROUNDING[self.dtype] * (abs(value) + self._reach(theta) / np.sqrt(n))
        product = hessian = moments = None
        if query.direction is not None and "product" in parts:
            product = penalty.derivative(parts["product"], query.direction)
        if "hessian" in parts:
            hessian = penalty.hessian(parts["hessian"], *theta.shape)
        if "moments" in parts:
            moments = parts["moments"] / penalty.total_weight
        return Answer(
            value,
            penalty.derivative(parts["gradient"], theta),
            float(error),
            product,
            hessian,
            moments,
            held=parts.get("held"),
        )

    @property
    def _sizes(self) -> Float:
        """Return the root mean square of each feature, (p,)."""
        return np.sqrt(self.statistics.squares / self.statistics.class_weights.sum())

    def _reach(self, theta: Float) -> float:
        """Return about the largest logit of a row."""
        return float(np.max(np.abs(theta[:, :-1]) @ self._sizes, initial=0))

    def gradient_error(self, theta: Float) -> float:
        """Return the least max|∇F| that differs from zero beyond rounding.

        Rounding δz ≈ ε(1 + |z|) moves an entry of ∇F by at most ¼·rms(x)·δz. Half of that is
        common.
        """
        size = max(1.0, float(self._sizes.max(initial=0)))
        return float(np.finfo(self.dtype).eps) / 16 * size * (1 + self._reach(theta))

    def in_double(self) -> "Objective":
        """Return the same objective with products in float64."""
        return replace(self, dtype=np.dtype(np.float64))


def answers(objectives: Sequence[Objective], queries: Sequence[Query]) -> tuple[list[Answer], Cost]:
    """Answer the queries of several objectives over the same source with exactly one pass."""
    started = time.perf_counter()
    first = objectives[0]
    questions = tuple(one.question(query) for one, query in zip(objectives, queries, strict=True))
    visit = Evaluate(questions, Encoder(first.statistics.classes), first.kernel)
    totals = first.engine.total(visit, first.source)
    sums = totals.result()
    found = [
        one.finish(question, sums, i)
        for i, (one, question) in enumerate(zip(objectives, questions, strict=True))
    ]
    return found, Cost.since(started, totals)
