"""What the first pass learns: the classes, their sums, the scale of every feature, a sample; and that everything is finite."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax import fused
from dsoftmax.blocks import Block
from dsoftmax.engine.sums import Grouped, Largest
from dsoftmax.engine.visit import Footprint
from dsoftmax.errors import DataError
from dsoftmax.held import MARKS, Held, held_by, marks, places
from dsoftmax.labels import MAX_CLASSES, TABLE_SPAN, Encoder, given_classes, ordered_classes, plain_labels
from dsoftmax.sample import NOTHING, Draw, Sample, without
from dsoftmax.sample import finish as finish_sample
from dsoftmax.softmax import Features, rows_between

Float = NDArray[np.float64]

TILE_BYTES = 2**20
"""What a tile of rows takes as float64 (bytes); a handful of arrays of its size exist at once."""
FEW_FEATURES = 64
"""With fewer features than this, a tile is laid out feature by feature."""
FEW_LABELS = 16
"""With at most so many labels, a product with their dense indicator is cheaper than counting by label."""
LARGEST = np.float64(1e150)
"""Of the numbers of X: the square of a larger one may overflow."""
MAX_GRAM_FEATURES = 4096
"""Beyond this the Gram matrix costs more than it tells."""
GRAM_FEATURES = 64
"""With no more features than this, all rows go into an estimate of the Gram matrix too."""
GRAM_ROWS = 16
"""An estimate of the Gram matrix is made of at least so many rows for each feature."""
ROWS_PER_ENTRY = 20
"""A sample is thinned to so many rows for each free parameter, where it holds more, and to `LEAST_SAMPLE` at least."""
LEAST_SAMPLE = 2000
SHOWN = 10
"""Numbers that a message lists."""
USUAL_CLASSES = 16
"""Classes that memory is planned for until the first pass has counted them."""


def tile_rows(n_features: int) -> int:
    """Return the rows of a dense tile: what fits in `TILE_BYTES`, between 256 and 8,192."""
    return min(max(TILE_BYTES // (8 * n_features), 256), 8192)


def tiles(X: Features) -> Iterator[slice]:
    """Cut rows into tiles: dense ones of `tile_rows`, CSR ones that begin in different `TILE_BYTES` of values as float64."""
    n, p = X.shape
    if scipy.sparse.issparse(X):
        ends = np.searchsorted(X.indptr, np.arange(TILE_BYTES // 8, X.indptr[-1], TILE_BYTES // 8))
        bounds = np.unique([0, *ends, n])
    else:
        bounds = np.append(np.arange(0, n, tile_rows(p)), n)
    return (slice(start, stop) for start, stop in itertools.pairwise(bounds.tolist()))


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
    weight : float
        Σ wᵢ over all rows, held out or not.
    least_weight : float
        The least of the weights wᵢ that are not 0.
    gram_share : float
        The part of the rows that the Gram matrix was estimated from; 1 where it is exact.
    sample : Sample
        Rows that were drawn; empty where none were.
    held_rows : (n, K) int64
        Rows of each class that each of n parts holds out.
    held_sums : (n, K, p+1) float64
        Their class sums.
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

    def without(self, number: int, held: Held) -> "Statistics":
        """Return the statistics of what is left when part ``number`` is held out.

        Class sums and sample are those of the rows that are left; ranges, squares and the Gram matrix, which bound and shape
        steps, stay those of all rows.
        """
        sums = self.class_sums - self.held_sums[number]
        sums[:, -1] = np.maximum(sums[:, -1], 0)
        rows = self.class_rows - self.held_rows[number]
        sums[rows == 0] = 0
        left = without(self.sample, held.mask(self.sample.places), sums) if self.sample.n_rows else self.sample
        nothing = self.held_rows[:0], self.held_sums[:0]
        return replace(self, class_rows=rows, class_sums=sums, sample=left, held_rows=nothing[0], held_sums=nothing[1])

    def require_held(self, helds: Sequence[Held], marked: Float | None = None) -> None:
        """Raise unless each part that is held out has rows with a weight, and leaves some.

        Parameters
        ----------
        helds : sequence of Held
            Whose rows ``held_rows`` and ``held_sums`` are of.
        marked : (MARKS,) float64, optional
            `dsoftmax.held.marks` of the groups.

        Raises
        ------
        DataError
            Naming the parts, with the rows and groups of each.
        """
        rows, weights = self.held_rows.sum(axis=1), self.held_sums[:, :, -1].sum(axis=1)
        bad = [i for i, weight in enumerate(weights) if not 0 < weight < self.weight * (1 - 1e-12)]
        if not bad:
            return
        found, finer = f"{_listed(rows)} of {self.class_rows.sum():,} rows", "more rows"
        if marked is not None:
            known = marked[marked >= 0]
            counts = [int(held.mask(known).sum()) for held in helds]
            found, finer = f"{found}, at least {_listed(counts)} groups", "groups that are finer"
        if len(helds) == 1:
            raise DataError(
                f"The validation rows are {found}; needed are rows with a weight among them, and others to learn from. Pass another "
                f"validation_fraction, or {finer}."
            )
        raise DataError(
            f"The folds hold {found}: fold {_listed(bad)} has no row with a weight, or all of them. A row's fold follows from a hash "
            f"of its {'number' if marked is None else 'group'}, so that few may leave one empty. Pass fewer folds, or {finer}."
        )

    @property
    def class_weights(self) -> Float:
        """Σ wᵢ over the rows of each class, (K,)."""
        return self.class_sums[:, -1]

    def largest_eigenvalue(self, fit_intercept: bool) -> float:
        """Return an upper bound of λmax(Σ wᵢx̃ᵢx̃ᵢᵀ): the eigenvalue where the Gram matrix is known, else the smaller of the
        trace and the largest row sum of absolute values (Gershgorin).
        """
        use = slice(None) if fit_intercept else slice(-1)
        if self.gram.size and self.gram_share == 1:
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
            (K * (1 + len(self.helds)) + 4) * d + d * d * (self.gram > 0) + MARKS * bool(self.helds),
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
        all_sums, all_counts = by_class.sum(axis=0) if n_parts > 1 else by_class[0], counts.sum(axis=0)
        leaf = {
            "by_label": Grouped(
                {label: {"rows": all_counts[k], "sums": all_sums[k]} for k, label in enumerate(labels.tolist())}
            ),
            "squares": sums.squares,
            "low": Largest(-sums.low),
            "high": Largest(sums.high),
            "absolute": sums.absolute,
            "least_weight": Largest(-np.min(weights, where=weights > 0, initial=np.inf, keepdims=True)),
        }
        for i in range(n_parts - 1):
            here = {label: {"rows": counts[i, k], "sums": by_class[i, k]} for k, label in enumerate(labels.tolist())}
            leaf[f"held {i}"] = Grouped(here)
        if self.helds and block.groups is not None:
            leaf["marks"] = Largest(marks(where))
        if self.gram:
            leaf |= {"gram": gram, "gram_weight": np.float64(gram[-1, -1])}
        if self.draw is not None:
            leaf["sample"] = self.draw.rows(block, codes, weights, gram if in_gram == block.n_rows else NO_GRAM, where)
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
            whole = passed > in_gram  # a tile now and then, so that their rows are the part that was asked for
            in_gram += whole * (rows.stop - rows.start)
            add(rows_between(X, rows.start, rows.stop), codes[rows], weights[rows], whole)
        return sums, sums.gram, in_gram


class _LeafSums:
    """The sums of a leaf, tile by tile, as in `dsoftmax.fused.FeatureSums`; tiles are rows in the stored dtype."""

    def __init__(self, n_labels: int, p: int, gram: bool) -> None:
        self.by_class = np.zeros((n_labels, p + 1))
        self.squares, self.absolute = np.zeros(p), np.zeros(p + 1)
        self.low, self.high = np.full(p, np.inf), np.full(p, -np.inf)
        self.gram = np.zeros((p + 1, p + 1) if gram else (0, 0))

    def add_dense(self, stored: NDArray, codes: NDArray, w: Float, to_gram: bool = True) -> None:
        """Add a tile of an ndarray.

        NumPy reduces along contiguous numbers fast, and short rows slowly. So a tile of few features is laid out feature by
        feature; ranges are taken in the stored dtype, which is narrower.
        """
        n_labels, p = len(self.by_class), stored.shape[1]
        few = p < FEW_FEATURES
        columns = (np.ascontiguousarray(stored.T) if few else np.ascontiguousarray(stored).T) if len(stored) else stored.T
        np.minimum(self.low, columns.min(axis=1), out=self.low)
        np.maximum(self.high, columns.max(axis=1), out=self.high)
        X = columns.astype(np.float64)  # (p, rows), in the order of ``columns``
        if not few:
            self.by_class[:, :-1] += _indicator(codes, w, n_labels) @ X.T
        elif n_labels <= FEW_LABELS:
            dense = np.zeros((len(w), n_labels))
            dense[np.arange(len(w)), codes] = w
            self.by_class[:, :-1] += (X @ dense).T
        else:
            for j in range(p):
                self.by_class[:, j] += np.bincount(codes, X[j] * w, n_labels)
        if self.gram.size and to_gram:
            weighted = X * w
            self.gram[:-1, :-1] += weighted @ X.T
            self._add_edge(weighted.sum(axis=1), w)
        size = np.abs(X, out=X)
        norm = w * (size.sum(axis=0) + 1)
        self.absolute[:-1] += size @ norm
        self.absolute[-1] += norm.sum()
        self.squares += np.square(size, out=size) @ w

    def add_sparse(self, stored: Features, codes: NDArray, w: Float, to_gram: bool = True) -> None:
        """Add a tile of CSR."""
        X = stored.astype(np.float64)
        self.by_class[:, :-1] += (_indicator(codes, w, len(self.by_class)).tocsr() @ X).toarray()
        np.minimum(self.low, X.min(axis=0).toarray().ravel(), out=self.low)
        np.maximum(self.high, X.max(axis=0).toarray().ravel(), out=self.high)
        if self.gram.size and to_gram:
            weighted = X.multiply(w[:, None]).tocsr()
            self.gram[:-1, :-1] += (weighted.T @ X).toarray()
            self._add_edge(np.asarray(weighted.sum(axis=0)).ravel(), w)
        size = abs(X)  # adds entries of one place first
        norm = w * (np.asarray(size.sum(axis=1)).ravel() + 1)
        self.absolute[:-1] += size.T @ norm
        self.absolute[-1] += norm.sum()
        self.squares += (size * size).T @ w

    def _add_edge(self, edge: Float, w: Float) -> None:
        """Add the row and the column of the Gram matrix that belong to the intercept."""
        self.gram[:-1, -1] += edge
        self.gram[-1, :-1] += edge
        self.gram[-1, -1] += w.sum()


def _indicator(codes: NDArray, w: Float, n_labels: int) -> scipy.sparse.csc_array:
    """Return (labels, rows) with the weight of each row at its label."""
    return scipy.sparse.csc_array((w, codes, np.arange(len(w) + 1)), shape=(n_labels, len(w)))


def labels_and_codes(y: NDArray) -> tuple[NDArray, NDArray[np.integer]]:
    """Return the labels that occur, ascending, and of each row which of them it has: `numpy.unique` with its inverse.

    Integers within a small span are counted in place of sorted.
    """
    if y.dtype.kind in "iu" and len(y):
        low, high = int(y.min()), int(y.max())
        if high - low < TABLE_SPAN:
            least = y.dtype.type(low)
            place = (y - least).view(f"u{y.dtype.itemsize}").astype(np.intp)  # what wraps around comes out right unsigned
            found = np.flatnonzero(np.bincount(place))
            table = np.empty(high - low + 1, np.intp)
            table[found] = np.arange(len(found))
            return found.astype(least.dtype) + least, table[place]
    labels, codes = np.unique(y, return_inverse=True)
    return labels, codes


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
        raise DataError("The sample weights are all zero; needed is a positive sum. Leave them out, or check their units.")
    gram = totals.get("gram", NO_GRAM)
    share = 1.0
    if gram.size and totals["gram_weight"] > 0:
        share = float(totals["gram_weight"] / sums[:, -1].sum())
    parts = [
        _by_class(totals[f"held {i}"], ordered, len(totals["squares"])) for i in range(len(totals)) if f"held {i}" in totals
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


def _listed(numbers: Iterable[int]) -> str:
    shown = [f"{number:,}" for number in numbers]
    return ", ".join(shown if len(shown) <= SHOWN else [*shown[:SHOWN], "…"])


def _by_class(found: dict[Any, Any], classes: NDArray, p: int) -> tuple[NDArray[np.int64], Float]:
    """Return rows and sums by class, zeros for a class that was not found."""
    nothing = {"rows": np.int64(0), "sums": np.zeros(p + 1)}
    per_class = [found.get(label, nothing) for label in classes.tolist()]
    rows = np.array([int(one["rows"]) for one in per_class], np.int64)
    assert rows.sum() == sum(int(one["rows"]) for one in found.values()), "labels that no class is equal to"
    return rows, np.stack([one["sums"] for one in per_class])


def _sample(totals: dict[str, Any], classes: NDArray, sums: Float) -> Sample:
    rows = totals.get("sample")
    if rows is None:
        return NOTHING
    K, d = sums.shape
    codes = Encoder(classes).codes(Block(rows.columns["X"], rows.columns["y"]))
    most = max(ROWS_PER_ENTRY * d * (K - 1), LEAST_SAMPLE)
    mass = float(sums[:, -1].sum())  # rows without weight are not drawn
    return finish_sample(rows, codes, sums, most, whole=bool(rows.columns["weights"].sum() >= mass * (1 - 1e-12)))


def check_finite(block: Block) -> None:
    """Raise if X holds NaN, infinity or numbers beyond `LARGEST`, naming the array, the row and the column.

    Raises
    ------
    DataError
    """
    X: Features = block.X
    values = X.data if scipy.sparse.issparse(X) else X
    if values.dtype.kind != "f" or values.size == 0 or (values.min() >= -LARGEST and values.max() <= LARGEST):
        return
    wrong = ~(np.abs(values) <= LARGEST)
    if scipy.sparse.issparse(X):
        place = int(np.argmax(wrong))
        row, column = int(np.searchsorted(X.indptr, place, side="right")) - 1, int(X.indices[place])
    else:
        row, column = (int(i) for i in np.unravel_index(np.argmax(wrong), values.shape))
    value = X[row, column]
    what = (
        "Its square overflows: does it mark a missing value?" if np.isfinite(value) else "(Input X contains NaN or infinity)."
    )
    raise DataError(
        f"{block.names.X} row {block.first_row + row:,}, column {column}: the value is {value}; needed are finite numbers up to "
        f"{LARGEST:g}. {what} Fill or leave out such rows before training."
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
