"""F on the sample of the first pass, in memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features, rows_between
from dsoftmax.first_pass.held_out import uniform
from dsoftmax.first_pass.leverages import leverages
from dsoftmax.first_pass.sample import Sample, filled
from dsoftmax.kernels.choose import Kernel
from dsoftmax.kernels.curvature import class_blocks, moments
from dsoftmax.kernels.softmax import decision_function, softmax
from dsoftmax.kernels.tiles import compute_dtype
from dsoftmax.objective.coordinates import RAW, Coordinates
from dsoftmax.objective.margins import largest_margins
from dsoftmax.objective.penalty import Penalty
from dsoftmax.solvers.protocol import SAMPLE_SLICES, WHOLE_MOMENTS
from dsoftmax.system.process import available_cores

Float = NDArray[np.float64]
T = TypeVar("T")

SLICED_WORK = 2**20
"""Products of rows, classes and features from which slices are worth their threads."""
CURVED_ENTRIES = 2**18
"""Probabilities that are in memory at a time while the curvatures of rows are found."""
BLOCK_SALT = 7919
"""Salt of the draw of the rows of class blocks, times the number of the draw."""


class LocalObjective:
    """F on a sample in memory: see `dsoftmax.solvers.protocol.Local`.

    Parameters
    ----------
    sample : Sample
        With weights that include those of the classes.
    penalty : Penalty
        Penalty of F over all rows; the weights of the sample add up to theirs.
    kernel : Kernel
    gram : (p+1, p+1) or (p+1,) float64, optional
        G of all rows, or its diagonal.
    coordinates : Coordinates
        Those of all points, gradients and Hessians; rows are as they are stored.
    soft : (K, p+1) float64, optional
        D of all rows if labels are soft, see `dsoftmax.first_pass.soft`.
    """

    def __init__(
        self,
        sample: Sample,
        penalty: Penalty,
        kernel: Kernel,
        gram: Float | None = None,
        coordinates: Coordinates = RAW,
        soft: Float | None = None,
    ) -> None:
        self.sample = sample
        self._soft = None if soft is None or not soft.size else coordinates.gradient(soft)
        self._penalty = penalty
        self._kernel, self.coordinates = kernel, coordinates
        self._gram = np.zeros((0, 0)) if gram is None or gram.ndim == 1 else gram
        self._rows: Features | None = None

    @property
    def n_rows(self) -> int:
        return self.sample.n_rows

    @property
    def whole(self) -> bool:
        return self.sample.whole

    @property
    def _X(self) -> Features:
        """The rows in float64.

        Dense ones are in the coordinates, which is exact if means are large.
        """
        if self._rows is None:
            self._rows = self.sample.X.astype(np.float64)
            if len(self.coordinates.shift) and not scipy.sparse.issparse(self._rows):
                self._rows -= self.coordinates.shift
                self._rows = self.coordinates.sizes(self._rows)
        return self._rows

    @property
    def _of_X(self) -> Coordinates:
        """The coordinates as seen from `_X`."""
        return self.coordinates if scipy.sparse.issparse(self._X) else RAW

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F, estimated from the sample. Work and memory are those of the kernel.

        Products are in float64 and run on this thread. The rows are converted once, at their first
        use.
        """
        J, gradient = self._kernel.value_and_gradient(
            self._of_X.raw(theta),
            self._X,
            self.sample.codes,
            self.sample.weights,
            np.dtype(np.float64),
        )
        return self._finished(J, self._of_X.gradient(gradient), theta)

    def on_threads(self, theta: Float, single: bool) -> tuple[float, Float]:
        """Return F and ∇F on threads, in float32 if ``single`` and the stored values allow it.

        Rows are converted tile by tile. Memory: that of the kernel in each thread, and a gradient
        for each slice.
        """
        stored = compute_dtype(self.sample.values.dtype)
        dtype = stored if single else np.dtype(np.float64)
        raw = self.coordinates.raw(theta)

        def part(rows: slice) -> tuple[float, Float]:
            X = rows_between(self._stored, rows.start, rows.stop)
            codes, weights = self.sample.codes[rows], self.sample.weights[rows]
            found: tuple[float, Float] = self._kernel.value_and_gradient(
                raw, X, codes, weights, dtype
            )
            return found

        parts = self._sliced(part, theta.size)
        J, gradient = sum(value for value, _ in parts), parts[0][1]
        for _, one in parts[1:]:
            gradient += one
        return self._finished(J, self.coordinates.gradient(gradient), theta)

    def _finished(self, J: float, gradient: Float, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F from J and ∇J of the rows with hard labels."""
        if self._soft is not None:
            J, gradient = J - float(np.sum(self._soft * theta)), gradient - self._soft
        return self._penalty.value(J, theta), self._penalty.derivative(gradient, theta)

    def logits(self, theta: Float, rows: slice) -> Float:
        """Return the logits of some rows, (m, K) float64."""
        X = rows_between(self._X, rows.start, rows.stop)
        return decision_function(self._of_X.raw(theta), X)

    def columns(self, numbers: NDArray[np.intp]) -> Float:
        """Return some columns of x̃ in these coordinates, (m, len(numbers)) float64."""
        own = self._of_X
        X = self._X.toarray() if scipy.sparse.issparse(self._X) else self._X
        X = own.sizes(X - own.shift) if len(own.shift) else X
        X = np.column_stack([X, np.ones(len(X))])
        return X[:, numbers]

    def margins(self, direction: Float) -> Float:
        """Return the `largest_margins` of the rows along a direction."""
        raw, sample = self._of_X.raw(direction), self.sample
        return largest_margins(raw, self._X, sample.codes, sample.weights)

    def products(self, theta: Float) -> Callable[[Float], Float]:
        """Return a function that multiplies by ∇²F at a point, estimated from the sample."""
        own = self._of_X
        of_sums = self._kernel.hessian_products(own.raw(theta), self._X, self.sample.weights)
        return lambda direction: self._penalty.derivative(
            own.gradient(of_sums(own.raw(direction))), direction
        )

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F, estimated from the sample."""
        raw = self._of_X.raw(theta)
        pairs = self._kernel.hessian_pairs(raw, self._X, self.sample.weights)
        return self._penalty.hessian(pairs, len(theta), theta.shape[1], self._of_X)

    def gram(self) -> Float:
        """Return G of the sample's rows, (p+1, p+1); of dense ones from centred rows."""
        X, weights = self._X, self.sample.weights
        mass, sums = weights.sum(), weights @ X
        found = np.empty((X.shape[1] + 1,) * 2)
        if scipy.sparse.issparse(X):
            found[:-1, :-1] = (X.T @ X.multiply(weights[:, None])).toarray()
        else:
            found[:-1, :-1] = (X.T * weights) @ X
        found[:-1, -1] = found[-1, :-1] = sums
        found[-1, -1] = mass
        return self._of_X.gram(found / mass)

    def moments(self, theta: Float) -> Float:
        """Return the moments A, as in an answer. Work that of the kernel, on all cores."""
        whole, theta = len(theta) <= WHOLE_MOMENTS, self.coordinates.raw(theta)

        def part(rows: slice) -> Float:
            X = rows_between(self._stored, rows.start, rows.stop)
            return moments(theta, X, self.sample.weights[rows], whole=whole)

        return np.sum(self._sliced(part, theta.size), axis=0) / self._penalty.total_weight

    def class_blocks(self, theta: Float, most_rows: int, number: int) -> Float:
        """Return the class blocks of ∇²F without the penalty, from some rows.

        Rows are drawn by their curvature at θ times their leverage. ``number`` makes the draw
        another one. Work K·(p+1)² flops a row.
        """
        theta = self.coordinates.raw(theta)
        curved, weights = np.empty(self.n_rows), self.sample.weights
        step = max(CURVED_ENTRIES // len(theta), 64)
        for start in range(0, self.n_rows, step):
            rows = slice(start, min(start + step, self.n_rows))
            Z = decision_function(theta, rows_between(self._stored, rows.start, rows.stop))
            curved[rows] = 1 - np.square(softmax(Z)).sum(axis=1, dtype=np.float64)
        chances = np.minimum(filled(weights * curved * self.leverages, most_rows), 1.0)
        numbers = np.arange(self.n_rows)
        drawn = np.flatnonzero(uniform(numbers, BLOCK_SALT * (number + 1)) < chances)
        some = np.ascontiguousarray(self._stored[drawn])
        blocks = class_blocks(theta, some, weights[drawn] / chances[drawn])
        return self.coordinates.gram(blocks) / self._penalty.total_weight

    @cached_property
    def leverages(self) -> Float:
        """x̃ᵀG⁺x̃ of each row of the sample with x̃ = [x, 1], and the G of all rows."""
        return leverages(self._stored, self.sample.weights, self._gram)

    def reach(self, direction: Float) -> float:
        """Return the root mean square of the logits of a direction over rows and classes."""
        direction = self.coordinates.raw(direction)

        def part(rows: slice) -> float:
            Z = decision_function(direction, rows_between(self._stored, rows.start, rows.stop))
            return float(self.sample.weights[rows] @ np.square(Z).sum(axis=1, dtype=np.float64))

        total = sum(self._sliced(part, direction.size))
        return float(np.sqrt(total / self.sample.weights.sum() / len(direction)))

    @cached_property
    def _stored(self) -> Features:
        return self.sample.X

    def _sliced(self, part: Callable[[slice], T], entries: int) -> Sequence[T]:
        """Return the result for each slice of the rows, on the cores of this process."""
        n = self.n_rows
        n_slices = SAMPLE_SLICES if n * entries >= SLICED_WORK else 1
        ends = [n * i // n_slices for i in range(n_slices + 1)]
        slices = [slice(*pair) for pair in pairwise(ends)]
        if n_slices == 1:
            return [part(slices[0])]
        return list(self._pool.map(part, slices))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(SAMPLE_SLICES, available_cores()), "dsoftmax-sample")
