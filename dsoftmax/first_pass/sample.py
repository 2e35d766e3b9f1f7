r"""A random sample of the rows, drawn in the first pass.

It fits the memory and contains the rows that matter.

Which rows are drawn depends on the number of each row and on its leaf alone, so every engine
draws the same rows. Row i of a leaf of n rows is drawn if u(i) < pᵢ. u is a hash of its number in
the whole data set, uniform on [0, 1), and

.. math::  p_i = \min(1, c\, (0.1\, u_i + 0.8\, l_i + 0.1\, c_i)).

Each part adds up to 1 in the leaf, and c is chosen so that the pᵢ add up to share·n.

* uᵢ is the row's weight.
* lᵢ is its leverage in the leaf (`dsoftmax.first_pass.leverages`). The Gram matrix of a leaf is at
  most that of all rows, so a row that matters among all rows matters in its leaf.
* cᵢ is the weight divided by that of its class, so that rare classes are drawn.

Rows of high leverage decide how few passes a solver needs that steps on the sample. With parts of
0.4, 0.3 and 0.3, kddcup99 (60,000 rows) took more than 15 passes. It takes 6 now.

A row that is drawn represents 1/pᵢ rows. The weights are scaled so that each class has its own
sum (post-stratification).
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import Features
from dsoftmax.data.source import Source, n_rows
from dsoftmax.first_pass.held_out import uniform
from dsoftmax.first_pass.leverages import LEVERAGE_FEATURES, leverages
from dsoftmax.sums.totals import Rows

Float = NDArray[np.float64]

PARTS = (0.1, 0.8, 0.1)
"""Shares of the uniform, the leverage and the class part in the probability."""
LEAST_BYTES = 8 * 2**20
"""Bytes in float64 of the data up to which all rows are drawn."""
MOST_BYTES = 64 * 2**20
"""Most bytes of a sample as it is stored."""
MOST_SHARE, MOST_SHARE_READ = 0.25, 0.5
"""Largest share of the rows in a sample of more than `LEAST_BYTES`, in memory and out of it.

A larger sample saves reads if rows must be read. In memory it costs more than it saves.
"""
ROWS_PER_ENTRY = 20
"""Rows for each free parameter to which a larger sample is thinned."""
WHOLE_FACTOR = 4
"""Factor on the rows to which a sample is thinned, up to which all rows of the data stay.

F on all rows needs no further pass. Beyond six to twelve times as many rows, the passes that a
thinned sample needs cost less than Newton's method on all rows.
"""
LEAST_SAMPLE = 2000
"""Rows below which no sample is thinned."""
LEAST_ROWS = 100
"""Least rows of a sample: fewer say nothing."""
BUDGET_PART = 8
"""Divisor of the memory that is left: a sample and its copies may occupy one eighth."""
COPIES = 3
"""Copies of a sample, as it is stored, while it is gathered and thinned."""


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

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of the rows as they are stored, with weights, numbers and places."""
        return int(self.values.nbytes + self.indices.nbytes) + 32 * self.n_rows


_NONE = np.zeros(0, np.int64)
NO_GRAM = np.zeros((0, 0))
NOTHING = Sample(np.zeros((0, 0)), _NONE, _NONE, _NONE, np.zeros(0), _NONE, np.zeros(0), 0)


@dataclass(frozen=True)
class Draw:
    """The sample that the first pass draws.

    Attributes
    ----------
    share : float
        Mean share of the rows; 1 draws them all.
    n_bytes : int
        Expected bytes of the rows that are drawn, as they are stored.
    double_bytes : int
        Their bytes in float64.
    """

    share: float
    n_bytes: int
    double_bytes: int = 0

    def by_gram(self, n_features: int) -> bool:
        """Return whether leverages follow from the whole Gram matrix of a leaf of dense rows."""
        return self.share < 1 and n_features <= LEVERAGE_FEATURES

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
        numbers = block.row_numbers
        chances = self.chances(block.X, codes, weights, gram)
        drawn = np.flatnonzero(uniform(numbers) < chances)
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
        """Return the probability of each row of a leaf, not yet limited to 1, (rows,)."""
        if self.share >= 1:
            return (weights > 0).astype(np.float64)
        return filled(scores(X, codes, weights, gram), self.share * len(weights))


def scores(
    X: Features, codes: NDArray, weights: Float, gram: Float, seen: Float | float = 1.0
) -> Float:
    """Return 0.1·u + 0.8·l + 0.1·c of each row, (rows,); about 1 in all.

    Parameters
    ----------
    X : (rows, p) ndarray or CSR
    codes : (rows,) integers
    weights : (rows,) float64
    gram : (p+1, p+1) float64
        G of the rows that these rows stand for; its shape is (0, 0) if it is not known.
    seen : (rows,) float64 or float
        Probability with which each row was drawn from these.
    """
    mass = np.bincount(codes, weights / seen)
    uniform_part, class_part = weights, weights / np.where(mass > 0, mass, 1)[codes]
    parts = (uniform_part, weights * leverages(X, weights / seen, gram), class_part)
    found = np.zeros(len(weights))
    for share, part in zip(PARTS, parts, strict=True):
        total = float(np.sum(part / seen))
        if total > 0:
            found += part * (share / total)
    return found


def filled(scores: Float, n: float, seen: Float | float = 1.0) -> Float:
    """Return c·score with the c for which the probabilities min(1, c·score) add up to ``n``.

    Parameters
    ----------
    scores : (m,) float64
        Not negative.
    n : float
        Expected number of rows.
    seen : (m,) float64 or float
        Probability with which each row was drawn before: it stands for 1/seen rows.

    Returns
    -------
    (m,) float64
        At least 1 for every positive score if ``n`` is at least their number.
    """
    rows = np.broadcast_to(1 / np.asarray(seen, np.float64), scores.shape)
    positive = scores > 0
    if n >= rows[positive].sum():
        return scores / np.min(scores, where=positive, initial=np.inf)
    order = np.argsort(-scores, kind="stable")
    # With the first j rows at probability 1, c is what the others leave: the first j will do with
    # which the next row is no more than 1.
    ahead = np.cumsum(rows[order]) - rows[order]
    rest = np.cumsum((rows * scores)[order][::-1])[::-1]
    factors = (n - ahead) / np.where(rest > 0, rest, np.inf)
    j = int(np.argmax(factors * scores[order] <= 1))
    return factors[j] * scores


def plan_draw(source: Source, budget: int | None) -> Draw | None:
    """Return the sample to draw from a source; None if not even `LEAST_ROWS` fit.

    Parameters
    ----------
    source : Source
    budget : int or None
        Bytes that are left below the memory limit; None for no limit.
    """
    n, stored = n_rows(source), int(source.chunk_bytes.sum())
    itemsize = source.dtype.itemsize + (8 if source.sparse else 0)
    columns = (8 + max(source.columns.label, 8)) * n
    double = stored * (12 if source.sparse else 8) // max(itemsize, 1) + columns
    total = double if source.columns.decoded else stored + columns
    most = MOST_BYTES if budget is None else min(MOST_BYTES, budget // BUDGET_PART // COPIES)
    largest = MOST_SHARE if source.resident else MOST_SHARE_READ
    share = 1.0 if double <= min(LEAST_BYTES, most) else min(largest, most / max(total, 1))
    if share * n < min(n, LEAST_ROWS):
        return None
    return Draw(share, int(share * total), int(share * double))


def kept_rows(drawn: int, whole: bool, n_columns: int, n_classes: int) -> int:
    """Return about how many of the drawn rows stay in the sample.

    Parameters
    ----------
    drawn : int
        Number of rows that were drawn.
    whole : bool
        Whether these are all rows of the data.
    n_columns, n_classes : int
        p+1 and K.
    """
    most = max(ROWS_PER_ENTRY * n_columns * (n_classes - 1), LEAST_SAMPLE)
    return drawn if whole and drawn <= WHOLE_FACTOR * most else min(drawn, most)


def sample_from(
    rows: Rows,
    codes: NDArray,
    class_sums: Float,
    n_kept: int,
    whole: bool,
    gram: Float = NO_GRAM,
) -> Sample:
    """Return the sample, thinned to about ``n_kept`` rows.

    Parameters
    ----------
    rows : Rows
        Rows that were drawn.
    codes : (m,) integers
        Their classes.
    class_sums : (K, p+1) float64
        Σ wᵢ[xᵢ, 1] by class. The mean represents a class without a row in the sample.
    n_kept : int
        Rows that stay, about: those of a draw with smaller probabilities, decided by the same
        numbers u.
    whole : bool
        Whether these are all rows of the data.
    gram : (p+1, p+1) float64
        G of all rows, by which the draw is thinned; its shape is (0, 0) if it is not known.
    """
    numbers, columns = rows.numbers, rows.columns
    drawn = np.minimum(columns["chances"], 1.0)
    chances = drawn
    if len(codes) > n_kept:
        again = scores(columns["X"], codes, columns["weights"], gram, drawn)
        chances = np.minimum(filled(again, n_kept, drawn), drawn)
    stay = np.flatnonzero(uniform(numbers) < chances)
    X, weights = columns["X"][stay], columns["weights"][stay] / chances[stay]
    where = columns["places"][stay]
    return replace(
        _weighed(X, codes[stay].astype(np.int64), weights, numbers[stay], where, class_sums),
        whole=whole and len(codes) <= n_kept,
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
