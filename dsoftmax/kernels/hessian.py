"""The Hessian of one block of rows: as a product with a direction, and summed over pairs of classes."""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features, rows_between
from dsoftmax.kernels.curvature import upper_triangle
from dsoftmax.kernels.softmax import _add_product, _logits, _probabilities, _weights_of
from dsoftmax.kernels.tiles import TILE_BYTES, _order, _scratch, _tiles, compute_dtype

Float = NDArray[np.float64]


def hessian_product(
    theta: Float,
    direction: Float,
    X: Features,
    weights: Float | None = None,
    dtype: np.dtype | None = None,
) -> Float:
    """Return H·V of one block: Σᵢ sᵢ [xᵢ, 1] Pᵢₖ (aᵢₖ − Σₗ Pᵢₗ aᵢₗ), with aᵢ the logits of V.

    Parameters
    ----------
    theta, direction : (K, p+1) float64
    X : (rows, p) ndarray or CSR
    weights : (rows,) float64, optional
    dtype : dtype, optional
        Of the products; `compute_dtype` of X when None.

    Returns
    -------
    (K, p+1) float64

    Notes
    -----
    Work 6·K·p flops and K exponentials a row (CSR: 6·K·nnz); memory one tile and its two (K, rows) arrays.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    order = _order(X)
    point, along = theta.astype(dtype, order=order), direction.astype(dtype, order=order)
    product = np.zeros(theta.shape, order=order)
    logits, moves = _scratch(theta, X, dtype), _scratch(theta, X, dtype)
    for rows, tile in _tiles(X, len(theta), dtype):
        P = _probabilities(_logits(point, tile, logits))
        A = _logits(along, tile, moves)
        A -= np.einsum("kn,kn->n", P, A)
        A *= P
        A *= _weights_of(weights, rows, dtype)
        _add_product(A, tile, product)
    return np.ascontiguousarray(product)


def hessian_products(
    theta: Float, X: Features, weights: Float | None = None
) -> Callable[[Float], Float]:
    """Return what gives H·V of one block for any V, with the probabilities at θ kept: for many products at one point.

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) float64 ndarray or CSR
    weights : (rows,) float64, optional

    Returns
    -------
    callable
        From (K, p+1) float64 to (K, p+1) float64.

    Notes
    -----
    Work 4·K·p flops a row (CSR: 4·K·nnz) a product; memory three arrays of (K, rows) float64.
    """
    K, rows = len(theta), X.shape[0]
    P = _probabilities(_logits(theta, X, np.empty(K * rows)))
    sP = P if weights is None else P * weights
    room = np.empty(K * rows)
    order = _order(X)

    def product(direction: Float) -> Float:
        A = _logits(np.asarray(direction, order=order), X, room)
        A -= np.einsum("kn,kn->n", P, A)
        A *= sP
        found = np.zeros(theta.shape, order=order)
        _add_product(A, X, found)
        return np.ascontiguousarray(found)

    return product


def hessian_pairs(
    theta: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None
) -> Float:
    r"""Return what the Hessian of one block is made of, a symmetric matrix for each pair of classes.

    The curvature of a row is that of all pairs of classes, with nothing subtracted,

    .. math::  \mathrm{diag}\, p - pp^T = \sum_{k<l} p_k p_l\, (e_k - e_l)(e_k - e_l)^T,

    so that :math:`H = \sum_{k<l} (e_k - e_l)(e_k - e_l)^T ⊗ G_{kl}` with :math:`G_{kl} = \sum_i s_i p_{ik} p_{il} x̃_i x̃_i^T` and
    x̃ = [x, 1].

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) ndarray or CSR
        CSR tiles are made dense.
    weights : (rows,) float64, optional
    dtype : dtype, optional
        Of the products; `compute_dtype` of X when None.

    Returns
    -------
    (K·(K-1)/2, (p+1)·(p+2)/2) float64
        G of the pairs (0, 1), (0, 2), …; upper triangles, row by row.

    Notes
    -----
    Work K²·(p+1)²/2 flops a row, about half of what products of K·(p+1) columns take; memory the result and
    `hessian_scratch_bytes`.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    K, d = theta.shape
    n = X.shape[0]
    n_pairs, n_products = K * (K - 1) // 2, d * (d + 1) // 2
    step = min(hessian_rows(K, d, dtype), max(n, 1))
    point, found = theta.astype(dtype), np.zeros((n_pairs, n_products))
    rows_of_x, curved = np.ones((d, step), dtype), np.empty((n_pairs, step), dtype)
    shared = _shares_products(K, d)
    products = np.empty((n_products if shared else d, step), dtype)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        tile = rows_between(X, rows.start, rows.stop)
        x, c, t = (whole[:, : rows.stop - start] for whole in (rows_of_x, curved, products))
        x[:-1] = (tile.astype(dtype).toarray() if scipy.sparse.issparse(tile) else tile).T
        P = _probabilities(point @ x)
        _pair_products(P * _weights_of(weights, rows, dtype), P, 1, c)
        if shared:
            _pair_products(x, x, 0, t)
            found += c @ t.T
        else:
            upper = upper_triangle(d)
            for pair, root in enumerate(np.sqrt(c)):
                np.multiply(x, root, out=t)
                found[pair] += (t @ t.T).ravel()[upper]  # NumPy sees AAᵀ and computes one triangle
    return found


def _pair_products(left: NDArray, right: NDArray, apart: int, out: NDArray) -> None:
    """Write leftₖ·rightₗ for all k and l ≥ k + apart, row by row of the triangle."""
    start = 0
    for k, row in enumerate(left):
        others = right[k + apart :]
        np.multiply(row, others, out=out[start : start + len(others)])
        start += len(others)


def unpack_hessian(pairs: Float, n_classes: int) -> Float:
    """Return the Hessian from `hessian_pairs`.

    Parameters
    ----------
    pairs : (K·(K-1)/2, d·(d+1)/2) float64
    n_classes : int
        K.

    Returns
    -------
    (K·d, K·d) float64
        Symmetric; entry (k·d + a, l·d + c) belongs to θ⁽ᵏ⁾ₐ and θ⁽ˡ⁾꜀.
    """
    d = (math.isqrt(8 * pairs.shape[1] + 1) - 1) // 2
    H = np.zeros((n_classes, d, n_classes, d))
    gram, (row, column) = np.empty((d, d)), np.triu_indices(d)
    for k, other, packed in zip(*np.triu_indices(n_classes, 1), pairs, strict=True):
        gram[row, column] = gram[column, row] = packed
        H[k, :, other] = H[other, :, k] = -gram
        H[k, :, k] += gram
        H[other, :, other] += gram
    return H.reshape(n_classes * d, n_classes * d)


def hessian_entries(n_features: int, n_classes: int) -> int:
    """Return the size of `hessian_pairs`."""
    d = n_features + 1
    return (n_classes * (n_classes - 1) // 2) * (d * (d + 1) // 2)


def _shares_products(K: int, d: int) -> bool:
    """Whether the products of all features are formed once for all pairs, and not x̃ scaled for each: with few, narrow or many pairs."""
    return d <= 16 + K * (K - 1) // 2


def hessian_rows(K: int, d: int, dtype: np.dtype) -> int:
    """Return the rows of a tile of `hessian_pairs`: what fits in `TILE_BYTES`, a multiple of 64 between 64 and 2,048."""
    entries = d + K * (K - 1) // 2 + (d * (d + 1) // 2 if _shares_products(K, d) else d)
    return min(max(TILE_BYTES // (dtype.itemsize * entries) // 64 * 64, 64), 2048)


def hessian_scratch_bytes(n_features: int, n_classes: int, dtype: np.dtype) -> int:
    """Return what `hessian_pairs` takes beside its result: a tile of features, pairs and products, and a product of all (bytes)."""
    K, d = n_classes, n_features + 1
    shared = _shares_products(K, d)
    entries = (
        2 * d
        + 3 * K
        + K * (K - 1) // 2 * (1 if shared else 2)
        + (d * (d + 1) // 2 if shared else d)
    )
    whole = hessian_entries(n_features, K) if shared else 2 * d * d
    return dtype.itemsize * (hessian_rows(K, d, dtype) * entries + whole)
