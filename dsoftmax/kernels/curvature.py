"""The curvature of one block as Kronecker factors: moments of probabilities, and Gram matrices."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels.packed import triangle_entries, upper_triangle
from dsoftmax.kernels.softmax import logits, probabilities
from dsoftmax.kernels.tiles import compute_dtype, logits_buffer, theta_order, tile_weights, tiles

Float = NDArray[np.float64]

GRAM_ROWS = 2048
"""Rows of a batch whose Gram matrix is one product."""
NEGLIGIBLE = 0.01
"""Least pₖpₗ of a row that counts towards the pair k, l.

Other rows count towards the group of their class.
"""
NEGLIGIBLE_REST = 1e-4
"""Least curvature of a row that counts towards the group of its class, per unit of weight."""


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
        Dtype of the products; `compute_dtype` of X when None.

    Returns
    -------
    (K, K) float64
        Curvature of the losses by the logits. ∇²J ≈ moments ⊗ G/S assumes that it is the same for
        all rows.

    Notes
    -----
    Work 2·K·(p + K) flops and K exponentials a row (CSR: 2·K·(nnz + K)); memory one tile and its
    two (K, rows) arrays.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    point = theta.astype(dtype, order=theta_order(X))
    found = np.zeros((len(theta), len(theta)))
    buffer = logits_buffer(theta, X, dtype)
    for rows, tile in tiles(X, len(theta), dtype):
        P = probabilities(logits(point, tile, buffer))
        sP = P * tile_weights(weights, rows, dtype)
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
    r"""Return the Hessian of one block as Kronecker products over groups of classes.

    A row's curvature is a sum over all pairs of classes:

    .. math::  \mathrm{diag}\, p - pp^T = \sum_{k<l} p_k p_l\, (e_k - e_l)(e_k - e_l)^T.

    A pair that is a group of its own has the moments

    .. math::  A = \sum_i s_i p_{ik} p_{il} (e_k - e_l)(e_k - e_l)^T.

    With its Gram matrix they are exactly the pair's part of the Hessian. The curvature of all
    other pairs of a row counts towards the group of the row's most probable class. The Hessian is
    about Σ_g A_g ⊗ G_g / tr A_g.

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) ndarray
    weights : (rows,) float64, optional
    groups : (K, K) int64
        Group of class k at [k, k]. Group of the pair k, l at [k, l] if the pair is a group, else
        that of class k.
    dtype : dtype, optional
        Dtype of the products; `compute_dtype` of X when None.

    Returns
    -------
    moments : (groups, K, K) float64
        A_g.
    grams : (groups, (p+1)·(p+2)/2) float64
        G_g = Σ sᵢ·tᵢ·x̃ᵢx̃ᵢᵀ, with tᵢ the trace of the row's part of A_g; upper triangles, row by
        row.

    Notes
    -----
    Work 2·K·p + 2·K² flops and K exponentials a row, and p² flops for each group in which a row
    counts. Memory `dsoftmax.kernels.footprint.curvature_bytes`: P of all rows, and the rows of a
    batch twice.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    K, d = theta.shape
    n_groups, n = int(groups.max()) + 1, X.shape[0]
    point, buffer, P = theta.astype(dtype), logits_buffer(theta, X, dtype), np.empty((K, n), dtype)
    for rows, tile in tiles(X, K, dtype):
        P[:, rows] = probabilities(logits(point, tile, buffer))
    s = np.ones(n, dtype) if weights is None else weights.astype(dtype)
    own = np.diag(groups)[P.argmax(axis=0)]
    rest = s * np.maximum(1 - np.einsum("kn,kn->n", P, P), 0)
    moments, grams = np.zeros((n_groups, K, K)), np.zeros((n_groups, triangle_entries(d)))
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
    """Return Σ wᵢx̃ᵢx̃ᵢᵀ over some rows, ((p+1)·(p+2)/2,).

    Each batch of rows is one product in ``dtype``.
    """
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
