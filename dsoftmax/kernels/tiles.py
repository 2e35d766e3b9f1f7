"""Tiles: the rows of a leaf that are worked on while they are in the cache."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features, rows_between

TILE_BYTES = 3 * 2**20
"""What a tile of rows and its logits may take of the cache (bytes), unless they are fewer than 1,024 rows: after each tile (K, p)
is added in float64. Larger than the second-level cache: each of NumPy's steps must last long beside the handing over of the
interpreter's lock, or two threads are no faster than one."""
SPARSE_TILE_ROWS = 8192
"""Rows of a CSR tile: each adds a dense (K, p) product, so that fewer rows would cost more."""


def compute_dtype(stored: np.dtype) -> np.dtype:
    """Return the dtype of the products: float32 where it holds every stored value exactly, else float64."""
    exact = stored.kind == "b" or stored.itemsize <= 2 or stored.newbyteorder("=") == np.float32
    return np.dtype(np.float32 if exact else np.float64)


def tile_rows(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return the rows of a tile: what fits in `TILE_BYTES`, a multiple of 64 between 1,024 and 16,384; CSR as stated."""
    if sparse:
        return SPARSE_TILE_ROWS
    fit = TILE_BYTES // ((n_features + 2 * n_classes) * dtype.itemsize)
    return min(max(fit // 64 * 64, 1024), 16384)


def scratch_bytes(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return what a kernel takes for its tiles, beside arrays in the shape of θ (bytes)."""
    # CSR: the logits, SciPy's product, and the residuals laid out for the other product.
    widths = 4 * n_classes if sparse else n_features + 2 * n_classes
    return tile_rows(n_features, n_classes, dtype, sparse) * (widths * dtype.itemsize + 64)


def _tiles(X: Features, n_classes: int, dtype: np.dtype) -> Iterator[tuple[slice, Features]]:
    """Yield the row slices of X and the rows themselves in the compute dtype; one buffer serves all dense tiles."""
    n, p = X.shape
    sparse = scipy.sparse.issparse(X)
    step = tile_rows(p, n_classes, dtype, sparse)
    # Of an array that is not aligned, NumPy hands BLAS a copy in an order of its own, which may round otherwise.
    convert = not sparse and not (X.dtype == dtype and X.flags.c_contiguous and X.flags.aligned)
    buffer = np.empty((min(step, n), p), dtype) if convert else None
    for start in range(0, n, step):
        stop = min(start + step, n)
        tile = rows_between(X, start, stop)
        if sparse:
            tile = tile.astype(dtype, copy=False)
        elif buffer is not None:
            np.copyto(buffer[: stop - start], tile, casting="unsafe")
            tile = buffer[: stop - start]
        yield slice(start, stop), tile


def _order(X: Features) -> Literal["C", "F"]:
    """The memory order of θ and of what is summed in its shape: SciPy's sparse products have classes innermost."""
    return "F" if scipy.sparse.issparse(X) else "C"


def _scratch(theta: NDArray, X: Features, dtype: np.dtype) -> NDArray:
    """Return room for the logits of a tile, flat: (K · rows,)."""
    rows = tile_rows(X.shape[1], len(theta), dtype, scipy.sparse.issparse(X))
    return np.empty(len(theta) * min(X.shape[0], rows), dtype)
