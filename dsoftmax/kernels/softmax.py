r"""The formulas of softmax regression, as sums over the rows of one block.

Objective
---------
Row :math:`x_i \in R^p` with label :math:`y_i \in \{0 … K-1\}` and weight :math:`s_i \ge 0`. With
:math:`z_{ik} = \theta^{(k)T} x_i + b_k` and :math:`P_{ik} = \exp z_{ik} / \sum_j \exp z_{ij}`, a
block contributes

.. math::  J(\theta) = - \sum_i s_i \sum_k 1\{y_i = k\} \log P_{ik}.

Gradient
--------
Split the logarithm, :math:`\log P_{il} = z_{il} - \log \sum_j \exp z_{ij}`. Then for every pair
of classes k, l

.. math::  ∂ \log P_{il} / ∂ z_{ik} = 1\{l = k\} - \exp z_{ik} / \sum_j \exp z_{ij}
           = 1\{l = k\} - P_{ik}.

Sum over l with the indicator of the label; :math:`\sum_l 1\{y_i = l\} = 1`, so

.. math::  ∂J_i / ∂z_{ik} = -s_i \sum_l 1\{y_i = l\} (1\{l = k\} - P_{ik})
           = -s_i (1\{y_i = k\} - P_{ik}).

Chain through :math:`∂z_{ik} / ∂\theta^{(k)} = x_i`, :math:`∂z_{ik} / ∂b_k = 1`:

.. math::  ∇_{\theta^{(k)}} J = - \sum_i s_i\, x_i (1\{y_i = k\} - P_{ik}).

Hessian
-------
Along a direction V move the logits by :math:`a_{ik} = V^{(k)T} x_i + v_k`. Since
:math:`∂P_{ik}/∂z_{il} = P_{ik}(1\{k = l\} - P_{il})`, the residual :math:`P_{ik}` moves by
:math:`\sum_l P_{ik}(1\{k = l\} - P_{il}) a_{il} = P_{ik}(a_{ik} - \sum_l P_{il} a_{il})`, and

.. math::  (H V)^{(k)} = \sum_i s_i\, x_i\, P_{ik} (a_{ik} - \sum_l P_{il} a_{il}).

The block of classes k and l is

.. math::  H_{kl} = \sum_i s_i (1\{k = l\} P_{ik} - P_{ik} P_{il})\, x_i x_i^T.

The probabilities of a row add up to one, so the blocks of one class add up to zero,
:math:`H_{kk} = -\sum_{l≠k} H_{kl}`. The blocks of the pairs k < l therefore determine the whole
Hessian.

Conventions
-----------
* ``theta`` is (K, p+1) float64: a row per class, the intercept last.
* ``X`` is (rows, p), an ndarray or SciPy CSR of any real dtype.
* ``y`` is (rows,) integer codes 0 … K-1. ``weights`` is (rows,) float64, or None for ones.
* Kernels return **sums** over their rows. Sums over any partition of the rows may be added.
* Arrays inside are class-major: ``Z`` is (K, rows). Maximum, exp, sum and the update at the label
  then run along contiguous rows.
* Kernels visit rows in the tiles of `dsoftmax.kernels.tiles`, so no array of (rows, K) exists for a
  whole block. The tiles depend on (p, K, dtype) alone, so the same rows give the same bits.
* Products run in the compute dtype. Sums beyond one tile are float64.
* Each row's maximum is subtracted from its logits, so nothing overflows.
* The sum of the other classes stands for 1 − P of the label, so nothing cancels in a row that is
  fitted well.

References
----------
Böhning, D. (1992). Multinomial logistic regression algorithm. Ann. Inst. Stat. Math. 44, 197–200,
for the Hessian.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels.tiles import compute_dtype, logits_buffer, theta_order, tile_weights, tiles

Float = NDArray[np.float64]

LOWEST = {np.dtype(np.float32): -75.0, np.dtype(np.float64): -690.0}
"""Least logit, after the maximum is subtracted, whose exponential is not replaced by 0.

Smaller exponentials, and their products, would be subnormal numbers. Processors compute a hundred
times slower with those.
"""


def logits(theta: NDArray, tile: Features, out: NDArray) -> NDArray:
    """Write Z = Θ·Xᵀ + b to the flat ``out``; return it as (K, rows), contiguous.

    Work 2·K·rows·p flops (CSR: 2·K·nnz).
    """
    W, b = theta[:, :-1], theta[:, -1:]
    K, rows = len(theta), tile.shape[0]
    Z = out[: K * rows].reshape(K, rows)
    if scipy.sparse.issparse(tile):
        np.copyto(Z, (tile @ np.ascontiguousarray(W.T)).T)
    else:
        np.matmul(W, tile.T, out=Z)
    Z += b
    return Z


def add_product(R: NDArray, tile: Features, into: Float) -> None:
    """Add R·[X, 1] to ``into``, (K, p+1) float64. Work 2·K·rows·p flops (CSR: 2·K·nnz)."""
    if scipy.sparse.issparse(tile):
        into[:, :-1] += (tile.T @ np.ascontiguousarray(R.T)).T
    else:
        into[:, :-1] += R @ tile
    into[:, -1] += R.sum(axis=1)


def exponentials(Z: NDArray, lowest: float) -> NDArray:
    """Replace logits below their maximum by their exponentials in place.

    Logits below ``lowest`` become 0.
    """
    above = Z >= lowest if Z.size and Z.min() < lowest else None
    E = np.exp(np.maximum(Z, lowest, out=Z), out=Z)
    if above is not None:
        E *= above
    return E


def probabilities(Z: NDArray) -> NDArray:
    """Replace logits by probabilities in place.

    Products of two probabilities are no subnormal numbers either.
    """
    Z -= Z.max(axis=0)
    P = exponentials(Z, LOWEST[Z.dtype] / 2)
    P /= P.sum(axis=0)
    return P


def residuals(Z: NDArray, y: NDArray, weights: Any) -> float:
    """Return J of a tile; replace its logits by sᵢ(Pᵢₖ − 1{yᵢ=k}) in place.

    Parameters
    ----------
    Z : (K, rows), contiguous
        Logits; on return, residuals.
    y : (rows,) integers
        Class codes 0 … K-1.
    weights : (rows,) of the dtype of Z, or 1.0
    """
    flat = Z.reshape(-1)
    # The flat index of each row's own class.
    label = y * np.intp(Z.shape[1]) + np.arange(Z.shape[1])
    Z -= Z.max(axis=0)
    z_label = flat.take(label)
    E = exponentials(Z, LOWEST[Z.dtype])
    e_label = flat.take(label)
    flat[label] = 0
    others = E.sum(axis=0)  # Σ over k ≠ y, so that 1 − P of the label does not cancel
    scale = weights / (others + e_label)
    losses = np.log1p(others + (e_label - 1)) - z_label
    E *= scale
    flat[label] = -others * scale
    return float(np.sum(losses * weights, dtype=np.float64))


def value_and_gradient(
    theta: Float,
    X: Features,
    y: NDArray,
    weights: Float | None = None,
    dtype: np.dtype | None = None,
    to_residuals: Callable[[NDArray, NDArray, Any], float] = residuals,
) -> tuple[float, Float]:
    """Return J and ∇J of one block, as sums.

    Parameters
    ----------
    theta : (K, p+1) float64
        A row per class, the intercept last.
    X : (rows, p) ndarray or CSR
    y : (rows,) integers
        Class codes 0 … K-1.
    weights : (rows,) float64, optional
    dtype : dtype, optional
        Dtype of the products; `compute_dtype` of X when None.
    to_residuals : callable, optional
        Function with the contract of `residuals`.

    Returns
    -------
    value : float
        J = Σᵢ sᵢ (log Σⱼ exp zᵢⱼ − z of the label).
    gradient : (K, p+1) float64
        −Σᵢ sᵢ [xᵢ, 1] (1{yᵢ=k} − Pᵢₖ).

    Notes
    -----
    Work 4·K·p flops and K exponentials a row (CSR: 4·K·nnz); memory
    `dsoftmax.kernels.footprint.gradient_bytes`.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    order = theta_order(X)
    point = theta.astype(dtype, order=order)
    gradient = np.zeros(theta.shape, order=order)
    value = 0.0
    buffer = logits_buffer(theta, X, dtype)
    for rows, tile in tiles(X, len(theta), dtype):
        Z = logits(point, tile, buffer)
        value += to_residuals(Z, y[rows], tile_weights(weights, rows, dtype))
        add_product(Z, tile, gradient)
    return value, np.ascontiguousarray(gradient)


def decision_function(theta: Float, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the logits of one block, (rows, K) in the compute dtype."""
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    point = theta.astype(dtype, order=theta_order(X))
    out = np.empty((X.shape[0], len(theta)), dtype)
    buffer = logits_buffer(theta, X, dtype)
    for rows, tile in tiles(X, len(theta), dtype):
        out[rows] = logits(point, tile, buffer).T
    return out


def log_softmax(Z: NDArray) -> NDArray:
    """Return log P from logits, (rows, K): z − max z − log Σ exp(z − max z), never log 0."""
    shifted = Z - Z.max(axis=1, keepdims=True)
    shifted -= np.log(
        exponentials(shifted.copy(), LOWEST[shifted.dtype]).sum(axis=1, keepdims=True)
    )
    return shifted


def softmax(Z: NDArray) -> NDArray:
    """Return P from logits, (rows, K); each row sums to one up to rounding."""
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    E /= E.sum(axis=1, keepdims=True)
    return E
