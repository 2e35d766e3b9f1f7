"""The statistics of the first pass: classes, their sums, and the scale of every feature."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.data.missing import REASONS
from dsoftmax.errors import DataError
from dsoftmax.first_pass.held_out import HeldOut
from dsoftmax.first_pass.sample import NOTHING, Sample, without

Float = NDArray[np.float64]
SHOWN = 10
"""Most numbers that a message lists."""


@dataclass(frozen=True)
class Statistics:
    """Sums over all rows or by class; wᵢ are the sample weights, not multiplied by class weights.

    Attributes
    ----------
    classes : (K,) ndarray
        Ascending.
    class_rows : (K,) int64
        Rows of each class.
    class_sums : (K, p+1) float64
        Σ wᵢ[xᵢ, 1] over the rows of each class.
    squares : (p,) float64
        Σ wᵢxᵢ².
    low, high : (p,) float64
        Range of each feature.
    absolute : (p+1,) float64
        Σ wᵢ|x̃ᵢⱼ|·‖x̃ᵢ‖₁ with x̃ = [x, 1]: row sums that bound the Gram matrix.
    gram : (p+1, p+1) float64
        Σ wᵢx̃ᵢx̃ᵢᵀ if it was asked for, else of shape (0, 0).
    weight : float
        Σ wᵢ over all rows, held out or not.
    least_weight : float
        Least weight wᵢ that is not 0.
    gram_share : float
        Share of the rows from which the Gram matrix was estimated; 1 if it is exact.
    sample : Sample
        Rows that were drawn; empty if none were.
    held_rows : (n, K) int64
        Rows of each class in each of n sets that are held out.
    held_sums : (n, K, p+1) float64
        Their class sums.
    skipped : (4,) int64
        Rows that were skipped, in the order of `dsoftmax.data.missing.REASONS`. No other attribute
        counts them.
    scale : (p,) float64
        Standard deviations σ of the features, 1 for constant ones, if they are standardised; else
        of shape (0,). See `dsoftmax.first_pass.spread`.
    held_scales : (n, p) float64
        σ of the rows that remain when each set is held out.
    soft : (K, p+1) float64
        D of soft labels, see `dsoftmax.first_pass.soft`; of shape (0, 0) if labels are hard. Rows
        of a class are then those of which it is the most probable class.
    held_soft : (n, K, p+1) float64
        D of each set that is held out.
    scored_soft : (K, p+1) float64
        D of the rows that score this model: those of a validation source, or of a held-out set.
    n_passes : int
        Passes that collected these statistics.
    """

    classes: NDArray
    class_rows: NDArray[np.int64]
    class_sums: Float
    squares: Float
    low: Float
    high: Float
    absolute: Float
    gram: Float
    weight: float = 0.0
    least_weight: float = 1.0
    gram_share: float = 1.0
    sample: Sample = NOTHING
    held_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    held_sums: Float = field(default_factory=lambda: np.zeros((0, 0, 0)))
    skipped: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(REASONS), np.int64))
    scale: Float = field(default_factory=lambda: np.zeros(0))
    held_scales: Float = field(default_factory=lambda: np.zeros((0, 0)))
    soft: Float = field(default_factory=lambda: np.zeros((0, 0)))
    held_soft: Float = field(default_factory=lambda: np.zeros((0, 0, 0)))
    scored_soft: Float = field(default_factory=lambda: np.zeros((0, 0)))
    n_passes: int = 1

    def without(self, number: int, held: HeldOut) -> "Statistics":
        """Return the statistics of the rows that remain when set ``number`` is held out.

        Class sums, scales and sample are those of the remaining rows. Ranges, squares and the Gram
        matrix stay those of all rows, because they only bound and shape steps.
        """
        sums = self.class_sums - self.held_sums[number]
        sums[:, -1] = np.maximum(sums[:, -1], 0)
        rows = self.class_rows - self.held_rows[number]
        sums[rows == 0] = 0
        left = (
            without(self.sample, held.mask(self.sample.places), sums)
            if self.sample.n_rows
            else self.sample
        )
        return replace(
            self,
            class_rows=rows,
            class_sums=sums,
            sample=left,
            held_rows=self.held_rows[:0],
            held_sums=self.held_sums[:0],
            scale=self.held_scales[number] if len(self.scale) else self.scale,
            held_scales=self.held_scales[:0],
            soft=self.soft - self.held_soft[number] if self.soft.size else self.soft,
            held_soft=self.held_soft[:0],
            scored_soft=self.held_soft[number] if self.soft.size else self.soft,
        )

    def require_held(self, held_out: Sequence[HeldOut], marked: Float | None = None) -> None:
        """Raise unless each held-out set has rows with a weight, and leaves some to train on.

        Parameters
        ----------
        held_out : sequence of HeldOut
            Sets that ``held_rows`` and ``held_sums`` describe.
        marked : (MARKS,) float64, optional
            `dsoftmax.first_pass.held_out.marks` of the groups.

        Raises
        ------
        DataError
            The message names the sets, with the rows and groups of each.
        """
        rows, weights = self.held_rows.sum(axis=1), self.held_sums[:, :, -1].sum(axis=1)
        bad = [i for i, weight in enumerate(weights) if not 0 < weight < self.weight * (1 - 1e-12)]
        if not bad:
            return
        found, cure = f"{_listed(rows)} of {self.class_rows.sum():,} rows", "more rows"
        if marked is not None:
            known = marked[marked >= 0]
            counts = [int(held.mask(known).sum()) for held in held_out]
            found, cure = f"{found}, at least {_listed(counts)} groups", "smaller groups"
        if len(held_out) == 1:
            raise DataError(
                f"The validation set has {found}; expected rows with a weight in it, and others to "
                f"train on. Pass another validation_fraction, or {cure}."
            )
        hashed = "number" if marked is None else "group"
        if held_out[0].given:
            raise DataError(
                f"The folds hold {_listed(rows)} rows: fold {_listed(bad)} has no row with a "
                "weight, or all of them; expected rows with a weight inside and outside every "
                f"fold. Pass a column with all the numbers from 0 to {len(rows) - 1}, or another "
                "number of folds as cv (--folds)."
            )
        raise DataError(
            f"The folds hold {found}: fold {_listed(bad)} has no row with a weight, or all of "
            "them; expected rows with a weight inside and outside every fold. The fold of a row "
            f"follows from a hash of its {hashed}, so few rows may leave a fold empty. Pass fewer "
            f"folds, or {cure}."
        )

    @property
    def class_weights(self) -> Float:
        """Return Σ wᵢ over the rows of each class, (K,)."""
        return self.class_sums[:, -1]

    def largest_eigenvalue(self, fit_intercept: bool) -> float:
        """Return an upper bound of λmax(Σ wᵢx̃ᵢx̃ᵢᵀ).

        It is the eigenvalue if the Gram matrix is known exactly. Otherwise it is the smaller of
        the trace and the largest row sum of absolute values (Gershgorin).
        """
        use = slice(None) if fit_intercept else slice(-1)
        if self.gram.size and self.gram_share == 1:
            G = self.gram[use, use]
            top = scipy.linalg.eigvalsh(G, subset_by_index=[len(G) - 1, len(G) - 1])
            return float(top[0]) * (1 + 1e-12)
        trace = float(self.squares.sum() + fit_intercept * self.class_weights.sum())
        return min(trace, float(self.absolute[use].max()))


def _listed(numbers: Iterable[int]) -> str:
    shown = [f"{number:,}" for number in numbers]
    return ", ".join(shown if len(shown) <= SHOWN else [*shown[:SHOWN], "…"])
