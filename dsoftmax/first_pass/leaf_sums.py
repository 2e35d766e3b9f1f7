"""The sums of a leaf in the first pass."""

import itertools
from collections.abc import Iterator

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.first_pass.labels import TABLE_SPAN

Float = NDArray[np.float64]

TILE_BYTES = 2**20
"""Bytes of a tile of rows in float64. A handful of arrays of its size exist at once."""
FEW_FEATURES = 64
"""Number of features below which a tile is laid out feature by feature."""
FEW_LABELS = 16
"""Most labels for which a product with their dense indicator is cheaper than counting by label."""


def tile_rows(n_features: int) -> int:
    """Return the rows of a dense tile: as many as fit in `TILE_BYTES`, between 256 and 8,192."""
    return min(max(TILE_BYTES // (8 * n_features), 256), 8192)


def tiles(X: Features) -> Iterator[slice]:
    """Cut rows into tiles.

    Dense tiles have `tile_rows` rows. CSR tiles begin in different `TILE_BYTES` of the stored
    values as float64.
    """
    n, p = X.shape
    if scipy.sparse.issparse(X):
        ends = np.searchsorted(X.indptr, np.arange(TILE_BYTES // 8, X.indptr[-1], TILE_BYTES // 8))
        bounds = np.unique([0, *ends, n])
    else:
        bounds = np.append(np.arange(0, n, tile_rows(p)), n)
    return (slice(start, stop) for start, stop in itertools.pairwise(bounds.tolist()))


class LeafSums:
    """The sums of a leaf, added tile by tile; tiles are rows in the stored dtype.

    Its arrays are those of `dsoftmax.kernels.compiled.csr_sums.FeatureSums`, and the Gram matrix.
    """

    def __init__(self, n_labels: int, p: int, gram: bool) -> None:
        self.by_class = np.zeros((n_labels, p + 1))
        self.squares, self.absolute = np.zeros(p), np.zeros(p + 1)
        self.low, self.high = np.full(p, np.inf), np.full(p, -np.inf)
        self.gram = np.zeros((p + 1, p + 1) if gram else (0, 0))

    def add_dense(self, stored: NDArray, codes: NDArray, w: Float, to_gram: bool = True) -> None:
        """Add a tile of an ndarray.

        NumPy reduces long contiguous runs fast and short rows slowly, so a tile of few features
        is laid out feature by feature. Ranges are taken in the stored dtype, which is narrower.
        """
        n_labels, p = len(self.by_class), stored.shape[1]
        few = p < FEW_FEATURES
        columns = (
            (np.ascontiguousarray(stored.T) if few else np.ascontiguousarray(stored).T)
            if len(stored)
            else stored.T
        )
        np.minimum(self.low, columns.min(axis=1), out=self.low)
        np.maximum(self.high, columns.max(axis=1), out=self.high)
        X = columns.astype(np.float64)  # (p, rows), in the order of ``columns``
        if not few:
            self.by_class[:, :-1] += indicator(codes, w, n_labels) @ X.T
        elif n_labels <= FEW_LABELS:
            dense = np.zeros((len(w), n_labels))
            dense[np.arange(len(w)), codes] = w
            self.by_class[:, :-1] += (X @ dense).T
        else:
            for j in range(p):
                self.by_class[:, j] += np.bincount(codes, X[j] * w, n_labels)
        if self.gram.size and to_gram:
            rooted = X * np.sqrt(w)
            self.gram[:-1, :-1] += rooted @ rooted.T  # NumPy sees AAᵀ and computes one triangle
            self._add_edge(X @ w, w)
        size = np.abs(X, out=X)
        norm = w * (size.sum(axis=0) + 1)
        self.absolute[:-1] += size @ norm
        self.absolute[-1] += norm.sum()
        self.squares += np.square(size, out=size) @ w

    def add_sparse(self, stored: Features, codes: NDArray, w: Float, to_gram: bool = True) -> None:
        """Add a tile of CSR."""
        X = stored.astype(np.float64)
        self.by_class[:, :-1] += (indicator(codes, w, len(self.by_class)).tocsr() @ X).toarray()
        np.minimum(self.low, X.min(axis=0).toarray().ravel(), out=self.low)
        np.maximum(self.high, X.max(axis=0).toarray().ravel(), out=self.high)
        if self.gram.size and to_gram:
            weighted = X.multiply(w[:, None]).tocsr()
            self.gram[:-1, :-1] += (weighted.T @ X).toarray()
            self._add_edge(np.asarray(weighted.sum(axis=0)).ravel(), w)
        size = abs(X)  # first adds duplicate entries
        norm = w * (np.asarray(size.sum(axis=1)).ravel() + 1)
        self.absolute[:-1] += size.T @ norm
        self.absolute[-1] += norm.sum()
        self.squares += (size * size).T @ w

    def _add_edge(self, edge: Float, w: Float) -> None:
        """Add the row and the column of the Gram matrix that belong to the intercept."""
        self.gram[:-1, -1] += edge
        self.gram[-1, :-1] += edge
        self.gram[-1, -1] += w.sum()


def indicator(codes: NDArray, w: Float, n_labels: int) -> scipy.sparse.csc_array:
    """Return (labels, rows) with the weight of each row at its label."""
    return scipy.sparse.csc_array((w, codes, np.arange(len(w) + 1)), shape=(n_labels, len(w)))


def labels_and_codes(y: NDArray) -> tuple[NDArray, NDArray[np.integer]]:
    """Return the labels that occur, ascending, and the index of each row's label.

    This is `numpy.unique` with its inverse. Integers within a small span are
    counted, which is faster than sorting.
    """
    if y.dtype.kind in "iu" and len(y):
        low, high = int(y.min()), int(y.max())
        if high - low < TABLE_SPAN:
            least = y.dtype.type(low)
            # A difference that wraps around is right as an unsigned integer.
            place = (y - least).view(f"u{y.dtype.itemsize}").astype(np.intp)
            found = np.flatnonzero(np.bincount(place))
            table = np.empty(high - low + 1, np.intp)
            table[found] = np.arange(len(found))
            return found.astype(least.dtype) + least, table[place]
    labels, codes = np.unique(y, return_inverse=True)
    return labels, codes
