"""The visit of the first pass.

It collects sums by class, the scale of every feature and a sample, and checks all values.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.features import Features, rows_between
from dsoftmax.data.soft import is_soft
from dsoftmax.engines.visit import Footprint, Visit
from dsoftmax.errors import DataError
from dsoftmax.first_pass.checks import check_count, check_finite, checked_weights
from dsoftmax.first_pass.held_out import MARKS, HeldOut, fold_of, marks, places
from dsoftmax.first_pass.labels import Encoder, plain_labels, text_as
from dsoftmax.first_pass.leaf_sums import TILE_BYTES, LeafSums, labels_and_codes, tile_rows, tiles
from dsoftmax.first_pass.leverages import leverage_bytes
from dsoftmax.first_pass.sample import NO_GRAM, Draw
from dsoftmax.first_pass.soft import soft_bytes, soft_sums
from dsoftmax.first_pass.spread import squares_by_set
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.kernels.compiled.csr_sums import FeatureSums
from dsoftmax.sums.totals import Grouped, Largest

Float = NDArray[np.float64]

MAX_GRAM_FEATURES = 4096
"""Number of features from which the Gram matrix costs more than it tells."""
GRAM_FEATURES = 64
"""Most features for which all rows count towards an estimate of the Gram matrix."""
GRAM_ROWS = 16
"""Least rows for each feature in an estimate of the Gram matrix."""
USUAL_CLASSES = 16
"""Number of classes for which memory is planned until the first pass has counted them."""


@dataclass(frozen=True)
class HeldOutSums:
    """Key of the class sums of one set of rows that is held out.

    Attributes
    ----------
    number : int
        Number of the set in `Collect.held_out`.
    """

    number: int


@dataclass(frozen=True)
class Collect(Visit):
    """The visit of the first pass.

    Attributes
    ----------
    gram : float
        Share of the rows from which the Gram matrix is collected, 0 … 1, at p² flops for each of
        them.
    encoder : Encoder, optional
        Encoder of given classes. Other labels raise here, where their row numbers are known.
    draw : Draw, optional
        Sample to draw.
    held_out : tuple of HeldOut
        Disjoint sets of rows whose class sums are also collected apart.
    kernel : {"numpy", "fused"}
        Name of the kernel that sums CSR rows.
    scaled : bool
        Whether the features are standardised: Σ wx² is then also collected by held-out set.
    soft : bool
        Whether the labels are soft; then the encoder is given.
    """

    gram: float = 0.0
    encoder: Encoder | None = None
    draw: Draw | None = None
    held_out: tuple[HeldOut, ...] = ()
    kernel: str = "numpy"
    scaled: bool = False
    soft: bool = False

    def footprint(self, n_features: int, sparse: bool) -> Footprint:
        """Return what a leaf allocates beside its rows.

        Unknown classes count as `USUAL_CLASSES`.
        """
        K, d = USUAL_CLASSES if self.encoder is None else len(self.encoder.classes), n_features + 1
        values = TILE_BYTES // 8 + n_features if sparse else tile_rows(n_features) * n_features
        sums = (K * (1 + len(self.held_out)) + 4) * d + d * d * (self.gram > 0)
        sums += (len(self.held_out) + 1) * n_features * self.scaled
        scratch = 8 * 8 * values + 64 * n_features
        if self.soft:
            sums += (len(self.held_out) + 2) * K * d
            scratch = max(scratch, soft_bytes(n_features, K))
        if self.draw is not None and not sparse:
            scratch = max(scratch, leverage_bytes(n_features, self.gram > 0))
        return Footprint(
            sums + MARKS * bool(self.held_out),
            scratch,
            KERNELS[self.kernel].code_bytes if sparse else 0,
            rows=0 if self.draw is None else self.draw.n_bytes,
        )

    def __call__(self, block: Block) -> dict[Any, Any]:
        """Return the sums of one leaf, in float64.

        Raises
        ------
        DataError
            X, y or the weights contain NaN or infinity, a weight is negative, or a label is no
            class.
        """
        block = block.decoded()
        check_finite(block)
        weights = checked_weights(block)
        assert block.y is not None
        soft = self._soft(block, weights) if is_soft(block.y.dtype) else {}
        if soft and self.encoder is not None:
            block = replace(block, y=self.encoder.classes[self.encoder.codes(block)])
        assert block.y is not None
        y = plain_labels(block.y, block.names.y, block.origin)
        if self.encoder is not None:
            self.encoder.codes(block)
            y = text_as(y, self.encoder.classes)
        if block.validation:  # its values were checked, and nothing is learnt from them
            block, weights, y = block.between(0, 0), weights[:0], y[:0]
        return self._sums(block, weights, y) | soft

    def _soft(self, block: Block, weights: Float) -> dict[Any, Any]:
        """Return what soft labels add, see `dsoftmax.first_pass.soft`.

        It is a sum for all rows, and one for each set that is held out; or one for the validation
        rows.
        """
        if self.encoder is None:
            raise DataError(
                f"{block.names.y} has soft labels, and the classes of its columns are not known; "
                "expected the labels of the training in the same form. Pass classes."
            )
        n, K = len(self.held_out) + 1, len(self.encoder.classes)
        if block.validation:
            none = np.zeros(block.n_rows, np.intp)
            return {"soft_validation": soft_sums(block, weights, none, 1, K)[0]}
        sets = fold_of(self.held_out, places(block, self.held_out))
        by_set = soft_sums(block, weights, sets, n, K)
        return {"soft": by_set.sum(axis=0), "soft_held": by_set[:-1]}

    def _sums(self, block: Block, weights: Float, y: NDArray) -> dict[Any, Any]:
        """Return the sums of a leaf whose values were checked."""
        labels, codes = labels_and_codes(y)
        check_count(len(labels), block)
        where = places(block, self.held_out)
        n_sets, n_labels = len(self.held_out) + 1, len(labels)
        by_set = codes + n_labels * fold_of(self.held_out, where)
        sums, gram, in_gram = self._feature_sums(block.X, by_set, weights, n_labels * n_sets)
        sums.by_class[:, -1] = np.bincount(by_set, weights, n_labels * n_sets)
        by_class = sums.by_class.reshape(n_sets, n_labels, block.X.shape[1] + 1)
        counts = np.bincount(by_set, minlength=n_labels * n_sets).reshape(n_sets, n_labels)
        all_sums = by_class.sum(axis=0) if n_sets > 1 else by_class[0]
        least = np.min(weights, where=weights > 0, initial=np.inf, keepdims=True)
        leaf: dict[Any, Any] = {
            "by_label": _by_label(labels, counts.sum(axis=0), all_sums),
            "squares": sums.squares,
            "low": Largest(-sums.low),
            "high": Largest(sums.high),
            "absolute": sums.absolute,
            "least_weight": Largest(-least),
        }
        for i in range(n_sets - 1):
            leaf[HeldOutSums(i)] = _by_label(labels, counts[i], by_class[i])
        if self.scaled and self.held_out:
            sets = fold_of(self.held_out, where)
            leaf["held_squares"] = squares_by_set(block.X, sets, weights, n_sets)[:-1]
        if self.held_out and block.groups is not None:
            leaf["marks"] = Largest(marks(where))
        if self.gram:
            leaf |= {"gram": gram, "gram_weight": np.float64(gram[-1, -1])}
        if self.draw is not None:
            known = gram if in_gram == block.n_rows else NO_GRAM
            leaf["sample"] = self.draw.rows(block, codes, weights, known, where)
        return leaf

    def _feature_sums(
        self, X: Features, codes: NDArray, weights: Float, n_labels: int
    ) -> tuple[LeafSums | FeatureSums, Float, float]:
        """Return the sums of a leaf, its Gram matrix, and the number of rows in that matrix."""
        sparse = scipy.sparse.issparse(X)
        if sparse and not self.gram:
            KERNELS[self.kernel].require()
            found = KERNELS[self.kernel].csr_sums(X, codes, weights, n_labels)
            if found is not None:
                return found, NO_GRAM, 0.0
        sums = LeafSums(n_labels, X.shape[1], self.gram > 0)
        add = sums.add_sparse if sparse else sums.add_dense
        passed, in_gram = 0.0, 0.0
        for rows in tiles(X):
            passed += self.gram * (rows.stop - rows.start)
            whole = passed > in_gram  # some whole tiles make up the share that was asked for
            in_gram += whole * (rows.stop - rows.start)
            add(rows_between(X, rows.start, rows.stop), codes[rows], weights[rows], whole)
        return sums, sums.gram, in_gram


def _by_label(labels: NDArray, counts: NDArray, sums: Float) -> Grouped:
    """Return rows and sums by label."""
    return Grouped(
        {label: {"rows": counts[k], "sums": sums[k]} for k, label in enumerate(labels.tolist())}
    )


def gram_part(n_features: int, n: int) -> float:
    """Return the share of the rows from which the Gram matrix is estimated.

    It is 1 if features are few.
    """
    return 1.0 if n_features <= GRAM_FEATURES else min(GRAM_ROWS * n_features / max(n, 1), 1.0)
