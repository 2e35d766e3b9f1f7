"""The curvature of one block, less than its whole Hessian: moments, and the blocks of classes."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels.softmax import logits, probabilities
from dsoftmax.kernels.tiles import compute_dtype, logits_buffer, theta_order, tile_weights, tiles

Float = NDArray[np.float64]


def moments(
    theta: Float,
    X: Features,
    weights: Float | None = None,
    dtype: np.dtype | None = None,
    whole: bool = True,
) -> Float:
    """Return the moments of the probabilities of one block, Σ sᵢ(diag pᵢ − pᵢpᵢᵀ).

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) ndarray or CSR
    weights : (rows,) float64, optional
    dtype : dtype, optional
        Dtype of the products; `compute_dtype` of X when None.
    whole : bool
        Whether to return the matrix; its diagonal otherwise.

    Returns
    -------
    (K, K) or (K,) float64
        Curvature of the losses by the logits. ∇²J ≈ moments ⊗ G/S assumes that it is the same for
        all rows.

    Notes
    -----
    Work 2·K·(p + K) flops and K exponentials a row (CSR: 2·K·(nnz + K)). The diagonal needs no
    term of K². Memory one tile and its two (K, rows) arrays.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    point = theta.astype(dtype, order=theta_order(X))
    found = np.zeros((len(theta), len(theta)) if whole else len(theta))
    buffer = logits_buffer(theta, X, dtype)
    for rows, tile in tiles(X, len(theta), dtype):
        P = probabilities(logits(point, tile, buffer))
        sP = P * tile_weights(weights, rows, dtype)
        if not whole:
            sP *= np.subtract(1, P, out=P)
            found += sP.sum(axis=1, dtype=np.float64)
            continue
        found -= sP @ P.T
        found[np.diag_indices(len(found))] += sP.sum(axis=1, dtype=np.float64)
    return found


def class_blocks(theta: Float, X: NDArray, weights: Float) -> Float:
    """Return the blocks of the Hessian of one block of rows that belong to one class each.

    Parameters
    ----------
    theta : (K, p+1) float64
    X : (rows, p) ndarray
    weights : (rows,) float64

    Returns
    -------
    (K, p+1, p+1) float64
        Σ sᵢPᵢₖ(1 − Pᵢₖ)x̃ᵢx̃ᵢᵀ, see `dsoftmax.kernels.softmax`.

    Notes
    -----
    Work K·(p+1)² flops a row, in the compute dtype of X; memory a tile and two (p+1, rows) arrays.
    """
    dtype = compute_dtype(X.dtype)
    K, d = theta.shape
    found = np.zeros((K, d, d))
    point, buffer = theta.astype(dtype, order=theta_order(X)), logits_buffer(theta, X, dtype)
    for rows, tile in tiles(X, K, dtype):
        P = probabilities(logits(point, tile, buffer))
        P *= 1 - P
        P *= tile_weights(weights, rows, dtype)
        x = np.ones((d, tile.shape[0]), dtype)
        x[:-1] = tile.T
        scaled = np.empty_like(x)
        for k, root in enumerate(np.sqrt(P, out=P)):
            np.multiply(x, root, out=scaled)
            found[k] += scaled @ scaled.T  # NumPy sees AAᵀ and computes one triangle
    return found
