r"""The one place where sums become the objective that is minimised.

.. math::  F(\theta) = J_s(\theta)/S + \frac{1}{CS}\Bigl(\frac{1-ρ}{2}\|W\|^2 + ρ\|W\|_1\Bigr),   s_i = w_i c_{y_i},   S = \sum_i s_i

with sample weights w, class weights c, ρ the ``l1_ratio``, and free intercepts. This is scikit-learn's objective divided by S, so
that ``tol`` does not depend on the number of rows. Answers hold all of F but the L1 part, which has no gradient: a solver
that can adds it (`dsoftmax.solvers.protocol.Problem.l1`).

Two classes: scikit-learn has one row of coefficients, w = θ₁ − θ₀. With θ₁ = −θ₀ = w/2, ‖θ‖² = ‖w‖²/2, so C/2 in the
formula above gives scikit-learn's ‖w‖²/(2C): the same F, and the same largest gradient entry. The L1 part would not halve
so. With ρ > 0 the form is therefore z = (0, wᵀx + b): row 0 of θ stays at 0, row 1 is scikit-learn's own, with C.
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
from dsoftmax.first_pass.held_out import Held
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.kernels import softmax
from dsoftmax.kernels.hessian import unpack_hessian
from dsoftmax.objective.on_sample import LocalObjective
from dsoftmax.objective.visit import Evaluate, Question, gram_bound
from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.protocol import Answer, Problem, Query
from dsoftmax.sums.work import Done

Float = NDArray[np.float64]

CURVATURE_ROWS = 32
"""Curvatures are estimated from about so many rows for each feature and group."""
ROOM = 1.0 + 1e-9
"""Above the squares of all rows: sums of parts of them stay below."""
ROUNDING = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-15}
"""Relative rounding of F, by the dtype of the products."""


@dataclass(frozen=True)
class Cost:
    """What a pass took.

    Attributes
    ----------
    seconds : float
        Wall time.
    rows, bytes : int
        Visited; bytes of X, decoded.
    work : dict from str to Done
        What each worker did of it, by its name; this process has the name "".
    """

    seconds: float
    rows: int
    bytes: int
    work: Mapping[str, Done]


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
        Of the products.
    kernel : str
        A name in `dsoftmax.kernels.choose.KERNELS`.
    held : Held, optional
        Rows that do not count; ``statistics`` are then those of the others.
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
    held: Held | None = None
    l1_ratio: float = 0.0

    @property
    def total_weight(self) -> float:
        """S = Σ wᵢ c of the label."""
        sums = self.statistics.class_weights
        return float(np.sum(sums if self.class_weights is None else sums * self.class_weights))

    @property
    def penalty(self) -> float:
        """λ, with F = J/S + λ/2·‖W‖² + λ₁‖W‖₁."""
        two_rows = len(self.statistics.classes) == 2 and not self.one_row
        return (1 - self.l1_ratio) / ((self.C / 2 if two_rows else self.C) * self.total_weight)

    @property
    def l1(self) -> float:
        """λ₁."""
        return self.l1_ratio / (self.C * self.total_weight)

    @property
    def one_row(self) -> bool:
        """Whether row 0 of θ stays at 0."""
        return self.l1_ratio > 0 and len(self.statistics.classes) == 2

    @property
    def curvature_bound(self) -> float:
        """L ≥ λmax(∇²F), from ∇²J ⪯ ½(I − 11ᵀ/K) ⊗ XᵀSX (Böhning 1992, theorem 2)."""
        heaviest = 1.0 if self.class_weights is None else float(self.class_weights.max())
        top = heaviest * self.statistics.largest_eigenvalue(self.fit_intercept)
        return 0.5 * top / self.total_weight + self.penalty

    @property
    def _n(self) -> int:
        return int(self.statistics.class_rows.sum())

    @property
    def penalties(self) -> Float:
        """λ of every entry of θ, (K, p+1)."""
        found = np.full(self.statistics.class_sums.shape, self.penalty)
        found[:, -1] = 0
        found[: self.one_row] = 0
        return found

    def in_gauge(self, theta: Float) -> Float:
        """Return the point with the same probabilities that the form of F asks for."""
        return theta - theta[0] if self.one_row else theta

    def problem(self) -> Problem:
        """Return what a solver may know before its first question."""
        statistics = self.statistics
        free = np.ones(statistics.class_sums.shape, bool)
        free[:, -1] = self.fit_intercept
        free[: self.one_row] = False
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
        local = LocalObjective(self) if statistics.sample.n_rows else None
        moments = np.diag(shares) - np.outer(shares, shares)
        return Problem(
            lambda: self.curvature_bound,
            self.penalties,
            free,
            gram,
            moments,
            self._n,
            local,
            self.l1,
        )

    @cached_property
    def _kronecker(self) -> Kronecker:
        return Kronecker.of(self.problem())

    def gap(self, gradient: Float, moments: Float | None = None) -> float:
        """Return an estimate of F − F*: half the Newton decrement, ½·∇FᵀB⁻¹∇F, with B = A ⊗ G + λI in the Hessian's place.

        Parameters
        ----------
        gradient : (K, p+1) float64
        moments : (K, K) float64, optional
            A; that of the start when None.
        """
        known = self.problem().moments if moments is None else moments
        if not (np.isfinite(gradient).all() and np.isfinite(known).all()):
            return np.nan
        return 0.5 * float(np.sum(gradient * self._kronecker.inverse(known)(gradient)))

    def gap_bound(self, gradient: Float) -> float:
        """Return ‖∇F‖²/(2λ) ≥ F − F*, which holds where every parameter is penalised; nan where it does not."""
        if self.fit_intercept or not self.penalty > 0 or self.l1 > 0:
            return np.nan
        return float(np.sum(gradient**2)) / (2 * self.penalty)

    def separated(self, value: float) -> bool:
        """Return whether F says that every row is classified rightly: a row that is not has a loss of at least log 2."""
        least = self.statistics.least_weight
        if self.class_weights is not None:
            least *= float(self.class_weights[self.class_weights > 0].min(initial=np.inf))
        return bool(value * self.total_weight < np.log(2) * least)

    def start(self) -> tuple[Float, Answer]:
        """Return W = 0 with b = log priors, and the answer there, which the statistics hold: P is constant."""
        sums = self.statistics.class_sums
        if self.class_weights is not None:
            sums = sums * self.class_weights[:, None]
        K, d = sums.shape
        theta = np.zeros((K, d))
        mass = sums[:, -1]
        if self.fit_intercept:
            smooth = (
                mass if mass.min() > 0 else mass + 1e-3 * mass.sum() / K
            )  # a class that was given and has no rows
            theta[:, -1] = np.log(smooth)
            theta[:, -1] -= theta[:, -1].mean()
        theta = self.in_gauge(theta)
        P = softmax.softmax(theta[None, :, -1])[0]
        value = -float(mass @ softmax.log_softmax(theta[None, :, -1])[0])
        return theta, self._finish(Query(theta), value, np.outer(P, sums.sum(axis=0)) - sums)

    def answer(self, query: Query) -> tuple[Answer, Cost]:
        """Answer a query with exactly one pass over the data."""
        (answer,), cost = answers([self], [query])
        return answer, cost

    def question(self, query: Query) -> Question:
        """Return what a pass is to find for a query."""
        if query.curvatures is None:
            return Question(query, self.class_weights, self.dtype, self.held)
        heaviest = 1.0 if self.class_weights is None else float(self.class_weights.max())
        squares = np.append(self.statistics.squares, self.statistics.weight)
        step = max(self._n // (CURVATURE_ROWS * query.n_groups * len(squares)), 1)
        return Question(
            query,
            self.class_weights,
            self.dtype,
            self.held,
            np.sqrt(heaviest * squares * ROOM),
            step,
        )

    def finish(self, question: Question, sums: Mapping[str, Any], i: int = 0) -> Answer:
        """Return the answer to the question that was number ``i`` of a pass."""
        query = question.query
        parts = {}
        for name, theta in question.points():
            names = {part: f"{part}{name} {i}" for part in ("value", "gradient", "held")}
            others = [
                sums.get(f"{part} {i}") if not name else None
                for part in ("product", "hessian", "moments")
            ]
            asked = query if not name else Query(theta)
            found = self._finish(
                asked, float(sums[names["value"]]), sums[names["gradient"]], *others
            )
            parts[name] = replace(found, held=sums.get(names["held"]))
        found = replace(parts.pop(""), trials=tuple(parts.values()))
        return (
            found
            if query.curvatures is None
            else replace(found, **self._curvatures(question, sums, i))
        )

    def _curvatures(self, question: Question, sums: Mapping[str, Any], i: int) -> dict[str, Any]:
        """Scale the curvatures: A_g to the scale of F, G_g to a trace of A_g of 1."""
        assert question.sizes is not None
        moments, grams = (
            sums[f"group_moments {i}"],
            sums[f"group_grams {i}"] * gram_bound(question.sizes),
        )
        traces = np.trace(moments, axis1=1, axis2=2)
        scaled = np.divide(
            grams, traces[:, None], where=traces[:, None] > 0, out=np.zeros_like(grams)
        )
        if not self.fit_intercept:
            last = np.cumsum(np.arange(len(question.sizes), 0, -1)) - 1  # entries (a, p)
            scaled[:, last] = 0
        return {
            "group_moments": moments * (question.step / self.total_weight),
            "group_grams": scaled.astype(np.float32),
        }

    def _finish(
        self,
        query: Query,
        J: float,
        gradient: Float,
        product: Float | None = None,
        hessian: Float | None = None,
        moments: Float | None = None,
    ) -> Answer:
        """From sums to F: divide by S, add the penalty, hold still what is not free."""
        S, penalty, theta = self.total_weight, self.penalty, query.theta
        W = theta[:, :-1]
        value = J / S + 0.5 * penalty * float(np.sum(W * W))
        gradient = self._penalised(gradient / S, theta)
        if query.direction is not None and product is not None:
            product = self._penalised(product / S, query.direction)
        if hessian is not None:
            K, d = theta.shape
            diagonal = np.tile(np.r_[np.full(d - 1, penalty), 0.0], K)
            hessian = unpack_hessian(hessian, K) / S + np.diag(diagonal)
            if not self.fit_intercept:
                held = np.arange(d - 1, K * d, d)
                hessian[held, :] = hessian[:, held] = 0
            if self.one_row:
                hessian[:d, :] = hessian[:, :d] = 0
        n = max(int(self.statistics.class_rows.sum()), 1)
        error = ROUNDING[self.dtype] * (abs(value) + self._reach(theta) / np.sqrt(n))
        return Answer(
            value,
            gradient,
            float(error),
            product,
            hessian,
            None if moments is None else moments / S,
        )

    @property
    def _sizes(self) -> Float:
        """Root mean square of each feature, (p,)."""
        return np.sqrt(self.statistics.squares / self.statistics.class_weights.sum())

    def _reach(self, theta: Float) -> float:
        """About the largest logit of a row."""
        return float(np.max(np.abs(theta[:, :-1]) @ self._sizes, initial=0))

    def gradient_error(self, theta: Float) -> float:
        """Return how small max|∇F| can be told from zero: δz ≈ ε(1 + |z|) moves an entry by at most ¼·rms(x)·δz, and half of
        that is common.
        """
        size = max(1.0, float(self._sizes.max(initial=0)))
        return float(np.finfo(self.dtype).eps) / 16 * size * (1 + self._reach(theta))

    def _penalised(self, sums: Float, theta: Float) -> Float:
        sums = sums.copy()
        sums[:, :-1] += self.penalty * theta[:, :-1]
        if not self.fit_intercept:
            sums[:, -1] = 0
        sums[: self.one_row] = 0
        return sums

    def in_double(self) -> "Objective":
        """Return the same objective with products in float64."""
        return replace(self, dtype=np.dtype(np.float64))


def answers(objectives: Sequence[Objective], queries: Sequence[Query]) -> tuple[list[Answer], Cost]:
    """Answer the queries of several objectives over the same source with exactly one pass."""
    started = time.perf_counter()
    first = objectives[0]
    questions = tuple(one.question(query) for one, query in zip(objectives, queries, strict=True))
    totals = first.engine.total(
        Evaluate(questions, Encoder(first.statistics.classes), first.kernel), first.source
    )
    sums = totals.result()
    found = [
        one.finish(question, sums, i)
        for i, (one, question) in enumerate(zip(objectives, questions, strict=True))
    ]
    return found, Cost(time.perf_counter() - started, totals.n_rows, totals.n_bytes, totals.work)
