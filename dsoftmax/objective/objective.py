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
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.first_pass.held_out import HeldOut
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.first_pass.sample import with_class_weights
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.kernels import softmax
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.objective.coordinates import RAW, Coordinates
from dsoftmax.objective.cost import Cost
from dsoftmax.objective.on_sample import LocalObjective
from dsoftmax.objective.penalty import Penalty
from dsoftmax.objective.separation import NONE, find_direction
from dsoftmax.objective.visit import Evaluate, Question, parts_at
from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.protocol import WHOLE_MOMENTS, Answer, Problem, Query
from dsoftmax.sums.totals import Totals

Float = NDArray[np.float64]

FAR = 1e-3
"""Part of a mean square that is left of it without the mean, and that float32 shows well."""
CANCELLED = 1e-11
"""Part of a mean square that is left of it without the mean, and is mostly rounding."""
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
    coordinates : Coordinates
        Coordinates of points, gradients and Hessians in problems, queries and answers.
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
    coordinates: Coordinates = RAW

    def centred(self) -> "Objective":
        """Return F in coordinates in which the features have mean zero, if intercepts are free.

        If the statistics have scales, the features are standardised, and F changes.
        """
        if not self.fit_intercept:
            return self
        sums = self.statistics.class_sums.sum(axis=0)
        coordinates = Coordinates(sums[:-1] / sums[-1], self.statistics.scale)
        return replace(self, coordinates=coordinates)

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
        top = heaviest * self._largest_eigenvalue()
        return 0.5 * top / self.total_weight + self.penalty.l2

    def _largest_eigenvalue(self) -> float:
        """Return an upper bound of λmax(Σ wᵢx̃ᵢx̃ᵢᵀ) in these coordinates.

        The mean is that of the weighted rows, so that the bound by θ holds too.
        """
        statistics = self.statistics
        if not len(self.coordinates.shift):
            return statistics.largest_eigenvalue(self.fit_intercept)
        if statistics.gram.size and statistics.gram_share == 1:
            rounding = float(4 * np.finfo(np.float64).eps * np.trace(statistics.gram))
            top = scipy.linalg.eigvalsh(self.coordinates.gram(statistics.gram))[-1]
            return float(top) * (1 + 1e-12) + rounding
        trace = float(self._centred_squares.sum() + 1) * float(statistics.class_weights.sum())
        if len(self.coordinates.scale):
            return trace
        return min(trace, statistics.largest_eigenvalue(self.fit_intercept))

    @property
    def _n(self) -> int:
        return int(self.statistics.class_rows.sum())

    def point(self, theta: Float) -> Float:
        """Return the point of a θ in these coordinates and in the form that F requires.

        Its probabilities are the same.
        """
        return self.coordinates.centred(self.penalty.in_gauge(theta))

    def problem(self) -> Problem:
        """Return what a solver knows before its first question: the same at every call."""
        return self._problem

    @cached_property
    def _problem(self) -> Problem:
        statistics, penalty = self.statistics, self.penalty
        shape = statistics.class_sums.shape
        mass = np.maximum(self._class_sums[:, -1], 0)
        shares = mass / mass.sum()
        gram = self._gram
        local, blind = self._local, gram.ndim == 2 and self._cancelled
        whole = len(shares) <= WHOLE_MOMENTS
        moments = np.diag(shares) - np.outer(shares, shares) if whole else shares * (1 - shares)
        return Problem(
            lambda: self.curvature_bound,
            penalty.strengths(shape),
            penalty.free(shape),
            local.gram() if blind and local is not None else self.coordinates.gram(gram),
            moments,
            self._n,
            local,
            penalty.l1,
            not blind,
        )

    @property
    def _gram(self) -> Float:
        """Return G by θ, or its diagonal."""
        statistics, total = self.statistics, self.statistics.class_weights.sum()
        if statistics.gram.size:
            return statistics.gram / total
        return np.append(statistics.squares / total, 1.0)

    @cached_property
    def _local(self) -> LocalObjective | None:
        """F on the sample, if there is one."""
        sample = with_class_weights(self.statistics.sample, self.class_weights)
        if not sample.n_rows:
            return None
        kernel = KERNELS[self.kernel]
        return LocalObjective(
            sample, self.penalty, kernel, self._gram, self.coordinates, self.statistics.soft
        )

    @property
    def _cancelled(self) -> bool:
        """Whether rounding leaves little of second moments without the means."""
        sizes = self._sizes
        return bool(np.any((sizes > 0) & (self._centred_squares <= CANCELLED * sizes**2)))

    @cached_property
    def _kronecker(self) -> Kronecker:
        return Kronecker.of(self.problem())

    def gap(self, gradient: Float, moments: Float | None = None) -> float:
        """Return an estimate of F − F*: half the Newton decrement, ½·∇FᵀB⁻¹∇F.

        B = A ⊗ G + λI stands for the Hessian.

        Parameters
        ----------
        gradient : (K, p+1) float64
            ∇F in these coordinates.
        moments : (K, K) or (K,) float64, optional
            A, or its diagonal; the moments at the start when None.
        """
        known = self.problem().moments if moments is None else moments
        if not (np.isfinite(gradient).all() and np.isfinite(known).all()):
            return np.nan
        return 0.5 * self._kronecker.inverse(known).norm(gradient)

    def gap_bound(self, gradient: Float) -> float:
        """Return ‖∇F‖²/(2λ) ≥ F − F*.

        It is nan if some parameter is not penalised, because the bound then fails.
        """
        penalty = self.penalty
        if self.fit_intercept or not penalty.l2 > 0 or penalty.l1 > 0:
            return np.nan
        return float(np.sum(gradient**2)) / (2 * penalty.l2)

    def separator(self, theta: Float) -> tuple[Float, Float]:
        """Return a direction along which F may fall without end, and its largest margins.

        F has no penalty, and a sample is known. The shapes are (0, 0) if there is no direction. The
        margins have that shape too if the sample does not have all rows.
        """
        problem, local = self.problem(), self._local
        assert local is not None
        found = find_direction(local, problem.free, theta)
        whole = len(found) and local.whole
        return found, local.margins(found) if whole else NONE

    def strengths(self, direction: Float) -> Float:
        """Return about the largest difference of logits that each feature makes, (p,)."""
        W = direction[:, :-1]
        return np.ptp(W, axis=0) * np.sqrt(self._centred_squares)

    def separated(self, value: float) -> bool:
        """Return whether F proves that every row is classified rightly.

        Any other row has a loss of at least log 2.
        """
        if self.statistics.soft.any():
            return False
        least = self.statistics.least_weight
        if self.class_weights is not None:
            least *= float(self.class_weights[self.class_weights > 0].min(initial=np.inf))
        return bool(value * self.total_weight < np.log(2) * least)

    def start(self) -> tuple[Float, Answer]:
        """Return W = 0 with b = log priors, and the answer there.

        It follows from the statistics: P is constant.
        """
        sums = self._class_sums
        K, d = sums.shape
        theta = np.zeros((K, d))
        mass = sums[:, -1]
        if self.fit_intercept:
            # A given class may have no rows.
            smooth = mass if mass.min() > 0 else mass + 1e-3 * mass.sum() / K
            theta[:, -1] = np.log(smooth)
            theta[:, -1] -= theta[:, -1].mean()
        theta = self.penalty.in_gauge(theta)  # W is 0: the same point in all coordinates
        P = softmax.softmax(theta[None, :, -1])[0]
        value = -float(mass @ softmax.log_softmax(theta[None, :, -1])[0])
        gradient = np.outer(P, sums.sum(axis=0)) - sums
        if (soft := self.statistics.soft).size:  # these sums have it, and the answer adds it again
            value, gradient = value + float(np.sum(soft * theta)), gradient + soft
        return theta, self._answer(Query(theta), {"value": value, "gradient": gradient})

    @property
    def _class_sums(self) -> Float:
        """Return Σ sᵢqᵢₖ[xᵢ, 1] of every class k, (K, p+1)."""
        sums = self.statistics.class_sums
        if self.class_weights is not None:
            return sums * self.class_weights[:, None]
        return sums + self.statistics.soft if self.statistics.soft.size else sums

    def answer(self, query: Query) -> tuple[Answer, Cost]:
        """Answer a query with exactly one pass over the data."""
        (answer,), cost = answers([self], [query])
        return answer, cost

    def question(self, query: Query) -> Question:
        """Return the question that a pass answers for a query, with θ in place of points."""
        raw = self.coordinates.raw
        query = replace(
            query,
            theta=raw(query.theta),
            direction=None if query.direction is None else raw(query.direction),
            trials=None if query.trials is None else raw(query.trials),
            separator=None if query.separator is None else raw(query.separator),
            single=query.single and not self._far_from_zero,
        )
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
        """Return the answer at one θ, from its sums by quantity."""
        penalty, coordinates = self.penalty, self.coordinates
        theta = coordinates.scaled(query.theta)
        sums = self.statistics.soft
        J, gradient = parts["value"], parts["gradient"]
        if sums.size:
            J, gradient = J - np.sum(sums * query.theta), gradient - sums
        value = penalty.value(float(J), theta)
        error = self.value_error(value, theta)
        product = hessian = moments = None
        if query.direction is not None and "product" in parts:
            direction = coordinates.scaled(query.direction)
            product = penalty.derivative(coordinates.gradient(parts["product"]), direction)
        if "hessian" in parts:
            hessian = penalty.hessian(parts["hessian"], len(theta), theta.shape[1], coordinates)
        if "moments" in parts:
            moments = parts["moments"] / penalty.total_weight
        return Answer(
            value,
            penalty.derivative(coordinates.gradient(gradient), theta),
            error,
            product,
            hessian,
            moments,
            held=self._scored(query.theta, parts.get("held")),
            margins=parts.get("margins"),
        )

    def _scored(self, theta: Float, held: Float | None) -> Float | None:
        """Return the sums over the held-out rows, with the losses of soft labels if they are."""
        soft = self.statistics.scored_soft
        if held is None or not soft.size:
            return held
        return held - np.array([np.sum(soft * theta), 0, 0])

    def value_error(self, value: float, point: Float) -> float:
        """Return the rounding of F at a point where it is ``value``."""
        reach = self._reach(point) / np.sqrt(max(self._n, 1))
        return float(ROUNDING[self.dtype] * (abs(value) + reach))

    @property
    def _sizes(self) -> Float:
        """Return the root mean square of each feature in these units, (p,)."""
        sizes = np.sqrt(self.statistics.squares / self.statistics.class_weights.sum())
        return self.coordinates.sizes(sizes)

    def _reach(self, point: Float) -> float:
        """Return about the largest logit of a row, without the intercept."""
        return float(np.max(np.abs(point[:, :-1]) @ self._sizes, initial=0))

    def gradient_error(self, point: Float) -> float:
        """Return the least max|∇F| at a point that differs from zero beyond rounding.

        Rounding δz ≈ ε(1 + |z|) moves an entry of ∇F by at most ¼·rms(x − μ)·δz. Half of that is
        common. The sums of the rows round by about ε/16 of the features' sizes.
        """
        sizes = self._sizes
        spread = float(np.sqrt(self._centred_squares.max(initial=0)))
        reach = max(1.0, spread) * (1 + self._reach(point)) + float(sizes.max(initial=0))
        return float(np.finfo(self.dtype).eps) / 16 * reach

    @property
    def _far_from_zero(self) -> bool:
        """Whether float32 would hide curvatures beside the squares of the means."""
        return bool(np.any(self._centred_squares < FAR * self._sizes**2))

    @property
    def _centred_squares(self) -> Float:
        """Mean squares of the features in these coordinates, (p,)."""
        squares = np.append(self.statistics.squares / self.statistics.class_weights.sum(), 1.0)
        return self.coordinates.gram(squares)[:-1]

    def in_double(self) -> "Objective":
        """Return the same objective with products in float64."""
        return replace(self, dtype=np.dtype(np.float64))


def answers(objectives: Sequence[Objective], queries: Sequence[Query]) -> tuple[list[Answer], Cost]:
    """Answer the queries of several objectives over the same source with exactly one pass."""
    started, first = time.perf_counter(), objectives[0]
    totals = first.engine.total(visit_of(objectives, queries), first.source)
    return answers_of(objectives, queries, totals), Cost.since(started, totals)


def visit_of(objectives: Sequence[Objective], queries: Sequence[Query]) -> Evaluate:
    """Return the visit that answers the queries of several objectives."""
    first = objectives[0]
    encoder = Encoder(first.statistics.classes)
    return Evaluate(_questions(objectives, queries), encoder, first.kernel)


def answers_of(
    objectives: Sequence[Objective], queries: Sequence[Query], totals: Totals
) -> list[Answer]:
    """Return the answers to the queries from the totals of that visit."""
    sums, questions = totals.result(), _questions(objectives, queries)
    pairs = zip(objectives, questions, strict=True)
    return [one.finish(question, sums, i) for i, (one, question) in enumerate(pairs)]


def _questions(objectives: Sequence[Objective], queries: Sequence[Query]) -> tuple[Question, ...]:
    return tuple(one.question(query) for one, query in zip(objectives, queries, strict=True))
