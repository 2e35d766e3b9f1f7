"""Tiles: rows of a leaf that stay in the processor's cache while a kernel works on them."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features, rows_between
from dsoftmax.errors import OptionError

Float = NDArray[np.float64]

TILE_BYTES = 3 * 2**20
"""Bytes of cache for the rows of a tile and their logits, unless fewer than 1,024 rows fit.

Each tile costs one addition of (K, p) in float64, so tiles are not small. They exceed the
second-level cache. Threads hand over the interpreter's lock between NumPy's steps. Two threads
gain only if each step lasts much longer than that handover.
"""
SPARSE_TILE_ROWS = 8192
"""Rows of a CSR tile. Each tile adds a dense (K, p) product, so smaller tiles would cost more."""
LEAST_PAIR_ROWS, MOST_PAIR_ROWS = 64, 2048
"""Bounds on the rows of a tile of `dsoftmax.kernels.hessian.hessian_pairs`."""


def compute_dtype(stored: np.dtype) -> np.dtype:
    """Return the dtype of the products: float32 if it holds all stored values, else float64."""
    exact = stored.kind == "b" or stored.itemsize <= 2 or stored.newbyteorder("=") == np.float32
    return np.dtype(np.float32 if exact else np.float64)


def product_dtype(dtype: Any) -> np.dtype:
    """Return the dtype of products that an option names.

    Raises
    ------
    OptionError
        The dtype is neither float32 nor float64.
    """
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in (np.float32, np.float64):
        raise OptionError(
            f"dtype={dtype!r}; expected 'float32', 'float64', or None to follow the stored dtype."
        )
    return found


def tile_rows(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return the rows of a tile.

    A dense tile fits in `TILE_BYTES`. It has a multiple of 64 rows, between 1,024 and 16,384. A
    CSR tile has `SPARSE_TILE_ROWS`.
    """
    if sparse:
        return SPARSE_TILE_ROWS
    fit = TILE_BYTES // ((n_features + 2 * n_classes) * dtype.itemsize)
    return min(max(fit // 64 * 64, 1024), 16384)


def pair_tile_rows(K: int, d: int, dtype: np.dtype) -> int:
    """Return the rows of a tile of `dsoftmax.kernels.hessian.hessian_pairs`.

    They are a multiple of 64 that fits in `TILE_BYTES`.
    """
    entries = d + K * (K - 1) // 2 + (d * (d + 1) // 2 if shares_products(K, d) else d)
    fit = TILE_BYTES // (dtype.itemsize * entries) // 64 * 64
    return min(max(fit, LEAST_PAIR_ROWS), MOST_PAIR_ROWS)


def shares_products(K: int, d: int) -> bool:
    """Return whether all pairs of classes share the products of features x̃ᵢₐx̃ᵢ꜀.

    Sharing wins if rows are narrow or pairs are many. Otherwise x̃ is scaled anew for each pair.
    """
    return d <= 16 + K * (K - 1) // 2


def tiles(X: Features, n_classes: int, dtype: np.dtype) -> Iterator[tuple[slice, Features]]:
    """Yield each tile as its row slice and its rows in the compute dtype.

    Dense tiles share one buffer.
    """
    n, p = X.shape
    sparse = scipy.sparse.issparse(X)
    step = tile_rows(p, n_classes, dtype, sparse)
    # NumPy hands BLAS a copy of an unaligned array, in an order that it chooses. That copy may
    # round differently.
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


def tile_weights(weights: Float | None, rows: slice, dtype: np.dtype) -> Any:
    """Return the weights of a tile in the compute dtype; 1.0 if there are none."""
    return 1.0 if weights is None else weights[rows].astype(dtype, copy=False)


def theta_order(X: Features) -> Literal["C", "F"]:
    """Return the memory order of θ and of sums in its shape.

    SciPy's sparse products have classes innermost.
    """
    return "F" if scipy.sparse.issparse(X) else "C"


def logits_buffer(theta: NDArray, X: Features, dtype: np.dtype) -> NDArray:
    """Return an empty buffer for the logits of one tile, flat: (K · rows,)."""
    rows = tile_rows(X.shape[1], len(theta), dtype, scipy.sparse.issparse(X))
    return np.empty(len(theta) * min(X.shape[0], rows), dtype)
