"""Value, gradient and Hessian of one block in compiled loops.

They are the sums of `dsoftmax.kernels.softmax` and `dsoftmax.kernels.hessian`, to rounding,
without NumPy's sweeps over memory. Each tile of rows is converted, multiplied, turned into
residuals and multiplied again before it leaves the cache. The loops hold no interpreter lock, so
threads do not wait for each other. Tiles and the order of every sum depend on shapes and dtypes
alone, so the same rows give the same bits.

`dsoftmax.kernels.compiled.shapes` chooses the loops for a shape. The first call imports numba:
``pip install 'dsoftmax[fast]'``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels import hessian, softmax
from dsoftmax.kernels.compiled.arrays import (
    aligned,
    csr_arguments,
    dense_arguments,
    padded,
    padded_weights,
    takes,
    takes_csr,
)
from dsoftmax.kernels.compiled.shapes import (
    COLUMNS,
    SLICE_VECTORS,
    SPARSE_ROWS,
    TILE_ENTRIES,
    VECTOR_BYTES,
    curved_rows,
    curves,
    multiplies,
    narrow_rows,
    panel_shift,
    pitch_of,
    sparse_batch,
    up,
    way,
    wide_rows,
)
from dsoftmax.kernels.tiles import SPARSE_TILE_ROWS, compute_dtype

Float = NDArray[np.float64]


def value_and_gradient(
    theta: Float,
    X: Features,
    y: NDArray,
    weights: Float | None = None,
    dtype: np.dtype | None = None,
) -> tuple[float, Float]:
    """Return J and ∇J of one block, as sums.

    Parameters, results and conventions are those of `dsoftmax.kernels.softmax.value_and_gradient`.

    Notes
    -----
    Work 4·K·p flops and K exponentials a row (CSR: 4·K·nnz). Memory
    `dsoftmax.kernels.compiled.footprint.fused_gradient_bytes`. Products are summed in the compute
    dtype over 4,096 rows, and in float64 beyond. CSR whose θ fits the cache is summed in it over
    `SPARSE_ROWS`. Other CSR, and BLAS, are summed in it over a tile of `dsoftmax.kernels.tiles`.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    sparse = scipy.sparse.issparse(X)
    chosen = way(X.shape[1], len(theta), sparse)
    if chosen == "products":
        return softmax.value_and_gradient(theta, X, y, weights, dtype, _residuals)
    if not takes(X.dtype) or (sparse and not takes_csr(X)):
        return softmax.value_and_gradient(theta, X, y, weights, dtype)
    lanes = VECTOR_BYTES // dtype.itemsize
    labels, s = padded(y, dtype, lanes), padded_weights(weights, dtype, lanes, X.shape[0])
    run = {"narrow": _narrow, "wide": _wide, "sparse": _sparse, "panels": _sparse_panels}[chosen]
    return run(theta, X, labels, s, dtype, lanes)


def hessian_pairs(
    theta: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None
) -> Float:
    """Return the parts of the Hessian of one block.

    `dsoftmax.kernels.hessian.hessian_pairs` computes them if BLAS is faster at this shape.

    Notes
    -----
    Work K²·(p+1)²/2 flops a row. Memory
    `dsoftmax.kernels.compiled.footprint.fused_hessian_bytes`. Products are summed in the compute
    dtype over 4,096 rows, and in float64 beyond.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    K, d = theta.shape
    if not (curves(d - 1, K, scipy.sparse.issparse(X)) and takes(X.dtype)):
        return hessian.hessian_pairs(theta, X, weights, dtype)
    from dsoftmax.kernels.compiled.hessian import add_pairs

    lanes, n = VECTOR_BYTES // dtype.itemsize, len(X)
    s = padded_weights(weights, dtype, lanes, n)
    found = np.zeros((K * (K - 1) // 2, d * (d + 1) // 2))
    tile = curved_rows(d, K, dtype.itemsize)
    add_pairs(
        theta.astype(dtype).reshape(-1), K, d - 1, *dense_arguments(X), s, n, tile,
        found.reshape(-1), lanes,
    )  # fmt: skip
    return found


def hessian_products(
    theta: Float, X: Features, weights: Float | None = None
) -> Callable[[Float], Float]:
    """Return a function that multiplies the Hessian of one block at θ by any V.

    `dsoftmax.kernels.hessian.hessian_products` makes it if BLAS is faster at this shape.

    Notes
    -----
    Work 4·K·p flops a row a product; memory P, (K, rows) float64.
    """
    K, d = theta.shape
    if not (multiplies(d - 1, K, scipy.sparse.issparse(X)) and X.dtype == np.float64):
        return hessian.hessian_products(theta, X, weights)
    from dsoftmax.kernels.compiled.hessian import add_product_at, store_probabilities

    lanes, n, tile = VECTOR_BYTES // 8, len(X), narrow_rows(d, K, 8)
    s, P = padded_weights(weights, X.dtype, lanes, n), np.empty(K * (n + tile))
    point = np.ascontiguousarray(theta).reshape(-1)
    store_probabilities(point, K, d - 1, *dense_arguments(X), n, tile, P, lanes)

    def product(direction: Float) -> Float:
        along, found = np.ascontiguousarray(direction).reshape(-1), np.zeros((K, d))
        stored = dense_arguments(X)
        add_product_at(along, K, d - 1, *stored, P, s, n, tile, found.reshape(-1), lanes)
        return found

    return product


def _narrow(
    theta: Float, X: NDArray, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled.dense import narrow

    K, d = theta.shape
    gradient = np.zeros(theta.shape)
    tile = narrow_rows(d, K, dtype.itemsize)
    point = theta.astype(dtype).reshape(-1)
    value = narrow(
        point, K, d - 1, *dense_arguments(X), labels, s, len(X), tile, gradient.reshape(-1), lanes
    )
    return value, gradient


def _wide(
    theta: Float, X: NDArray, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled.dense import wide

    K, d = theta.shape
    pitch = pitch_of(d, lanes)
    point = np.zeros((K, pitch), dtype)
    point[:, :d] = theta
    gradient = np.zeros(theta.shape)
    tile = wide_rows(pitch, K, dtype.itemsize)
    value = wide(
        point.reshape(-1), K, d - 1, pitch, *dense_arguments(X), labels, s, len(X), tile,
        gradient.reshape(-1), lanes,
    )  # fmt: skip
    return value, gradient


def _sparse(
    theta: Float, X: Features, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled.csr import add_rows

    K, p = len(theta), X.shape[1]
    pitch = up(K, lanes)
    batch = min(sparse_batch(pitch, dtype.itemsize), X.shape[0])
    gradient = np.zeros(theta.shape)
    table, sums, Z = (aligned(n, dtype) for n in (p * pitch, p * pitch, batch * pitch))
    value = add_rows(
        np.ascontiguousarray(theta).reshape(-1), K, p, *csr_arguments(X), labels, s, X.shape[0],
        gradient.reshape(-1), lanes, SPARSE_ROWS, batch, pitch, table, sums, Z,
    )  # fmt: skip
    return value, gradient


def _sparse_panels(
    theta: Float, X: Features, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled.csr import add_panels

    K, p = len(theta), X.shape[1]
    pitch, shift = up(K, lanes), panel_shift(p)
    n_entries = min(max(TILE_ENTRIES, int(np.diff(X.indptr).max(initial=0))), X.nnz)
    gradient = np.zeros(theta.shape)
    table, Z = aligned(p * pitch, dtype), aligned(SPARSE_TILE_ROWS * pitch, dtype)
    sums = aligned(2**shift * SLICE_VECTORS * lanes, dtype)
    ends = np.empty(-(-p // 2**shift) + 1, np.int64)
    places, numbers = np.empty(n_entries, np.uint32), np.empty(n_entries, dtype)
    value = add_panels(
        np.ascontiguousarray(theta).reshape(-1), K, p, *csr_arguments(X), labels, s, X.shape[0],
        gradient.reshape(-1), lanes, SPARSE_TILE_ROWS, shift, table, Z, sums, ends, places, numbers,
    )  # fmt: skip
    return value, gradient


def _residuals(Z: NDArray, y: NDArray, weights: Any) -> float:
    """Return J of a tile and leave its residuals, as `dsoftmax.kernels.softmax.residuals` does.

    The loop works on a few columns at a time.
    """
    from dsoftmax.kernels.compiled.dense import tile_residuals

    lanes = VECTOR_BYTES // Z.itemsize
    labels, s = padded(y, Z.dtype, lanes), padded_weights(weights, Z.dtype, lanes, Z.shape[1])
    pitch = COLUMNS + 2 * lanes
    return float(tile_residuals(Z.reshape(-1), *Z.shape, labels, s, COLUMNS, pitch, lanes))
