"""Metrics of a model on labelled rows, and the visits that sum them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import rows_between
from dsoftmax.data.leaves import leaf_rows
from dsoftmax.data.missing import REASONS
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.errors import DataError
from dsoftmax.first_pass.checks import check_finite, checked_weights
from dsoftmax.first_pass.labels import Encoder, in_json, is_text, plain_labels, text_as
from dsoftmax.kernels import softmax
from dsoftmax.kernels.footprint import gradient_bytes
from dsoftmax.results.model import Model
from dsoftmax.results.outputs import for_rows, labels, logits

Float = NDArray[np.float64]

TILE_VALUES = 2**20
"""Logits that are in memory at once (entries)."""


@dataclass(frozen=True)
class Metrics:
    """Metrics of a model on labelled rows; every row counts by its weight.

    Attributes
    ----------
    classes : (K,) ndarray
    n_rows : int
        Rows that count.
    log_loss : float
        Mean of −log P of the label, in nats.
    confusion : (K, K) float64
        Weight of the rows of class i (row) that were predicted as class j (column).
    skipped : (4,) int64
        Rows that were skipped, in the order of `dsoftmax.data.missing.REASONS`.
    """

    classes: NDArray
    n_rows: int
    log_loss: float
    confusion: Float
    skipped: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(REASONS), np.int64))

    @property
    def accuracy(self) -> float:
        """Weighted fraction of rows whose label was predicted."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def support(self) -> Float:
        """Weight of each class, (K,)."""
        return self.confusion.sum(axis=1)

    @property
    def recall(self) -> Float:
        """Fraction of each class that was predicted as such, (K,); nan for a class without rows."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def precision(self) -> Float:
        """Fraction of right predictions of each class, (K,); nan without predictions."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers in JSON types; nan becomes None."""

        def plain(values: Float) -> list[float | None]:
            return [None if np.isnan(value) else float(value) for value in values]

        return {
            "n_rows": self.n_rows,
            "skipped": dict(zip(REASONS, self.skipped.tolist(), strict=True)),
            "log_loss": self.log_loss,
            "accuracy": self.accuracy,
            "classes": in_json(self.classes),
            "precision": plain(self.precision),
            "recall": plain(self.recall),
            "support": plain(self.support),
            "confusion": self.confusion.tolist(),
        }


def _ratio(part: Float, whole: Float) -> Float:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


@dataclass(frozen=True)
class Score(Visit):
    """Visit that sums the confusion matrix and the loss of a model.

    Attributes
    ----------
    model : Model
    most_rows : int or None
        Most rows of a leaf, if they are fewer than `dsoftmax.data.leaves.leaf_rows`.
    """

    model: Model
    most_rows: int | None = None

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return the memory of a leaf, beside its rows."""
        K = len(self.model.classes)
        scratch = _scratch_bytes(self.model, n_features, sparse, self.most_rows)
        return Footprint(K * K + 1, 40 * max(TILE_VALUES, K) + scratch)

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the confusion matrix and the loss of one leaf, as sums.

        Raises
        ------
        DataError
            NaN or infinity in X, a bad weight, or a label that the model does not know.
        """
        check_finite(block)
        weights, codes = (
            checked_weights(block),
            Encoder(self.model.classes, trained=True).codes(block),
        )
        K = len(self.model.classes)
        confusion, loss = np.zeros(K * K), 0.0
        step, model = max(TILE_VALUES // K, 1), for_rows(self.model, block)
        for start in range(0, block.n_rows, step):
            rows = slice(start, min(start + step, block.n_rows))
            z = logits(model, rows_between(block.X, rows.start, rows.stop))
            y, s = codes[rows], weights[rows]
            confusion += np.bincount(
                y.astype(np.int64) * K + z.argmax(axis=1), weights=s, minlength=K * K
            )
            log_p = softmax.log_softmax(z)[np.arange(len(y)), y]
            loss -= float(s @ log_p.astype(np.float64))
        return {"confusion": confusion.reshape(K, K), "loss": np.float64(loss)}


@dataclass(frozen=True)
class Hits(Visit):
    """Visit that sums the weight of the rows whose label is predicted, and of all rows.

    Attributes
    ----------
    model : Model
    dtype : numpy dtype or None
        Dtype of the products; follows the stored dtype when None.
    most_rows : int or None
        As in `Score`.
    """

    model: Model
    dtype: np.dtype | None = None
    most_rows: int | None = None

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return the memory of a leaf, beside its rows."""
        values = max(TILE_VALUES, len(self.model.classes))
        return Footprint(
            2, 40 * values + _scratch_bytes(self.model, n_features, sparse, self.most_rows)
        )

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the two sums of one leaf.

        Raises
        ------
        DataError
            NaN or infinity in X, a bad weight, or labels of another kind than the classes.
        """
        check_finite(block)
        weights = checked_weights(block)
        assert block.y is not None
        hits = agree(labels(for_rows(self.model, block), block.X, self.dtype), block)
        return {"hits": np.float64(weights @ hits), "weight": np.float64(weights.sum())}


def _scratch_bytes(model: Model, n_features: int, sparse: bool, most_rows: int | None) -> int:
    """Return the bytes of the logits of a leaf: θ in the dtype of the products, and a tile."""
    rows = leaf_rows(n_features) if most_rows is None else min(leaf_rows(n_features), most_rows)
    tile = gradient_bytes(n_features, len(model.classes), np.dtype(np.float64), sparse)
    if not sparse:
        tile = min(tile, rows * 8 * (n_features + 4 * len(model.classes)))
    return model.theta.nbytes + tile + 64 * n_features


def agree(predicted: NDArray, block: Block) -> NDArray[np.bool_]:
    """Return whether the label of each row of a block is the predicted one, (rows,).

    Raises
    ------
    DataError
        A label is missing or is no class, or some labels are text and the others are numbers.
    """
    assert block.y is not None
    y = plain_labels(block.y, block.names.y, block.origin)
    if len(y) and is_text(y) != is_text(predicted):
        raise DataError(
            f"{block.names.y} holds {_kind(y)}; expected {_kind(predicted)}, as the classes of the "
            "model are. Pass labels of the same kind."
        )
    found: NDArray[np.bool_] = predicted == text_as(y, predicted)
    return found


def _kind(labels: NDArray) -> str:
    return "strings" if is_text(labels) else "numbers"


def finish(totals: dict[str, Any], model: Model, n_rows: int) -> Metrics:
    """Return the metrics from the totals of a pass of `Score`.

    Raises
    ------
    DataError
        The weights are all zero.
    """
    weight = require_weight(float(totals["confusion"].sum()))
    return Metrics(model.classes, n_rows, float(totals["loss"]) / weight, totals["confusion"])


def require_weight(weight: float) -> float:
    """Return the sum of the weights.

    Raises
    ------
    DataError
        It is not positive.
    """
    if not weight > 0:
        raise DataError(
            "The sample weights are all zero; expected a positive sum. Leave the weights out, or "
            "check their units."
        )
    return weight
