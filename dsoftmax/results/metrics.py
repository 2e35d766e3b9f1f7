"""How good a model is on labelled rows, in one pass."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import rows_between
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import DataError
from dsoftmax.first_pass.checks import check_finite, checked_weights
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels import softmax
from dsoftmax.results.model import Model

Float = NDArray[np.float64]

TILE_VALUES = 2**20
"""Logits that are held at once (entries)."""


@dataclass(frozen=True)
class Metrics:
    """What one pass over labelled rows says of a model; rows count by their weights.

    Attributes
    ----------
    classes : (K,) ndarray
    n_rows : int
    log_loss : float
        Mean of −log P of the label, in nats.
    confusion : (K, K) float64
        Weight of the rows of class i (row) that were taken for class j (column).
    """

    classes: NDArray
    n_rows: int
    log_loss: float
    confusion: Float

    @property
    def accuracy(self) -> float:
        """Share of the weight that was classified rightly."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def support(self) -> Float:
        """Weight of each class, (K,)."""
        return self.confusion.sum(axis=1)

    @property
    def recall(self) -> Float:
        """Of the rows of a class, the share that was found, (K,); nan for a class without rows."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def precision(self) -> Float:
        """Of the rows taken for a class, the share that is of it, (K,); nan for a class that was never predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers in JSON types; nan becomes None."""

        def plain(values: Float) -> list[float | None]:
            return [None if np.isnan(value) else float(value) for value in values]

        return {
            "n_rows": self.n_rows,
            "log_loss": self.log_loss,
            "accuracy": self.accuracy,
            "classes": self.classes.tolist(),
            "precision": plain(self.precision),
            "recall": plain(self.recall),
            "support": plain(self.support),
            "confusion": self.confusion.tolist(),
        }


def _ratio(part: Float, whole: Float) -> Float:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


@dataclass(frozen=True)
class Score:
    """The visit that compares a model with the labels."""

    model: Model

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return what a leaf takes beside its rows."""
        K = len(self.model.classes)
        return Footprint(K * K + 1, 40 * max(TILE_VALUES, K) + self.model.theta.nbytes)

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the confusion matrix and the loss of one leaf, as sums.

        Raises
        ------
        DataError
            NaN or infinity in X, a bad weight, or a label the model does not know.
        """
        check_finite(block)
        weights, codes = (
            checked_weights(block),
            Encoder(self.model.classes, trained=True).codes(block),
        )
        K = len(self.model.classes)
        confusion, loss = np.zeros(K * K), 0.0
        step = max(TILE_VALUES // K, 1)
        for start in range(0, block.n_rows, step):
            rows = slice(start, min(start + step, block.n_rows))
            logits = self.model.decision_function(rows_between(block.X, rows.start, rows.stop))
            y, s = codes[rows], weights[rows]
            confusion += np.bincount(
                y.astype(np.int64) * K + logits.argmax(axis=1), weights=s, minlength=K * K
            )
            log_p = softmax.log_softmax(logits)[np.arange(len(y)), y]
            loss -= float(s @ log_p.astype(np.float64))
        return {"confusion": confusion.reshape(K, K), "loss": np.float64(loss)}


def finish(totals: dict[str, Any], model: Model, n_rows: int) -> Metrics:
    """Return the metrics from the totals of a pass of `Score`.

    Raises
    ------
    DataError
        The weights are all zero.
    """
    weight = float(totals["confusion"].sum())
    if not weight > 0:
        raise DataError(
            "The sample weights are all zero; needed is a positive sum. Leave them out, or check their units."
        )
    return Metrics(model.classes, n_rows, float(totals["loss"]) / weight, totals["confusion"])
