"""The visit that answers questions: what a pass computes of every leaf."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.scaling import Scaling
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.first_pass.held_out import HeldOut, places
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.kernels.footprint import gradient_bytes
from dsoftmax.kernels.hessian import hessian_product
from dsoftmax.kernels.packed import hessian_entries
from dsoftmax.objective.estimates import leaf_moments, moment_entries
from dsoftmax.objective.margins import largest_margins, margin_bytes
from dsoftmax.objective.scores import score, score_bytes
from dsoftmax.solvers.protocol import Query
from dsoftmax.sums.totals import Largest

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Key of one sum of a pass.

    Attributes
    ----------
    quantity : str
        "value", "gradient", "product", "hessian", "moments", "margins" or "held".
    question : int
        Number of the question in the pass.
    point : int
        0 for the query's θ, then 1, 2, … for its trials.
    """

    quantity: str
    question: int = 0
    point: int = 0


def parts_at(sums: Mapping[Any, Any], question: int = 0, point: int = 0) -> dict[str, Any]:
    """Return the sums of one question at one point, by quantity."""
    return {
        part.quantity: found
        for part, found in sums.items()
        if (part.question, part.point) == (question, point)
    }


@dataclass(frozen=True)
class Question:
    """A query, with the rows and the weights for which it is asked.

    Attributes
    ----------
    query : Query
    class_weights : (K,) float64 or None
    dtype : numpy dtype
        Dtype of the products.
    held : HeldOut, optional
        Rows that do not count. Their losses and hits are found as well, at every point.
    """

    query: Query
    class_weights: Float | None
    dtype: np.dtype
    held: HeldOut | None = None

    @property
    def n_trials(self) -> int:
        """Number of points beside the query's θ."""
        return 0 if self.query.trials is None else len(self.query.trials)

    def points(self) -> Iterator[Float]:
        """Yield the query's θ, then its trials."""
        yield self.query.theta
        if self.query.trials is not None:
            yield from self.query.trials

    def weights_of(self, y: NDArray, weights: Float | None) -> Float | None:
        """Return the row weights times those of the classes; None for ones."""
        if self.class_weights is None:
            return weights
        of_class = self.class_weights[y]
        return of_class if weights is None else weights * of_class


@dataclass(frozen=True)
class Evaluate(Visit):
    """The visit that answers questions; all of them share the rows while they are in the cache.

    Attributes
    ----------
    questions : tuple of Question
        The sums are keyed by `Part`, with the number of the question.
    encoder : Encoder
    kernel : str
        Name in `KERNELS`, chosen once for a run, so that every worker computes the same bits.
    """

    questions: tuple[Question, ...]
    encoder: Encoder
    kernel: str = "numpy"

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return what a leaf allocates beside its rows: the sum of what its kernels say."""
        sums = sum(self._sums(question, n_features) for question in self.questions)
        scratch = max(
            (self._scratch(question, n_features, sparse) for question in self.questions), default=0
        )
        return Footprint(sums, scratch, KERNELS[self.kernel].code_bytes)

    def _sums(self, question: Question, n_features: int) -> int:
        """Return the entries (float64) of a leaf's sums for a question."""
        K, query = len(self.encoder.classes), question.query
        entries = K * (n_features + 1)
        found = (4 + entries) * (1 + question.n_trials) + entries * (query.direction is not None)
        found += hessian_entries(n_features, K) * query.hessian
        found += K * (K + 1) * (query.separator is not None)
        return found + moment_entries(K) * query.moments

    def _scratch(self, question: Question, n_features: int, sparse: bool) -> int:
        """Return the bytes that a thread allocates for a question, beside the sums."""
        K, query, kernel = len(self.encoder.classes), question.query, KERNELS[self.kernel]
        shape = n_features, K, question.dtype
        needs = [gradient_bytes(*shape, sparse), kernel.gradient_bytes(*shape, sparse)]
        if query.hessian:
            needs.append(kernel.hessian_bytes(*shape, sparse))
        if question.held is not None:
            needs.append(score_bytes(n_features, K))
        if query.separator is not None:
            needs.append(margin_bytes(n_features, K))
        return max(needs)

    def __call__(self, block: Block) -> dict[Part, Any]:
        KERNELS[self.kernel].require()
        y = self.encoder.codes(block)
        held = {question.held for question in self.questions if question.held is not None}
        where = places(block, held) if held else None
        masks: dict[HeldOut | None, NDArray[np.bool_]] = (
            {} if where is None else {one: one.mask(where) for one in held}
        )
        leaf: dict[Part, Any] = {}
        for i, question in enumerate(self.questions):
            found = self._answer(question, block, y, masks.get(question.held))
            leaf |= {Part(name, i, point): part for (name, point), part in found.items()}
        return leaf

    def _answer(
        self, question: Question, block: Block, y: NDArray, held: NDArray[np.bool_] | None
    ) -> dict[tuple[str, int], Any]:
        """Return the sums of a leaf for one question, by quantity and point."""
        if block.scaling is not None:
            return self._packed(block.scaling, question, block, y, held)
        query, dtype, kernel = question.query, question.dtype, KERNELS[self.kernel]
        weights = question.weights_of(y, block.weights)
        found: dict[tuple[str, int], Any] = {}
        if held is not None:
            weights = np.where(held, 0.0, 1.0 if weights is None else weights)
            rows = np.flatnonzero(held)
            for j, theta in enumerate(question.points()):
                found["held", j] = score(theta, block, y, block.weights, rows)
            if len(rows) == block.n_rows:  # no row counts, so the sums are over no rows
                block, y, weights = block.between(0, 0), y[:0], weights[:0]
        for j, theta in enumerate(question.points()):
            value, gradient = kernel.value_and_gradient(theta, block.X, y, weights, dtype)
            found["value", j], found["gradient", j] = np.float64(value), gradient
        if query.direction is not None:
            found["product", 0] = hessian_product(
                query.theta, query.direction, block.X, weights, dtype
            )
        if query.hessian:
            found["hessian", 0] = kernel.hessian_pairs(
                query.theta, block.X, weights, None if query.single else dtype
            )
        if query.moments:
            found["moments", 0] = leaf_moments(query.theta, block, weights, dtype)
        if query.separator is not None:
            margins = largest_margins(query.separator, block.X, y, weights)
            found["margins", 0] = Largest(margins)
        return found

    def _packed(
        self,
        scaling: Scaling,
        question: Question,
        block: Block,
        y: NDArray,
        held: NDArray[np.bool_] | None,
    ) -> dict[tuple[str, int], Any]:
        """Return the same sums of packed rows: θ is folded into their units, and sums back."""
        query = question.query
        points: dict[str, Any] = {
            name: scaling.theta(values)
            for name in ("theta", "trials", "direction", "separator")
            if (values := getattr(query, name)) is not None
        }
        stored = replace(question, query=replace(query, **points))
        found = self._answer(stored, replace(block, scaling=None), y, held)
        maps = {
            "gradient": scaling.gradient,
            "product": scaling.gradient,
            "hessian": scaling.pairs,
        }
        return {key: maps.get(key[0], _same)(part) for key, part in found.items()}


def _same(part: Any) -> Any:
    return part
