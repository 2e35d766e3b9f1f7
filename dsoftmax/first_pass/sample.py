"""A random sample of the rows, drawn in the first pass.

It fits the memory and contains the rows that matter.

Which rows are drawn depends on the number of each row and on its leaf alone, so every engine
draws the same rows. Row i of a leaf is drawn if u(i) < pᵢ. u is a hash of its number in the whole
data set, uniform on [0, 1), and

.. math::  p_i = \\min(1, \\text{share} · (0.4\\, u_i + 0.3\\, l_i + 0.3\\, c_i)).

Each part has mean 1 in the leaf. uᵢ is the row's weight. lᵢ is its leverage sᵢx̃ᵢᵀG⁺x̃ᵢ, with the
leaf's Gram matrix G or its diagonal. Without rows of high leverage some direction would not be
seen (Drineas, Mahoney and Muthukrishnan 2008). cᵢ is the weight divided by that of its class, so
that rare classes are drawn.

A row that is drawn represents 1/pᵢ rows. The weights are scaled so that each class has its own
sum (post-stratification).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import Features
from dsoftmax.data.source import Source, n_rows
from dsoftmax.first_pass.held_out import uniform
from dsoftmax.sums.totals import Rows

Float = NDArray[np.float64]

PARTS = (0.4, 0.3, 0.3)
"""Shares of the uniform, the leverage and the class part in the probability."""
LEAST_BYTES = 8 * 2**20
"""Bytes in float64 of the data up to which all rows are drawn."""
MOST_BYTES = 64 * 2**20
"""Most bytes of a sample in float64."""
MOST_SHARE = 0.25
"""Largest share of the rows in a sample of more than `LEAST_BYTES`."""
LEAST_ROWS = 100
"""Least rows of a sample: fewer say nothing."""
BUDGET_PART = 8
"""Divisor of the memory that is left: a sample and its copies may occupy one eighth."""
LEVERAGE_ROWS = 4096
"""Dense rows whose leverages are computed at a time."""
LEVERAGE_FEATURES = 512
"""Most features for which leverages follow from the whole Gram matrix.

Beyond, its diagonal gives them.
"""
COPIES = 3
"""Copies of a sample, in float64, while it is gathered and used."""


@dataclass(frozen=True)
class Sample:
    """Rows of the data, and the number of rows that each represents.

    Attributes
    ----------
    values : (m, p) ndarray, or (nnz,) for CSR
        Stored values.
    indices, indptr : (nnz,), (m+1,) integers
        Arrays of CSR; empty if ``values`` is dense.
    codes : (m,) int64
        Classes, 0 … K-1.
    weights : (m,) float64
        Sample weight times the rows that the row represents; in each class they add up to the
        class's Σ wᵢ.
    numbers : (m,) int64
        Row numbers in the whole data set; -1 for the mean of a class.
    places : (m,) float64
        Places by which rows are held out, see `dsoftmax.first_pass.held_out`; -1 for the mean of
        a class.
    n_features : int
    whole : bool
        Whether it contains every row that has a weight.
    """

    values: NDArray
    indices: NDArray
    indptr: NDArray
    codes: NDArray
    weights: Float
    numbers: NDArray[np.int64]
    places: Float
    n_features: int
    whole: bool = False

    @property
    def n_rows(self) -> int:
        return len(self.codes)

    @property
    def X(self) -> Features:
        """Return the rows, (m, p) ndarray or CSR."""
        if len(self.indptr) == 0:
            return self.values
        shape = (self.n_rows, self.n_features)
        return scipy.sparse.csr_array((self.values, self.indices, self.indptr), shape=shape)

    @property
    def n_bytes(self) -> int:
        """Return the bytes of the rows in float64."""
        return 8 * self.values.size + 16 * self.n_rows


_NONE = np.zeros(0, np.int64)
NOTHING = Sample(np.zeros((0, 0)), _NONE, _NONE, _NONE, np.zeros(0), _NONE, np.zeros(0), 0)


@dataclass(frozen=True)
class Draw:
    """The sample that the first pass draws.

    Attributes
    ----------
    share : float
        Mean share of the rows; 1 draws them all.
    n_bytes : int
        Expected bytes of the sample in float64.
    """

    share: float
    n_bytes: int

    def rows(self, block: Block, codes: NDArray, weights: Float, gram: Float, where: Float) -> Rows:
        """Return the drawn rows of a leaf.

        Parameters
        ----------
        block : Block
        codes : (rows,) integers
            Codes among the labels that occur in the leaf.
        weights : (rows,) float64
        gram : (p+1, p+1) float64
            Gram matrix of the leaf; its shape is (0, 0) if it is not known.
        where : (rows,) float64
            Places of the rows: see `dsoftmax.first_pass.held_out`.

        Notes
        -----
        Work 2·(p+1)² flops a row with a Gram matrix, otherwise a few flops a value.
        """
        numbers = block.first_row + np.arange(block.n_rows)
        chances = self.chances(block.X, codes, weights, gram)
        drawn = np.flatnonzero((uniform(numbers) < chances) | ((self.share >= 1) & (weights > 0)))
        assert block.y is not None
        return Rows(
            numbers[drawn],
            {
                "X": block.X[drawn],
                "y": np.asarray(block.y)[drawn],
                "weights": weights[drawn],
                "chances": chances[drawn],
                "places": where[drawn],
            },
        )

    def chances(self, X: Features, codes: NDArray, weights: Float, gram: Float) -> Float:
        """Return the probability of each row, not yet limited to 1, (rows,)."""
        mass = np.bincount(codes, weights)
        uniform_part, class_part = weights, weights / np.where(mass > 0, mass, 1)[codes]
        parts = (uniform_part, weights * leverages(X, weights, gram), class_part)
        return self.share * sum(
            (part * _mean_one(score) for part, score in zip(PARTS, parts, strict=True)),
            np.zeros(len(weights)),
        )


def _mean_one(scores: Float) -> Float:
    total = scores.sum()
    return scores * (len(scores) / total) if total > 0 else scores


def leverages(X: Features, weights: Float, gram: Float) -> Float:
    """Return x̃ᵀG⁺x̃ of each row with x̃ = [x, 1], (rows,).

    The diagonal of G replaces a G of shape (0, 0).
    """
    n, p = X.shape
    if not weights.any():  # no row counts
        return np.zeros(n)
    if 0 < len(gram) <= LEVERAGE_FEATURES + 1:
        size = np.sqrt(np.diag(gram))
        inverse = np.divide(1, size, out=np.zeros(p + 1), where=size > 0)
        values, vectors = scipy.linalg.eigh(gram * np.outer(inverse, inverse))
        seen = values > 1e-10 * values[-1]
        basis = inverse[:, None] * vectors[:, seen] / np.sqrt(values[seen])
        out = np.empty(n)
        for rows in _slices(n):
            some = X[rows] if scipy.sparse.issparse(X) else np.ascontiguousarray(X[rows])
            out[rows] = np.square(np.asarray(some @ basis[:-1]) + basis[-1]).sum(axis=1)
        return out
    if scipy.sparse.issparse(X):
        squares = X.astype(np.float64)
        squares.data **= 2
        total = squares.T @ weights
        return squares @ np.divide(1, total, out=np.zeros(p), where=total > 0) + 1 / weights.sum()
    total = np.zeros(p)
    for rows in _slices(n):
        total += weights[rows] @ _squares(X[rows])
    inverse, out = np.divide(1, total, out=np.zeros(p), where=total > 0), np.empty(n)
    for rows in _slices(n):
        out[rows] = _squares(X[rows]) @ inverse
    return out + 1 / weights.sum()


def _squares(X: NDArray) -> Float:
    """Return squares in C order.

    Products round by the order, and a cached block may have another.
    """
    return np.square(X, order="C", dtype=np.float64)


def _slices(n: int) -> Iterator[slice]:
    """Cut ``n`` rows into slices of `LEVERAGE_ROWS`."""
    return (slice(start, start + LEVERAGE_ROWS) for start in range(0, n, LEVERAGE_ROWS))


def leverage_bytes(n_features: int, gram: bool) -> int:
    """Return the bytes that `leverages` allocates over dense rows."""
    d = n_features + 1
    if gram and n_features <= LEVERAGE_FEATURES:  # rows, their products and squares; eigenvectors
        return 32 * LEVERAGE_ROWS * d + 6 * 8 * d * d
    return 8 * LEVERAGE_ROWS * n_features + 32 * n_features


def plan_draw(source: Source, budget: int | None) -> Draw | None:
    """Return the sample to draw from a source; None if not even `LEAST_ROWS` fit.

    Parameters
    ----------
    source : Source
    budget : int or None
        Bytes that are left below the memory limit; None for no limit.
    """
    n = n_rows(source)
    itemsize = source.dtype.itemsize + (8 if source.sparse else 0)
    total = (
        int(source.chunk_bytes.sum()) * (12 if source.sparse else 8) // max(itemsize, 1)
        + (8 + max(source.columns.label, 8)) * n
    )
    most = MOST_BYTES if budget is None else min(MOST_BYTES, budget // BUDGET_PART // COPIES)
    share = 1.0 if total <= min(LEAST_BYTES, most) else min(MOST_SHARE, most / max(total, 1))
    return Draw(share, int(share * total)) if share * n >= min(n, LEAST_ROWS) else None


def sample_from(
    rows: Rows, codes: NDArray, class_sums: Float, most_rows: int, whole: bool
) -> Sample:
    """Return the sample, thinned to about ``most_rows``.

    Parameters
    ----------
    rows : Rows
        Rows that were drawn.
    codes : (m,) integers
        Their classes.
    class_sums : (K, p+1) float64
        Σ wᵢ[xᵢ, 1] by class. The mean represents a class without a row in the sample.
    most_rows : int
        A row stays with its probability times most_rows/m, decided by the same number u.
    whole : bool
        Whether these are all rows. Then all of them stay if they are at most ``most_rows``.
    """
    numbers, columns = rows.numbers, rows.columns
    chances = np.minimum(min(most_rows / max(len(codes), 1), 1.0) * columns["chances"], 1.0)
    whole = whole and len(codes) <= most_rows
    if whole:
        chances = np.ones(len(codes))
    stay = np.flatnonzero(uniform(numbers) < chances)
    X, weights = columns["X"][stay], columns["weights"][stay] / chances[stay]
    where = columns["places"][stay]
    return replace(
        _weighed(X, codes[stay].astype(np.int64), weights, numbers[stay], where, class_sums),
        whole=whole,
    )


def without(sample: Sample, held: NDArray[np.bool_], class_sums: Float) -> Sample:
    """Return the sample without some of its rows.

    Parameters
    ----------
    sample : Sample
    held : (m,) bool
        Whether each row is removed.
    class_sums : (K, p+1) float64
        Σ wᵢ[xᵢ, 1] by class of the remaining data.
    """
    stay = np.flatnonzero(~held & (sample.numbers >= 0))
    codes, weights = sample.codes[stay], sample.weights[stay]
    left = _weighed(
        sample.X[stay], codes, weights, sample.numbers[stay], sample.places[stay], class_sums
    )
    return replace(left, whole=sample.whole)


def _weighed(
    X: Features,
    codes: NDArray,
    weights: Float,
    numbers: NDArray[np.int64],
    where: Float,
    class_sums: Float,
) -> Sample:
    """Scale the weights so that each class has its sum.

    The mean represents a class without a row.
    """
    mass, p = class_sums[:, -1], class_sums.shape[1] - 1
    found = np.bincount(codes, weights, len(mass))
    weights = weights * np.divide(mass, found, out=np.zeros(len(mass)), where=found > 0)[codes]
    missing = np.flatnonzero((found == 0) & (mass > 0))
    if len(missing):
        means = class_sums[missing, :-1] / mass[missing, None]
        X = (
            scipy.sparse.vstack([X, scipy.sparse.csr_array(means)], "csr")
            if scipy.sparse.issparse(X)
            else np.vstack([X, means])
        )
        codes, weights = np.append(codes, missing), np.append(weights, mass[missing])
        numbers, where = (
            np.append(of_rows, np.full(len(missing), -1)) for of_rows in (numbers, where)
        )
    if scipy.sparse.issparse(X):
        return Sample(X.data, X.indices, X.indptr, codes, weights, numbers, where, p)
    return Sample(np.ascontiguousarray(X), _NONE, _NONE, codes, weights, numbers, where, p)


def with_class_weights(sample: Sample, class_weights: Float | None) -> Sample:
    """Return the sample with its weights multiplied by those of the classes."""
    return (
        sample
        if class_weights is None
        else replace(sample, weights=sample.weights * class_weights[sample.codes])
    )
