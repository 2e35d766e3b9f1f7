"""Scores of the folds by a function of the user, in one pass after the training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.errors import OptionError
from dsoftmax.first_pass.held_out import HeldOut, places
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels import softmax
from dsoftmax.objective.scores import score_bytes, scored_rows
from dsoftmax.training.passes import Passes

Float = NDArray[np.float64]


@dataclass(frozen=True)
class OwnScores(Visit):
    """Visit that sums a user's score over the rows that each fold holds out.

    Attributes
    ----------
    scoring : callable
        From labels (rows,), probabilities (rows, K) and weights (rows,) to the sum of the rows'
        scores times their weights.
    folds : tuple of HeldOut
    thetas : (n_folds, n_Cs, K, p+1) float64
        Coefficients of the models that did not see the rows of a fold.
    encoder : Encoder
    """

    scoring: Any
    folds: tuple[HeldOut, ...]
    thetas: Float
    encoder: Encoder

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return the memory of a leaf, beside its rows."""
        K = len(self.encoder.classes)
        return Footprint(
            len(self.folds) * (1 + self.thetas.shape[1]),
            2 * score_bytes(n_features, K) + self.thetas.nbytes,
        )

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the sums of scores, (n_folds, n_Cs), and of weights, (n_folds,).

        Raises
        ------
        OptionError
            ``scoring`` does not return one finite number.
        """
        block = block.decoded()
        labels = self.encoder.classes[self.encoder.codes(block)]
        weights = np.ones(block.n_rows) if block.weights is None else block.weights
        where, step = places(block, self.folds), scored_rows(*self.thetas.shape[2:])
        sums, total = np.zeros(self.thetas.shape[:2]), np.zeros(len(self.folds))
        for fold, held in enumerate(self.folds):
            rows = np.flatnonzero(held.mask(where))
            total[fold] = weights[rows].sum()
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                X, y, s = block.X[some], labels[some], weights[some]
                for number, theta in enumerate(self.thetas[fold]):
                    P = softmax.softmax(softmax.decision_function(theta, X))
                    sums[fold, number] += self._score(y, P, s)
        return {"scores": sums, "weights": total}

    def _score(self, y: NDArray, P: NDArray, weights: Float) -> float:
        found = np.asarray(self.scoring(y, P, weights))
        if found.shape != () or found.dtype.kind not in "biuf" or not np.isfinite(found):
            raise OptionError(
                f"scoring returned {found!r}; expected one finite number, the sum over the rows "
                "of score times weight. Return for example (weights * scores).sum()."
            )
        return float(found)


def own_scores(
    scoring: Any,
    folds: Sequence[HeldOut],
    thetas: Float,
    classes: NDArray,
) -> Passes[Float]:
    """Return the mean scores of every fold and model, (n_folds, n_Cs), from one pass.

    Parameters
    ----------
    scoring : callable
    folds : sequence of HeldOut
    thetas : (n_folds, n_Cs, K, p+1) float64
    classes : (K,) ndarray
    """
    visit = OwnScores(scoring, tuple(folds), thetas, Encoder(classes))
    found = (yield visit).result()
    means: Float = found["scores"] / found["weights"][:, None]
    return means
