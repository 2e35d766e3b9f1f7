"""Value, gradient and Hessian of one block in compiled loops: those of `dsoftmax.kernels.softmax` without its passes over memory.

The same sums, to rounding. A tile of rows is converted, multiplied, turned into residuals and multiplied again before it
leaves the cache, in loops that hold no interpreter lock, so that threads do not wait for each other. The tiles and the
order of every sum depend on shapes and dtypes alone, so the same rows give the same bits.

`dsoftmax.kernels.compiled.shapes` says which loops run for which shape. numba is imported at the first call; ``pip install 'dsoftmax[fast]'``.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.errors import DsoftmaxError
from dsoftmax.kernels import hessian as by_blas
from dsoftmax.kernels import softmax
from dsoftmax.kernels.compiled.shapes import (
    COLUMNS,
    DIGIT_BITS,
    LINE,
    SLICE_VECTORS,
    SPARSE_ROWS,
    TILE_ENTRIES,
    VECTOR_BYTES,
    block_shift,
    curved_rows,
    curves,
    hessian_scratch_bytes,
    multiplies,
    narrow_rows,
    pitch_of,
    scratch_bytes,
    sparse_batch,
    up,
    way,
    wide_rows,
)
from dsoftmax.kernels.softmax import Float
from dsoftmax.kernels.tiles import SPARSE_TILE_ROWS, compute_dtype

CODE_BYTES = 144 * 2**20
"""What numba and the loops of one shape take in a process that has to compile them; some 40 MiB less where it finds them
compiled (bytes, measured)."""

__all__ = [
    "CODE_BYTES",
    "DIGIT_BITS",
    "VECTOR_BYTES",
    "FeatureSums",
    "available",
    "csr_sums",
    "hessian_pairs",
    "hessian_products",
    "hessian_scratch_bytes",
    "loops_of_digits",
    "require",
    "scratch_bytes",
    "takes",
    "value_and_gradient",
    "way",
]


@cache
def available() -> bool:
    """Return whether numba can be imported, by importing it: it may be there and refuse the NumPy beside it."""
    try:
        import numba  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def require() -> None:
    """Raise where a run uses compiled loops and this process cannot.

    Raises
    ------
    DsoftmaxError
    """
    if not available():
        raise DsoftmaxError(
            "This run uses kernel='fused', which needs numba, and a process that computes for it cannot import numba. Install "
            "it on every worker with pip install 'dsoftmax[fast]', or begin anew with kernel='numpy'."
        )


def loops_of_digits() -> ModuleType | None:
    """Return `dsoftmax.kernels.compiled.digits` where this process has run compiled loops, else None: nothing is imported for it."""
    if "dsoftmax.kernels.compiled.compile" not in sys.modules:
        return None
    from dsoftmax.kernels.compiled import digits

    return digits


def takes(stored: np.dtype) -> bool:
    """Return whether the loops read this dtype; others (float16, long double, big-endian) are left to NumPy."""
    return stored.isnative and (stored.kind in "biu" or stored in (np.float32, np.float64))


def _takes_csr(X: Features) -> bool:
    """Return whether the loops read this sparse array: the parts of CSR lie without gaps, which SciPy does not ask for."""
    return X.format == "csr" and all(
        part.flags.c_contiguous for part in (X.data, X.indices, X.indptr)
    )


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
    Work 4·K·p flops and K exponentials a row (CSR: 4·K·nnz); memory `scratch_bytes`. Products of the compute dtype are summed
    in it over 4,096 rows (CSR whose θ fits the cache: `SPARSE_ROWS`; other CSR and BLAS: over a tile of `dsoftmax.kernels.softmax`), beyond
    that in float64.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    sparse = scipy.sparse.issparse(X)
    chosen = way(X.shape[1], len(theta), sparse)
    if chosen == "products":
        return softmax.value_and_gradient(theta, X, y, weights, dtype, _residuals)
    if not takes(X.dtype) or (sparse and not _takes_csr(X)):
        return softmax.value_and_gradient(theta, X, y, weights, dtype)
    lanes = VECTOR_BYTES // dtype.itemsize
    labels, s = _rows(y, dtype, lanes), _weights(weights, dtype, lanes, X.shape[0])
    run = {"narrow": _narrow, "wide": _wide, "sparse": _sparse, "blocked": _sparse_blocked}[chosen]
    return run(theta, X, labels, s, dtype, lanes)


def hessian_pairs(
    theta: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None
) -> Float:
    """Return what the Hessian of one block is made of: `dsoftmax.kernels.hessian.hessian_pairs`, also where BLAS is better at it.

    Notes
    -----
    Work K²·(p+1)²/2 flops a row; memory `hessian_scratch_bytes`. Products of the compute dtype are summed in it over 4,096 rows, beyond
    that in float64.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    K, d = theta.shape
    if not (curves(d - 1, K, scipy.sparse.issparse(X)) and takes(X.dtype)):
        return by_blas.hessian_pairs(theta, X, weights, dtype)
    from dsoftmax.kernels.compiled import hessian

    lanes, n = VECTOR_BYTES // dtype.itemsize, len(X)
    s = _weights(weights, dtype, lanes, n)
    found = np.zeros((K * (K - 1) // 2, d * (d + 1) // 2))
    tile = curved_rows(d, K, dtype.itemsize)
    hessian.pairs(
        theta.astype(dtype).reshape(-1), K, d - 1, *_stored(X), s, n, tile, found.reshape(-1), lanes
    )
    return found


def hessian_products(
    theta: Float, X: Features, weights: Float | None = None
) -> Callable[[Float], Float]:
    """Return what gives H·V of one block for any V: `dsoftmax.kernels.hessian.hessian_products`, also where BLAS is better at it.

    Notes
    -----
    Work 4·K·p flops a row a product; memory P, (K, rows) float64.
    """
    K, d = theta.shape
    if not (multiplies(d - 1, K, scipy.sparse.issparse(X)) and X.dtype == np.float64):
        return by_blas.hessian_products(theta, X, weights)
    from dsoftmax.kernels.compiled import hessian

    lanes, n, tile = VECTOR_BYTES // 8, len(X), narrow_rows(d, K, 8)
    s, P = _weights(weights, X.dtype, lanes, n), np.empty(K * (n + tile))
    hessian.point(np.ascontiguousarray(theta).reshape(-1), K, d - 1, *_stored(X), n, tile, P, lanes)

    def product(direction: Float) -> Float:
        along, found = np.ascontiguousarray(direction).reshape(-1), np.zeros((K, d))
        hessian.product(along, K, d - 1, *_stored(X), P, s, n, tile, found.reshape(-1), lanes)
        return found

    return product


@dataclass(frozen=True)
class FeatureSums:
    """Sums over some rows, with weights w and x̃ = [x, 1].

    Attributes
    ----------
    by_class : (labels, p+1) float64
        Σ wᵢxᵢ by label; the last column is not filled in.
    squares : (p,) float64
        Σ wᵢxᵢ².
    absolute : (p+1,) float64
        Σ wᵢ|x̃ᵢⱼ|·‖x̃ᵢ‖₁.
    low, high : (p,) float64
        Ranges.
    """

    by_class: Float
    squares: Float
    absolute: Float
    low: Float
    high: Float


def csr_sums(X: Features, codes: NDArray, weights: Float, n_labels: int) -> FeatureSums | None:
    """Return what the first pass sums over CSR rows; None where the loops do not take them: of a dtype of their own, or with columns
    that do not ascend in every row.

    Notes
    -----
    Work 10 flops a stored value; memory the sums, and 64 bytes a feature.
    """
    if not (takes(X.dtype) and _takes_csr(X)):
        return None
    from dsoftmax.kernels.compiled import feature_sums

    n, p = X.shape
    by_class, features = np.zeros((n_labels, p + 1)), feature_sums.empty_features(p)
    values = np.empty(int(np.diff(X.indptr).max(initial=0)))
    codes, weights = (
        np.ascontiguousarray(codes, np.int64),
        np.ascontiguousarray(weights, np.float64),
    )
    mass = feature_sums.csr(
        *_entries(X), codes, weights, n, p, by_class.reshape(-1), features, values
    )
    if mass < 0:
        return None
    squares, absolute, low, high, counts = features.reshape(p, -1).T[:5]
    some = counts < n
    return FeatureSums(
        by_class, squares.copy(), np.append(absolute, mass), np.where(some, np.minimum(low, 0), low),
        np.where(some, np.maximum(high, 0), high),
    )  # fmt: skip


def _narrow(
    theta: Float, X: NDArray, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled import dense

    K, d = theta.shape
    gradient = np.zeros(theta.shape)
    tile = narrow_rows(d, K, dtype.itemsize)
    point = theta.astype(dtype).reshape(-1)
    value = dense.narrow(
        point, K, d - 1, *_stored(X), labels, s, len(X), tile, gradient.reshape(-1), lanes
    )
    return value, gradient


def _wide(
    theta: Float, X: NDArray, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled import dense

    K, d = theta.shape
    pitch = pitch_of(d, lanes)
    point = np.zeros((K, pitch), dtype)
    point[:, :d] = theta
    gradient = np.zeros(theta.shape)
    tile = wide_rows(pitch, K, dtype.itemsize)
    value = dense.wide(
        point.reshape(-1),
        K,
        d - 1,
        pitch,
        *_stored(X),
        labels,
        s,
        len(X),
        tile,
        gradient.reshape(-1),
        lanes,
    )
    return value, gradient


def _sparse(
    theta: Float, X: Features, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled import csr

    K, p = len(theta), X.shape[1]
    pitch = up(K, lanes)
    batch = min(sparse_batch(pitch, dtype.itemsize), X.shape[0])
    gradient = np.zeros(theta.shape)
    value = csr.csr(
        *(
            np.ascontiguousarray(theta).reshape(-1),
            K,
            p,
            *_entries(X),
            labels,
            s,
            X.shape[0],
            gradient.reshape(-1),
            lanes,
        ),
        *(
            SPARSE_ROWS,
            batch,
            pitch,
            _aligned(p * pitch, dtype),
            _aligned(p * pitch, dtype),
            _aligned(batch * pitch, dtype),
        ),
    )
    return value, gradient


def _sparse_blocked(
    theta: Float, X: Features, labels: NDArray, s: NDArray, dtype: np.dtype, lanes: int
) -> tuple[float, Float]:
    from dsoftmax.kernels.compiled import csr

    K, p = len(theta), X.shape[1]
    pitch, shift = up(K, lanes), block_shift(p)
    n_entries = min(max(TILE_ENTRIES, int(np.diff(X.indptr).max(initial=0))), X.nnz)
    gradient = np.zeros(theta.shape)
    value = csr.csr_blocked(
        *(
            np.ascontiguousarray(theta).reshape(-1),
            K,
            p,
            *_entries(X),
            labels,
            s,
            X.shape[0],
            gradient.reshape(-1),
            lanes,
        ),
        *(
            SPARSE_TILE_ROWS,
            shift,
            _aligned(p * pitch, dtype),
            _aligned(SPARSE_TILE_ROWS * pitch, dtype),
        ),
        _aligned(2**shift * SLICE_VECTORS * lanes, dtype),
        *(
            np.empty(-(-p // 2**shift) + 1, np.int64),
            np.empty(n_entries, np.uint32),
            np.empty(n_entries, dtype),
        ),
    )
    return value, gradient


def _aligned(n: int, dtype: np.dtype) -> NDArray:
    """An array whose vectors cross no lines of the cache."""
    room = np.empty(n * dtype.itemsize + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + n * dtype.itemsize].view(dtype)


def _residuals(Z: NDArray, y: NDArray, weights: Any) -> float:
    """Do what `dsoftmax.kernels.softmax.residuals` does, in one pass of a few columns after the other."""
    from dsoftmax.kernels.compiled import dense

    lanes = VECTOR_BYTES // Z.itemsize
    labels, s = _rows(y, Z.dtype, lanes), _weights(weights, Z.dtype, lanes, Z.shape[1])
    return float(
        dense.tile_residuals(
            Z.reshape(-1), *Z.shape, labels, s, COLUMNS, COLUMNS + 2 * lanes, lanes
        )
    )


def _rows(values: Any, dtype: np.dtype, lanes: int) -> NDArray:
    """One number a row in the compute dtype, and zeros to fill the last vectors; labels are exact in it."""
    out = np.zeros(len(values) + 2 * lanes, dtype)
    out[: len(values)] = values
    return out


def _weights(weights: Any, dtype: np.dtype, lanes: int, n: int) -> NDArray:
    """The same of weights: those of each row, or none or 1.0 for ones."""
    return _ones(n, dtype, lanes) if np.ndim(weights) == 0 else _rows(weights, dtype, lanes)


@lru_cache(maxsize=4)
def _ones(n: int, dtype: np.dtype, lanes: int) -> NDArray:
    """Ones for all the rows of a leaf, most of which have as many: nobody changes them."""
    return _rows(np.ones(n, dtype), dtype, lanes)


def _stored(X: NDArray) -> tuple[int, int, int, NDArray]:
    """Where X lies, its strides in bytes, and its dtype: so that all layouts share one compiled loop."""
    return X.ctypes.data, X.strides[0], X.strides[1], _tag(X)


def _entries(X: Features) -> list[Any]:
    """Where the three arrays of CSR lie, and their dtypes."""
    return [
        part for array in (X.data, X.indices, X.indptr) for part in (array.ctypes.data, _tag(array))
    ]


def _tag(array: NDArray) -> NDArray:
    return np.empty(0, np.uint8 if array.dtype.kind == "b" else array.dtype)
