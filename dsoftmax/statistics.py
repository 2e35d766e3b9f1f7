"""What the first pass learns: the classes, their sums, the scale of every feature; and that everything is finite."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.blocks import Block
from dsoftmax.engine.sums import Grouped, Largest
from dsoftmax.errors import DataError
from dsoftmax.labels import MAX_CLASSES, Encoder, given_classes, ordered_classes, plain_labels
from dsoftmax.softmax import Features, rows_between

Float = NDArray[np.float64]

TILE_BYTES = 2**20
"""What a tile of rows takes as float64 (bytes); a handful of arrays of its size exist at once."""
MAX_GRAM_FEATURES = 4096
"""Beyond this the Gram matrix costs more than it tells."""


def tile_rows(n_features: int) -> int:
    """Return the rows of a tile: what fits in `TILE_BYTES`, between 256 and 8,192."""
    return min(max(TILE_BYTES // (8 * n_features), 256), 8192)


@dataclass(frozen=True)
class Statistics:
    """Sums over all rows, by class where they are; wᵢ are the sample weights, not yet times any class weight.

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
        Σ wᵢx̃ᵢx̃ᵢᵀ where it was asked for, else of shape (0, 0).
    """

    classes: NDArray
    class_rows: NDArray[np.int64]
    class_sums: Float
    squares: Float
    low: Float
    high: Float
    absolute: Float
    gram: Float

    @property
    def class_weights(self) -> Float:
        """Σ wᵢ over the rows of each class, (K,)."""
        return self.class_sums[:, -1]

    def largest_eigenvalue(self, fit_intercept: bool) -> float:
        """Return an upper bound of λmax(Σ wᵢx̃ᵢx̃ᵢᵀ): the eigenvalue where the Gram matrix is known, else the smaller of the
        trace and the largest row sum of absolute values (Gershgorin).
        """
        use = slice(None) if fit_intercept else slice(-1)
        if self.gram.size:
            G = self.gram[use, use]
            top = scipy.linalg.eigvalsh(G, subset_by_index=[len(G) - 1, len(G) - 1])
            return float(top[0]) * (1 + 1e-12)
        trace = float(self.squares.sum() + fit_intercept * self.class_weights.sum())
        return min(trace, float(self.absolute[use].max()))


@dataclass(frozen=True)
class Collect:
    """The visit of the first pass.

    Attributes
    ----------
    gram : bool
        Whether to collect the Gram matrix; 2·p² flops a row.
    encoder : Encoder, optional
        Of the classes that were given: other labels are an error, here where their rows are known.
    """

    gram: bool = False
    encoder: Encoder | None = None

    def __call__(self, block: Block) -> dict[str, Any]:
        """Return the sums of one leaf, in float64.

        Raises
        ------
        DataError
            NaN or infinity in X, y or the weights; a negative weight; a label that is no class.
        """
        X, (n, p) = block.X, block.X.shape
        check_finite(block)
        weights = checked_weights(block)
        assert block.y is not None
        labels, codes = np.unique(plain_labels(block.y, block.names.y, block.first_row), return_inverse=True)
        check_count(len(labels), block)
        if self.encoder is not None:
            self.encoder.codes(block)
        sums, squares, absolute = np.zeros((len(labels), p + 1)), np.zeros(p), np.zeros(p + 1)
        low, high = np.full(p, np.inf), np.full(p, -np.inf)
        gram = np.zeros((p + 1, p + 1) if self.gram else (0, 0))
        step = tile_rows(p)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            tile, w = rows_between(X, rows.start, rows.stop).astype(np.float64), weights[rows]
            indicator = scipy.sparse.csr_array((w, (codes[rows], np.arange(len(w)))), shape=(len(labels), len(w)))
            sums[:, :-1] += _dense(indicator @ tile)
            sums[:, -1] += indicator.sum(axis=1)
            size = abs(tile)
            squares += (size * size).T @ w
            norm = w * (np.asarray(size.sum(axis=1)).ravel() + 1)
            absolute[:-1] += size.T @ norm
            absolute[-1] += norm.sum()
            np.minimum(low, _dense(tile.min(axis=0)).ravel(), out=low)
            np.maximum(high, _dense(tile.max(axis=0)).ravel(), out=high)
            if self.gram:
                weighted = (tile * w[:, None]) if not scipy.sparse.issparse(tile) else tile.multiply(w[:, None]).tocsr()
                gram[:-1, :-1] += _dense(weighted.T @ tile)
                edge = np.asarray(weighted.sum(axis=0)).ravel()
                gram[:-1, -1] += edge
                gram[-1, :-1] += edge
                gram[-1, -1] += w.sum()
        counts = np.bincount(codes, minlength=len(labels))
        leaf = {
            "by_label": Grouped({label: {"rows": counts[k], "sums": sums[k]} for k, label in enumerate(labels.tolist())}),
            "squares": squares,
            "low": Largest(-low),
            "high": Largest(high),
            "absolute": absolute,
        }
        return {**leaf, "gram": gram} if self.gram else leaf


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
    p = len(totals["squares"])
    nothing = {"rows": np.int64(0), "sums": np.zeros(p + 1)}
    per_class = [found.get(label, nothing) for label in ordered.tolist()]
    sums = np.stack([one["sums"] for one in per_class])
    if not sums[:, -1].sum() > 0:
        raise DataError("The sample weights are all zero; needed is a positive sum. Leave them out, or check their units.")
    return Statistics(
        ordered,
        np.array([int(one["rows"]) for one in per_class], np.int64),
        sums,
        totals["squares"],
        -totals["low"],
        totals["high"],
        totals["absolute"],
        totals.get("gram", np.zeros((0, 0))),
    )


def check_finite(block: Block) -> None:
    """Raise if X holds NaN or infinity, naming the array, the row and the column.

    Raises
    ------
    DataError
    """
    X: Features = block.X
    values = X.data if scipy.sparse.issparse(X) else X
    if values.dtype.kind != "f" or values.size == 0 or (np.isfinite(values.min()) and np.isfinite(values.max())):
        return
    if scipy.sparse.issparse(X):
        place = int(np.argmax(~np.isfinite(values)))
        row, column = int(np.searchsorted(X.indptr, place, side="right")) - 1, int(X.indices[place])
    else:
        row, column = (int(i) for i in np.unravel_index(np.argmax(~np.isfinite(values)), values.shape))
    value = X[row, column]
    raise DataError(
        f"{block.names.X} row {block.first_row + row:,}, column {column}: the value is {value}; needed are finite numbers "
        "(Input X contains NaN or infinity). Fill or leave out such rows before training."
    )


def checked_weights(block: Block) -> Float:
    """Return the weights of a block, ones where there are none.

    Raises
    ------
    DataError
        A weight that is negative, NaN or infinite, with its row.
    """
    if block.weights is None:
        return np.ones(block.n_rows)
    bad = ~(np.isfinite(block.weights) & (block.weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{block.names.weights} row {block.first_row + row:,}: the weight is {block.weights[row]}; needed are finite weights of "
            "at least 0. Leave a row out with weight 0."
        )
    return block.weights


def check_count(n_labels: int, block: Block | None) -> None:
    """Raise if there are more different labels than classes can be.

    Raises
    ------
    DataError
    """
    if n_labels > MAX_CLASSES:
        where = "y" if block is None else block.names.y
        raise DataError(
            f"{where} holds {n_labels:,} different labels, more than {MAX_CLASSES:,}. Is it a row number or a measurement? "
            "Needed is one class a row."
        )


def _dense(values: Any) -> Float:
    return np.asarray(values.toarray() if scipy.sparse.issparse(values) else values)


def to_arrays(statistics: Statistics) -> dict[str, NDArray]:
    """Return the fields as arrays, for saving."""
    return {one.name: getattr(statistics, one.name) for one in fields(statistics)}
