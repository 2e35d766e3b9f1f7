"""Curvature of one block of rows as Kronecker factors: moments of the probabilities, and Gram matrices."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels.softmax import _logits, _probabilities, _weights_of
from dsoftmax.kernels.tiles import _order, _scratch, _tiles, compute_dtype, tile_rows

Float = NDArray[np.float64]

GRAM_ROWS = 2048
"""Rows whose Gram matrix is one product."""
NEGLIGIBLE, NEGLIGIBLE_REST = 0.01, 1e-4
"""Of a pair of classes, rows with less than this product of their probabilities are left to the group of their class; there, what
curves less than this is left out."""


def moments(
    theta: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None
) -> Float:
    """Return the moments of the probabilities of one block, Σ sᵢ(diag pᵢ − pᵢpᵢᵀ).

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) ndarray or CSR
    weights : (rows,) float64, optional
    dtype : dtype, optional
        Of the products; `compute_dtype` of X when None.

    Returns
    -------
    (K, K) float64
        The curvature of the losses by the logits, which ∇²J ≈ moments ⊗ G/S takes to be the same for all rows.

    Notes
    -----
    Work 2·K·(p + K) flops and K exponentials a row (CSR: 2·K·(nnz + K)); memory one tile and its two (K, rows) arrays.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    point = theta.astype(dtype, order=_order(X))
    found = np.zeros((len(theta), len(theta)))
    logits = _scratch(theta, X, dtype)
    for rows, tile in _tiles(X, len(theta), dtype):
        P = _probabilities(_logits(point, tile, logits))
        sP = P * _weights_of(weights, rows, dtype)
        found -= sP @ P.T
        found[np.diag_indices(len(found))] += sP.sum(axis=1, dtype=np.float64)
    return found


def curvatures(
    theta: Float,
    X: NDArray,
    weights: Float | None,
    groups: NDArray[np.int64],
    dtype: np.dtype | None = None,
) -> tuple[Float, Float]:
    r"""Return what the Hessian is made of, as a sum of Kronecker products over groups: pairs of classes, and the rest by class.

    The curvature of a row is that of all pairs of classes,

    .. math::  \mathrm{diag}\, p - pp^T = \sum_{k<l} p_k p_l\, (e_k - e_l)(e_k - e_l)^T,

    so that a pair that is a group has the moments :math:`A = Σ_i s_i p_{ik} p_{il} (e_k - e_l)(e_k - e_l)^T`, and with its Gram matrix
    its part of the Hessian exactly. What the other pairs curve a row is in the group of its most probable class. The Hessian is
    about Σ_g A_g ⊗ G_g / tr A_g.

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) ndarray
    weights : (rows,) float64, optional
    groups : (K, K) int64
        Of class k at [k, k]; at [k, l] of the pair k, l where that is a group, else [k, k] again.
    dtype : dtype, optional
        Of the products; `compute_dtype` of X when None.

    Returns
    -------
    moments : (groups, K, K) float64
        A_g.
    grams : (groups, (p+1)·(p+2)/2) float64
        G_g = Σ sᵢ·tᵢ·x̃ᵢx̃ᵢᵀ, tᵢ the trace of the row's part of A_g; upper triangles, row by row.

    Notes
    -----
    Work 2·K·p + 2·K² flops and K exponentials a row, and p² for each group in which it curves more than `NEGLIGIBLE`; memory
    P of all rows, and the rows of a batch twice.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    K, d = theta.shape
    n_groups, n = int(groups.max()) + 1, X.shape[0]
    point, logits, P = theta.astype(dtype), _scratch(theta, X, dtype), np.empty((K, n), dtype)
    for rows, tile in _tiles(X, K, dtype):
        P[:, rows] = _probabilities(_logits(point, tile, logits))
    s = np.ones(n, dtype) if weights is None else weights.astype(dtype)
    own = np.diag(groups)[P.argmax(axis=0)]
    rest = s * np.maximum(1 - np.einsum("kn,kn->n", P, P), 0)
    moments, grams = np.zeros((n_groups, K, K)), np.zeros((n_groups, d * (d + 1) // 2))
    for g in np.unique(own):
        mine = np.flatnonzero(own == g)
        sP = P[:, mine] * s[mine]
        moments[g] = np.diag(sP.sum(axis=1, dtype=np.float64)) - sP @ P[:, mine].T
    for k, other in np.argwhere(np.triu(groups != np.diag(groups)[:, None])):
        g, product = groups[k, other], P[k] * P[other]
        mine = np.flatnonzero(product > NEGLIGIBLE)
        curved = product[mine] * s[mine]
        direction = np.zeros(K)
        direction[[k, other]] = 1, -1
        for owner, mass in enumerate(np.bincount(own[mine], curved, n_groups)):
            if mass > 0:
                part = mass * np.outer(direction, direction)
                moments[owner] -= part
                moments[g] += part
        grams[g] = _gram(X, mine, 2 * curved, dtype)
        rest[mine] -= 2 * curved
    for g in np.unique(own):
        mine = np.flatnonzero((own == g) & (rest > NEGLIGIBLE_REST * s))
        grams[g] += _gram(X, mine, rest[mine], dtype)
    return moments, grams


def _gram(X: NDArray, rows: NDArray[np.int64], weights: NDArray, dtype: np.dtype) -> Float:
    """Return Σ wᵢx̃ᵢx̃ᵢᵀ over some rows, ((p+1)·(p+2)/2,): products in ``dtype`` of a batch of rows at a time."""
    d = X.shape[1] + 1
    upper = upper_triangle(d)
    found = np.zeros(len(upper))
    for start in range(0, len(rows), GRAM_ROWS):
        some = rows[start : start + GRAM_ROWS]
        tile = np.empty((len(some), d), dtype)
        tile[:, :-1], tile[:, -1] = X[some], 1
        tile *= np.sqrt(weights[start : start + GRAM_ROWS])[:, None]
        found += (tile.T @ tile).ravel()[upper]
    return found


@lru_cache(maxsize=1)
def upper_triangle(d: int) -> NDArray[np.int64]:
    """Return where the upper triangle of a (d, d) matrix lies in it, row by row, (d·(d+1)/2,)."""
    return np.flatnonzero(np.triu(np.ones((d, d), bool)))


def curvature_scratch_bytes(n_rows: int, n_features: int, n_classes: int, dtype: np.dtype) -> int:
    """Return what `curvatures` of so many rows takes beside its results (bytes)."""
    d = n_features + 1
    tiles = tile_rows(n_features, n_classes, dtype, False) * (d + n_classes) * dtype.itemsize
    batch = GRAM_ROWS * 2 * d * dtype.itemsize + 5 * 8 * d * d
    return tiles + batch + n_rows * (3 * n_classes * dtype.itemsize + 64)
