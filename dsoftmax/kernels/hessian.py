"""The Hessian of one block: its product with a direction, and its sums over pairs of classes."""

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features, rows_between
from dsoftmax.kernels.packed import triangle_entries, upper_triangle
from dsoftmax.kernels.softmax import add_product, logits, probabilities
from dsoftmax.kernels.tiles import (
    compute_dtype,
    logits_buffer,
    pair_tile_rows,
    shares_products,
    theta_order,
    tile_weights,
    tiles,
)

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
        Dtype of the products; `compute_dtype` of X when None.

    Returns
    -------
    (K, p+1) float64

    Notes
    -----
    Work 6·K·p flops and K exponentials a row (CSR: 6·K·nnz); memory one tile and its two (K,
    rows) arrays.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    order = theta_order(X)
    point, along = theta.astype(dtype, order=order), direction.astype(dtype, order=order)
    product = np.zeros(theta.shape, order=order)
    buffer, moves = logits_buffer(theta, X, dtype), logits_buffer(theta, X, dtype)
    for rows, tile in tiles(X, len(theta), dtype):
        P = probabilities(logits(point, tile, buffer))
        A = logits(along, tile, moves)
        A -= np.einsum("kn,kn->n", P, A)
        A *= P
        A *= tile_weights(weights, rows, dtype)
        add_product(A, tile, product)
    return np.ascontiguousarray(product)


def hessian_products(
    theta: Float, X: Features, weights: Float | None = None
) -> Callable[[Float], Float]:
    """Return a function that multiplies the Hessian of one block at θ by any V.

    It computes the probabilities at θ once, so it suits many products at one point.

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) float64 ndarray or CSR
    weights : (rows,) float64, optional

    Returns
    -------
    callable
        Function from V to H·V, both (K, p+1) float64.

    Notes
    -----
    Work 4·K·p flops a row (CSR: 4·K·nnz) a product; memory three arrays of (K, rows) float64.
    """
    K, rows = len(theta), X.shape[0]
    P = probabilities(logits(theta, X, np.empty(K * rows)))
    sP = P if weights is None else P * weights
    buffer = np.empty(K * rows)
    order = theta_order(X)

    def product(direction: Float) -> Float:
        A = logits(np.asarray(direction, order=order), X, buffer)
        A -= np.einsum("kn,kn->n", P, A)
        A *= sP
        found = np.zeros(theta.shape, order=order)
        add_product(A, X, found)
        return np.ascontiguousarray(found)

    return product


def hessian_pairs(
    theta: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None
) -> Float:
    r"""Return the parts of the Hessian of one block: a symmetric matrix for each pair of classes.

    A row's curvature is a sum over all pairs of classes, in which nothing is subtracted:

    .. math::  \mathrm{diag}\, p - pp^T = \sum_{k<l} p_k p_l\, (e_k - e_l)(e_k - e_l)^T.

    With x̃ = [x, 1] the Hessian is therefore

    .. math::  H = \sum_{k<l} (e_k - e_l)(e_k - e_l)^T ⊗ G_{kl},
               G_{kl} = \sum_i s_i p_{ik} p_{il} x̃_i x̃_i^T.

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) ndarray or CSR
        CSR tiles are converted to dense ones.
    weights : (rows,) float64, optional
    dtype : dtype, optional
        Dtype of the products; `compute_dtype` of X when None.

    Returns
    -------
    (K·(K-1)/2, (p+1)·(p+2)/2) float64
        G_kl of the pairs (0, 1), (0, 2), …; upper triangles, row by row.

    Notes
    -----
    Work K²·(p+1)²/2 flops a row, about half the work of products of K·(p+1) columns. Memory the
    result and `dsoftmax.kernels.footprint.hessian_bytes`.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    K, d = theta.shape
    n = X.shape[0]
    n_pairs, n_products = K * (K - 1) // 2, triangle_entries(d)
    step = min(pair_tile_rows(K, d, dtype), max(n, 1))
    point, found = theta.astype(dtype), np.zeros((n_pairs, n_products))
    rows_of_x, curved = np.ones((d, step), dtype), np.empty((n_pairs, step), dtype)
    shared = shares_products(K, d)
    products = np.empty((n_products if shared else d, step), dtype)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        tile = rows_between(X, rows.start, rows.stop)
        x, c, t = (whole[:, : rows.stop - start] for whole in (rows_of_x, curved, products))
        x[:-1] = (tile.astype(dtype).toarray() if scipy.sparse.issparse(tile) else tile).T
        P = probabilities(point @ x)
        _pair_products(P * tile_weights(weights, rows, dtype), P, 1, c)
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
    """Return the Hessian from its parts, the result of `hessian_pairs`.

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
