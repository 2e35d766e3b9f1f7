"""What the first pass learns: the classes, their sums, the scale of every feature, a sample; and that everything is finite."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import Features, rows_between
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.errors import DataError
from dsoftmax.first_pass.checks import check_count, check_finite, checked_weights
from dsoftmax.first_pass.held_out import MARKS, Held, held_by, marks, places
from dsoftmax.first_pass.labels import Encoder, given_classes, ordered_classes, plain_labels
from dsoftmax.first_pass.leaf_sums import TILE_BYTES, _LeafSums, labels_and_codes, tile_rows, tiles
from dsoftmax.first_pass.sample import NOTHING, Draw, Sample
from dsoftmax.first_pass.sample import finish as finish_sample
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.kernels.compiled import kernel as fused
from dsoftmax.sums.totals import Grouped, Largest

Float = NDArray[np.float64]
MAX_GRAM_FEATURES = 4096
"""Beyond this the Gram matrix costs more than it tells."""
GRAM_FEATURES = 64
"""With no more features than this, all rows go into an estimate of the Gram matrix too."""
GRAM_ROWS = 16
"""An estimate of the Gram matrix is made of at least so many rows for each feature."""
ROWS_PER_ENTRY = 20
"""A sample is thinned to so many rows for each free parameter, where it holds more, and to `LEAST_SAMPLE` at least."""
LEAST_SAMPLE = 2000
USUAL_CLASSES = 16
"""Classes that memory is planned for until the first pass has counted them."""


@dataclass(frozen=True)
class Collect(Visit):
    """The visit of the first pass.

    Attributes
    ----------
    gram : float
        The part of the rows from which to collect the Gram matrix, 0 … 1; p² flops for each of them.
    encoder : Encoder, optional
        Of the classes that were given: other labels are an error, here where their rows are known.
    draw : Draw, optional
        The sample to draw.
    helds : tuple of Held
        Disjoint parts whose class sums are collected apart as well.
    kernel : {"numpy", "fused"}
        What sums CSR rows.
    """

    gram: float = 0.0
    encoder: Encoder | None = None
    draw: Draw | None = None
    helds: tuple[Held, ...] = ()
    kernel: str = "numpy"

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return what a leaf takes beside its rows; classes that are not known yet are taken to be `USUAL_CLASSES`."""
        K, d = USUAL_CLASSES if self.encoder is None else len(self.encoder.classes), n_features + 1
        values = TILE_BYTES // 8 + n_features if sparse else tile_rows(n_features) * n_features
        drawn = 0 if self.draw is None else self.draw.n_bytes
        return Footprint(
            (K * (1 + len(self.helds)) + 4) * d
            + d * d * (self.gram > 0)
            + MARKS * bool(self.helds),
            8 * 8 * values + 64 * n_features,
            fused.CODE_BYTES if self.kernel == "fused" and sparse else 0,
            rows=drawn,
        )

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the sums of one leaf, in float64.

        Raises
        ------
        DataError
            NaN or infinity in X, y or the weights; a negative weight; a label that is no class.
        """
        check_finite(block)
        weights = checked_weights(block)
        assert block.y is not None
        y = plain_labels(block.y, block.names.y, block.first_row)
        if self.encoder is not None:
            self.encoder.codes(block)
        if block.validation:  # its rows were checked; nothing is learnt from them
            block, weights, y = block.between(0, 0), weights[:0], y[:0]
        X, p = block.X, block.X.shape[1]
        labels, codes = labels_and_codes(y)
        check_count(len(labels), block)
        where = places(block)
        parts = held_by(self.helds, where)
        n_parts, n_labels = len(self.helds) + 1, len(labels)
        by_part = codes + n_labels * parts
        sums, gram, in_gram = self._sums(X, by_part, weights, n_labels * n_parts)
        sums.by_class[:, -1] = np.bincount(by_part, weights, n_labels * n_parts)
        by_class = sums.by_class.reshape(n_parts, n_labels, p + 1)
        counts = np.bincount(by_part, minlength=n_labels * n_parts).reshape(n_parts, n_labels)
        all_sums, all_counts = (
            by_class.sum(axis=0) if n_parts > 1 else by_class[0],
            counts.sum(axis=0),
        )
        leaf = {
            "by_label": Grouped(
                {
                    label: {"rows": all_counts[k], "sums": all_sums[k]}
                    for k, label in enumerate(labels.tolist())
                }
            ),
            "squares": sums.squares,
            "low": Largest(-sums.low),
            "high": Largest(sums.high),
            "absolute": sums.absolute,
            "least_weight": Largest(
                -np.min(weights, where=weights > 0, initial=np.inf, keepdims=True)
            ),
        }
        for i in range(n_parts - 1):
            here = {
                label: {"rows": counts[i, k], "sums": by_class[i, k]}
                for k, label in enumerate(labels.tolist())
            }
            leaf[f"held {i}"] = Grouped(here)
        if self.helds and block.groups is not None:
            leaf["marks"] = Largest(marks(where))
        if self.gram:
            leaf |= {"gram": gram, "gram_weight": np.float64(gram[-1, -1])}
        if self.draw is not None:
            leaf["sample"] = self.draw.rows(
                block, codes, weights, gram if in_gram == block.n_rows else NO_GRAM, where
            )
        return leaf

    def _sums(
        self, X: Features, codes: NDArray, weights: Float, n_labels: int
    ) -> "tuple[_LeafSums | fused.FeatureSums, Float, float]":
        """Return the sums of a leaf, the Gram matrix, and how many rows are in it."""
        sparse = scipy.sparse.issparse(X)
        if sparse and self.kernel == "fused" and not self.gram:
            fused.require()
            found = fused.csr_sums(X, codes, weights, n_labels)
            if found is not None:
                return found, NO_GRAM, 0.0
        sums = _LeafSums(n_labels, X.shape[1], self.gram > 0)
        add = sums.add_sparse if sparse else sums.add_dense
        passed, in_gram = 0.0, 0.0
        for rows in tiles(X):
            passed += self.gram * (rows.stop - rows.start)
            whole = (
                passed > in_gram
            )  # a tile now and then, so that their rows are the part that was asked for
            in_gram += whole * (rows.stop - rows.start)
            add(rows_between(X, rows.start, rows.stop), codes[rows], weights[rows], whole)
        return sums, sums.gram, in_gram


NO_GRAM = np.zeros((0, 0))


def gram_part(n_features: int, n: int) -> float:
    """Return the part of the rows from which the Gram matrix is estimated: all where features are few."""
    return 1.0 if n_features <= GRAM_FEATURES else min(GRAM_ROWS * n_features / max(n, 1), 1.0)


def finish(totals: dict[str, Any], classes: NDArray | None) -> Statistics:
    """Return the statistics from the totals of a pass of `Collect`.

    Parameters
    ----------
    totals : dict
    classes : (K,) ndarray, optional
        Given classes, those of the visit's encoder: may name more than the data hold.

    Raises
    ------
    DataError
        One class only, or weights that are all zero.
    """
    found = totals["by_label"]
    check_count(len(found), None)
    if classes is None:
        ordered = ordered_classes(found)
    else:
        ordered = given_classes(classes)
        if len(found) < 2:
            ordered_classes(found)  # raises: one class only
    rows, sums = _by_class(found, ordered, len(totals["squares"]))
    if not sums[:, -1].sum() > 0:
        raise DataError(
            "The sample weights are all zero; needed is a positive sum. Leave them out, or check their units."
        )
    gram = totals.get("gram", NO_GRAM)
    share = 1.0
    if gram.size and totals["gram_weight"] > 0:
        share = float(totals["gram_weight"] / sums[:, -1].sum())
    parts = [
        _by_class(totals[f"held {i}"], ordered, len(totals["squares"]))
        for i in range(len(totals))
        if f"held {i}" in totals
    ]
    return Statistics(
        ordered,
        rows,
        sums,
        totals["squares"],
        -totals["low"],
        totals["high"],
        totals["absolute"],
        gram if share == 1 else gram / share,
        float(sums[:, -1].sum()),
        float(-totals["least_weight"][0]),
        share,
        _sample(totals, ordered, sums),
        np.array([one for one, _ in parts], np.int64).reshape(-1, len(rows)),
        np.array([one for _, one in parts]).reshape(-1, *sums.shape),
    )


def _by_class(found: dict[Any, Any], classes: NDArray, p: int) -> tuple[NDArray[np.int64], Float]:
    """Return rows and sums by class, zeros for a class that was not found."""
    nothing = {"rows": np.int64(0), "sums": np.zeros(p + 1)}
    per_class = [found.get(label, nothing) for label in classes.tolist()]
    rows = np.array([int(one["rows"]) for one in per_class], np.int64)
    assert rows.sum() == sum(int(one["rows"]) for one in found.values()), (
        "labels that no class is equal to"
    )
    return rows, np.stack([one["sums"] for one in per_class])


def _sample(totals: dict[str, Any], classes: NDArray, sums: Float) -> Sample:
    rows = totals.get("sample")
    if rows is None:
        return NOTHING
    K, d = sums.shape
    codes = Encoder(classes).codes(Block(rows.columns["X"], rows.columns["y"]))
    most = max(ROWS_PER_ENTRY * d * (K - 1), LEAST_SAMPLE)
    mass = float(sums[:, -1].sum())  # rows without weight are not drawn
    return finish_sample(
        rows, codes, sums, most, whole=bool(rows.columns["weights"].sum() >= mass * (1 - 1e-12))
    )
