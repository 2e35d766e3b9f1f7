r"""Standard deviations of the features, as scikit-learn's ``StandardScaler`` defines them.

.. math::  σ_j = \sqrt{\sum_i w_i (x_{ij} - μ_j)^2 / \sum_i w_i},
           \qquad μ_j = \sum_i w_i x_{ij} / \sum_i w_i

w are the sample weights, without those of the classes. A constant feature has σ = 1.

The sums of squares of the first pass give σ by the difference of two numbers. If the mean exceeds
the spread by far, rounding spoils the difference. One more pass then sums the squares of x − μ.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import Features, rows_between
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.first_pass.checks import checked_weights
from dsoftmax.first_pass.held_out import HeldOut, fold_of, places
from dsoftmax.first_pass.leaf_sums import TILE_BYTES, indicator, tile_rows, tiles
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.sums.totals import Largest

Float = NDArray[np.float64]

CANCELLED = 1e-6
"""Part of a mean square that is left of it without the mean, and that rounding hardly changes."""
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Spread(Visit):
    """The visit that sums the squares of x − μ in every set of rows, and finds its ranges.

    Attributes
    ----------
    pivot : (p,) float64
        Means of all rows.
    held_out : tuple of HeldOut
        Disjoint sets of rows; the rows in none of them are the last set.
    """

    pivot: Float
    held_out: tuple[HeldOut, ...] = ()

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return what a leaf allocates beside its rows."""
        values = TILE_BYTES // 8 + n_features if sparse else tile_rows(n_features) * n_features
        return Footprint(4 * (len(self.held_out) + 1) * n_features, 8 * 8 * values)

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the sums of one leaf by set of rows, (n + 1, p) each."""
        weights = checked_weights(block)
        if block.validation:
            block, weights = block.between(0, 0), weights[:0]
        sets = fold_of(self.held_out, places(block, self.held_out))
        n, p = len(self.held_out) + 1, len(self.pivot)
        sums, squares = np.zeros((n, p)), np.zeros((n, p))
        low, high = np.full((n, p), np.inf), np.full((n, p), -np.inf)
        for rows in tiles(block.X):
            tile = rows_between(block.X, rows.start, rows.stop).astype(np.float64)
            s, w = sets[rows], weights[rows]
            for one in np.unique(s[w > 0]):
                some = (s == one) & (w > 0)
                low[one] = np.minimum(low[one], _along_rows(tile[some], "min"))
                high[one] = np.maximum(high[one], _along_rows(tile[some], "max"))
            first, second = self._moments(tile, indicator(s, w, n))
            sums += first
            squares += second
        return {"sums": sums, "squares": squares, "low": Largest(-low), "high": Largest(high)}

    def _moments(self, tile: Features, by_set: Any) -> tuple[Float, Float]:
        """Return the sums of x − μ and of (x − μ)² by set, (n, p) each."""
        if not scipy.sparse.issparse(tile):
            moved = tile - self.pivot
            return by_set @ moved, by_set @ np.square(moved)
        tile.sum_duplicates()
        stored, by_set = tile.copy(), by_set.tocsr()
        tile.data -= self.pivot[tile.indices]
        first, second = (by_set @ tile).toarray(), (by_set @ tile.power(2)).toarray()
        stored.data[:] = 1
        # A zero that is not stored has x − μ = −μ. Nothing is added if all rows are stored.
        ones = by_set.copy()
        ones.data[:] = 1
        left = (ones @ stored).toarray() < np.asarray(ones.sum(axis=1)).reshape(-1, 1)
        absent = np.asarray(by_set.sum(axis=1)).reshape(-1, 1) - (by_set @ stored).toarray()
        absent = np.where(left, absent, 0.0)
        return first - absent * self.pivot, second + absent * self.pivot**2


def _along_rows(rows: Features, which: str) -> Float:
    found = getattr(rows, which)(axis=0)
    return found.toarray().ravel() if scipy.sparse.issparse(rows) else found


def squares_by_set(X: Features, sets: NDArray, weights: Float, n: int) -> Float:
    """Return Σ wx² over the rows of each set, (n, p).

    Parameters
    ----------
    X : (rows, p) ndarray or CSR
    sets : (rows,) integers
        Set of each row, below ``n``.
    weights : (rows,) float64
    n : int
    """
    found = np.zeros((n, X.shape[1]))
    for rows in tiles(X):
        tile = rows_between(X, rows.start, rows.stop).astype(np.float64)
        by_set = indicator(sets[rows], weights[rows], n)
        if scipy.sparse.issparse(tile):
            tile.sum_duplicates()
            found += (by_set.tocsr() @ tile.power(2)).toarray()
        else:
            found += by_set @ np.square(tile)
    return found


def all_rows_and_others(statistics: Statistics) -> Iterator[tuple[float, Float]]:
    """Yield weight and means of all rows, then of those that remain without each held-out set."""
    sums = statistics.class_sums.sum(axis=0)
    for held in (np.zeros(len(sums)), *statistics.held_sums.sum(axis=1)):
        left = sums - held
        yield float(left[-1]), left[:-1] / left[-1]


def scales_from_squares(statistics: Statistics, held_squares: Float) -> Float | None:
    """Return σ of all rows, and of those without each held-out set, (n + 1, p).

    None if rounding spoils one of them.

    Parameters
    ----------
    statistics : Statistics
    held_squares : (n, p) float64
        Σ wx² of each held-out set.
    """
    constant, found = statistics.low == statistics.high, []
    held = (np.zeros(len(constant)), *held_squares)
    for (weight, means), squares in zip(all_rows_and_others(statistics), held, strict=True):
        mean_squares = np.maximum(statistics.squares - squares, 0) / weight
        variances = mean_squares - means**2
        if np.any((variances <= CANCELLED * mean_squares) & (mean_squares > 0) & ~constant):
            return None
        found.append(scale_of(np.where(constant, 0, variances), means, weight))
    return np.array(found)


def scales_from_spread(
    statistics: Statistics, pivot: Float, sums: Mapping[str, Any], held_out: Sequence[HeldOut]
) -> Float:
    """Return σ of all rows, and of those without each held-out set, (n + 1, p).

    Parameters
    ----------
    statistics : Statistics
    pivot : (p,) float64
    sums : mapping
        Result of a pass of `Spread`.
    held_out : sequence of HeldOut
    """
    n, found = len(held_out), []
    weights = [weight for weight, _ in all_rows_and_others(statistics)]
    for without, weight in zip((None, *range(n)), weights, strict=True):
        rest = [one for one in range(n + 1) if one != without]
        first, second = (sums[name][rest].sum(axis=0) / weight for name in ("sums", "squares"))
        constant = -sums["low"][rest].max(axis=0) >= sums["high"][rest].max(axis=0)
        variances = np.where(constant, 0, second - first**2)
        found.append(scale_of(variances, pivot + first, weight))
    return np.array(found)


def scale_of(variances: Float, means: Float, weight: float) -> Float:
    """Return the square roots of variances, with 1 for features that are constant but for rounding.

    The bound of the rounding is that of scikit-learn, from Chan, Golub and LeVeque 1983,
    "Algorithms for computing the sample variance".
    """
    bound = weight * EPS * variances + (weight * means * EPS) ** 2
    return np.where(variances <= bound, 1.0, np.sqrt(np.maximum(variances, 0)))
