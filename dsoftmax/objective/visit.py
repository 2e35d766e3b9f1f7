"""The visit that answers questions: what a pass computes of every leaf."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.leaves import leaf_rows
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.first_pass.held_out import Held, places
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels import softmax
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.kernels.compiled import kernel as fused
from dsoftmax.kernels.curvature import curvature_scratch_bytes, curvatures, moments, upper_triangle
from dsoftmax.kernels.hessian import hessian_entries, hessian_product
from dsoftmax.kernels.tiles import scratch_bytes
from dsoftmax.solvers.protocol import Query

Float = NDArray[np.float64]

MOMENT_ROWS, MOMENT_PART = 512, 32
"""Moments are estimated from so many rows of a leaf, or from one in so many if that is more."""
SCORED_VALUES = 2**18
"""Of rows that are held out, so many logits or features are worked on at once (entries)."""


@dataclass(frozen=True)
class Question:
    """A query, and over which rows and with which weights it is asked.

    Attributes
    ----------
    query : Query
    class_weights : (K,) float64 or None
    dtype : numpy dtype
        Of the products.
    held : Held, optional
        Rows that do not count; loss and hits on them are found as well, at every point.
    sizes : (p+1,) float64, optional
        √Σ sᵢx̃ᵢⱼ² or more, where curvatures are asked for: what their Gram matrices are rounded by.
    step : int
        Curvatures are estimated from one row in so many.
    """

    query: Query
    class_weights: Float | None
    dtype: np.dtype
    held: Held | None = None
    sizes: Float | None = None
    step: int = 1

    @property
    def n_trials(self) -> int:
        """Points beside the query's θ."""
        return 0 if self.query.trials is None else len(self.query.trials)

    def points(self) -> Iterator[tuple[str, Float]]:
        """Yield the points, and what is added to the names of their sums."""
        yield "", self.query.theta
        for j in range(self.n_trials):
            assert self.query.trials is not None
            yield f".{j}", self.query.trials[j]


@dataclass(frozen=True)
class Evaluate(Visit):
    """The visit that answers questions; all of them share the rows while they are in the cache.

    Attributes
    ----------
    questions : tuple of Question
        The sums of number i have names that end in " i".
    encoder : Encoder
    kernel : str
        A name in `KERNELS`: chosen once for a run, so that every worker computes the same bits.
    """

    questions: tuple[Question, ...]
    encoder: Encoder
    kernel: str = "numpy"

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return what a leaf takes beside its rows."""
        K = len(self.encoder.classes)
        entries = K * (n_features + 1)
        sums, scratch = 0, 0
        for one in self.questions:
            query = one.query
            sums += (4 + entries) * (1 + one.n_trials) + entries * (query.direction is not None)
            sums += hessian_entries(n_features, K) * query.hessian + K * K * query.moments
            sums += query.n_groups * (
                K * K + (n_features + 1) * (n_features + 2) // 8
            )  # whole numbers take a fourth
            needed = scratch_bytes(n_features, K, one.dtype, sparse)
            if query.curvatures is not None:
                needed = max(
                    needed,
                    curvature_scratch_bytes(
                        leaf_rows(n_features) // one.step + 1, n_features, K, one.dtype
                    ),
                )
            if query.hessian:
                needed = max(
                    needed, KERNELS[self.kernel].hessian_scratch_bytes(n_features, K, one.dtype)
                )
            if self.kernel == "fused":
                needed = max(needed, fused.scratch_bytes(n_features, K, one.dtype, sparse))
            if one.held is not None:
                needed = max(needed, 40 * max(SCORED_VALUES, K, n_features))
            scratch = max(scratch, needed)
        return Footprint(sums, scratch, fused.CODE_BYTES if self.kernel == "fused" else 0)

    def __call__(self, block: Block) -> dict[str, Any]:
        if self.kernel == "fused":
            fused.require()
        y = self.encoder.codes(block)
        helds = {question.held for question in self.questions if question.held is not None}
        where = places(block) if helds else None
        masks: dict[Held | None, NDArray[np.bool_]] = (
            {} if where is None else {held: held.mask(where) for held in helds}
        )
        leaf: dict[str, Any] = {}
        for i, question in enumerate(self.questions):
            found = self._answer(question, block, y, masks.get(question.held))
            leaf |= {f"{name} {i}": part for name, part in found.items()}
        return leaf

    def _answer(
        self, question: Question, block: Block, y: NDArray, held: NDArray[np.bool_] | None
    ) -> dict[str, Any]:
        query, dtype, kernel = question.query, question.dtype, KERNELS[self.kernel]
        weights, all_weights = block.weights, block.weights
        if question.class_weights is not None:
            weights = (
                question.class_weights[y]
                if weights is None
                else weights * question.class_weights[y]
            )
        found: dict[str, Any] = {}
        if held is not None:
            weights = np.where(held, 0.0, 1.0 if weights is None else weights)
            rows = np.flatnonzero(held)
            found = {
                f"held{name}": _score(theta, block, y, all_weights, rows)
                for name, theta in question.points()
            }
            if len(rows) == block.n_rows:  # no row counts: the sums are those of none
                block, y, weights = block.between(0, 0), y[:0], weights[:0]
        for name, theta in question.points():
            value, gradient = kernel.value_and_gradient(theta, block.X, y, weights, dtype)
            found[f"value{name}"], found[f"gradient{name}"] = np.float64(value), gradient
        if query.direction is not None:
            found["product"] = hessian_product(
                query.theta, query.direction, block.X, weights, dtype
            )
        if query.hessian:
            found["hessian"] = kernel.hessian_pairs(
                query.theta, block.X, weights, None if query.single else dtype
            )
        if query.moments:
            found["moments"] = _moments(query.theta, block, weights, dtype)
        if query.curvatures is not None:
            found |= _curvatures(question, block, weights)
        return found


def _curvatures(question: Question, block: Block, weights: Float | None) -> dict[str, Any]:
    """Return the curvatures of a leaf, estimated from every so-manieth row.

    Gram matrices are large, and only shape steps: they travel as whole numbers of 2⁻⁵⁰ of their bound by Cauchy and Schwarz, which
    add without order too, and take a fourth of the memory of an exact sum.
    """
    query, step = question.query, question.step
    assert question.sizes is not None
    assert query.curvatures is not None
    some = None if weights is None else weights[::step]
    moments, grams = curvatures(
        query.theta, block.X[::step], some, query.curvatures, question.dtype
    )
    bound = gram_bound(question.sizes)
    return {
        "group_moments": moments,
        "group_grams": np.rint(
            np.divide(grams, bound, where=bound > 0, out=grams), out=grams
        ).astype(np.int64),
    }


def gram_bound(sizes: Float) -> Float:
    """Return the unit of the Gram matrices' whole numbers, ((p+1)·(p+2)/2,)."""
    return 2.0**-50 * np.outer(sizes, sizes).ravel()[upper_triangle(len(sizes))]


def _score(theta: Float, block: Block, y: NDArray, weights: Float | None, rows: NDArray) -> Float:
    """Return the sum of the losses, the weight of what is classified rightly, and the weight, over some rows of a leaf."""
    found = np.zeros(3)
    step = max(SCORED_VALUES // max(theta.shape), 1)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        logits = softmax.decision_function(theta, block.X[some])
        own = y[some]
        losses = -softmax.log_softmax(logits)[np.arange(len(own)), own].astype(np.float64)
        w = np.ones(len(own)) if weights is None else weights[some]
        found += [w @ losses, w @ (logits.argmax(axis=1) == own), w.sum()]
    return found


def _moments(theta: Float, block: Block, weights: Float | None, dtype: np.dtype) -> Float:
    """Return the moments of a leaf, estimated from every so-manieth row: they shape steps, and need not be exact."""
    step = max(block.n_rows // max(MOMENT_ROWS, block.n_rows // MOMENT_PART), 1)
    if weights is None:
        return moments(theta, block.X[::step], None, dtype) * (
            block.n_rows / max(len(range(0, block.n_rows, step)), 1)
        )
    part = weights[::step].sum()
    return moments(theta, block.X[::step], weights[::step], dtype) * (
        weights.sum() / part if part > 0 else 0.0
    )
