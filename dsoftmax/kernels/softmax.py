r"""The mathematics of one block of rows: softmax regression as sums over rows.

Objective
---------
Row :math:`x_i \in R^p` with label :math:`y_i \in \{0 … K-1\}` and weight :math:`s_i \ge 0`. With
:math:`z_{ik} = \theta^{(k)T} x_i + b_k` and :math:`P_{ik} = \exp z_{ik} / \sum_j \exp z_{ij}`, a block contributes

.. math::  J(\theta) = - \sum_i s_i \sum_k 1\{y_i = k\} \log P_{ik}.

Gradient
--------
Split the logarithm, :math:`\log P_{il} = z_{il} - \log \sum_j \exp z_{ij}`. Then for every pair of classes k, l

.. math::  ∂ \log P_{il} / ∂ z_{ik} = 1\{l = k\} - \exp z_{ik} / \sum_j \exp z_{ij} = 1\{l = k\} - P_{ik}.

Sum over l with the indicator of the label; :math:`\sum_l 1\{y_i = l\} = 1`, so

.. math::  ∂J_i / ∂z_{ik} = -s_i \sum_l 1\{y_i = l\} (1\{l = k\} - P_{ik}) = -s_i (1\{y_i = k\} - P_{ik}).

Chain through :math:`∂z_{ik} / ∂\theta^{(k)} = x_i`, :math:`∂z_{ik} / ∂b_k = 1`:

.. math::  ∇_{\theta^{(k)}} J = - \sum_i s_i\, x_i (1\{y_i = k\} - P_{ik}).

Hessian
-------
Along a direction V move the logits by :math:`a_{ik} = V^{(k)T} x_i + v_k`. Since
:math:`∂P_{ik}/∂z_{il} = P_{ik}(1\{k = l\} - P_{il})`, the residual :math:`P_{ik}` moves by
:math:`\sum_l P_{ik}(1\{k = l\} - P_{il}) a_{il} = P_{ik}(a_{ik} - \sum_l P_{il} a_{il})`, and

.. math::  (H V)^{(k)} = \sum_i s_i\, x_i\, P_{ik} (a_{ik} - \sum_l P_{il} a_{il}).

In blocks of two classes, :math:`H_{kl} = \sum_i s_i (1\{k = l\} P_{ik} - P_{ik} P_{il}) x_i x_i^T`. Since the
probabilities of a row add up to one, the blocks of a class do to zero, :math:`H_{kk} = -\sum_{l≠k} H_{kl}`: those of the
pairs k < l are all of the Hessian.

Conventions
-----------
* ``theta`` is (K, p+1) float64: a row per class, the intercept last. ``X`` is (rows, p), ndarray or SciPy CSR, of any
  real dtype. ``y`` is (rows,) integer codes 0 … K-1. ``weights`` is (rows,) float64 or None, which means ones.
* Kernels return **sums** over their rows; sums over any partition of the rows may be added.
* Inside, everything is class-major: ``Z`` is (K, rows), so that max, exp, sum and the label update run along contiguous
  rows. Rows are visited in tiles that stay in the cache; a tile is converted to the compute dtype in the cache, and no
  array of (rows, K) of a whole block exists. The tiles depend on (p, K, dtype) alone, so the same rows give the same bits.
* Products run in the compute dtype, sums beyond one tile in float64.
* Logits are taken minus their maximum, so that nothing overflows; 1 − P of the label is the sum of the other classes, so
  that nothing cancels when a row is fitted well.

References
----------
Böhning, D. (1992). Multinomial logistic regression algorithm. Ann. Inst. Stat. Math. 44, 197–200, for the Hessian.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels.tiles import _order, _scratch, _tiles, compute_dtype

Float = NDArray[np.float64]
LOWEST = {np.dtype(np.float32): -75.0, np.dtype(np.float64): -690.0}
"""Logits less than their maximum by more than this have the exponential 0: it, and what it is multiplied with, would be
subnormal numbers, with which processors compute a hundred times slower."""


def _logits(theta: NDArray, tile: Features, out: NDArray) -> NDArray:
    """Z = Θ·Xᵀ + b into the flat ``out``, as (K, rows), contiguous. Work 2·K·rows·p flops (CSR: 2·K·nnz)."""
    W, b = theta[:, :-1], theta[:, -1:]
    K, rows = len(theta), tile.shape[0]
    Z = out[: K * rows].reshape(K, rows)
    if scipy.sparse.issparse(tile):
        np.copyto(Z, (tile @ np.ascontiguousarray(W.T)).T)
    else:
        np.matmul(W, tile.T, out=Z)
    Z += b
    return Z


def _add_product(R: NDArray, tile: Features, into: Float) -> None:
    """Add R·[X, 1] to ``into``, (K, p+1) float64. Work 2·K·rows·p flops (CSR: 2·K·nnz)."""
    if scipy.sparse.issparse(tile):
        into[:, :-1] += (tile.T @ np.ascontiguousarray(R.T)).T
    else:
        into[:, :-1] += R @ tile
    into[:, -1] += R.sum(axis=1)


def _exponentials(Z: NDArray, lowest: float) -> NDArray:
    """Replace logits less their maximum by their exponentials in place; below ``lowest`` by 0."""
    kept = Z >= lowest if Z.size and Z.min() < lowest else None
    E = np.exp(np.maximum(Z, lowest, out=Z), out=Z)
    if kept is not None:
        E *= kept
    return E


def _probabilities(Z: NDArray) -> NDArray:
    """Replace logits by probabilities in place, whose products are no subnormal numbers either."""
    Z -= Z.max(axis=0)
    P = _exponentials(Z, LOWEST[Z.dtype] / 2)
    P /= P.sum(axis=0)
    return P


def _weights_of(weights: Float | None, rows: slice, dtype: np.dtype) -> Any:
    return 1.0 if weights is None else weights[rows].astype(dtype, copy=False)


def residuals(Z: NDArray, y: NDArray, weights: Any) -> float:
    """Return J of a tile and replace its logits by sᵢ(Pᵢₖ − 1{yᵢ=k}).

    Parameters
    ----------
    Z : (K, rows), contiguous
        Changed in place.
    y : (rows,) integers
        Class codes 0 … K-1.
    weights : (rows,) of the dtype of Z, or 1.0
    """
    flat = Z.reshape(-1)
    label = y * np.intp(Z.shape[1]) + np.arange(
        Z.shape[1]
    )  # where row i's own class lies in the flat array
    Z -= Z.max(axis=0)
    z_label = flat.take(label)
    E = _exponentials(Z, LOWEST[Z.dtype])
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
        Of the products; `compute_dtype` of X when None.
    to_residuals : callable, optional
        What stands for `residuals`: the same work in another way.

    Returns
    -------
    value : float
        J = Σᵢ sᵢ (log Σⱼ exp zᵢⱼ − z of the label).
    gradient : (K, p+1) float64
        −Σᵢ sᵢ [xᵢ, 1] (1{yᵢ=k} − Pᵢₖ).

    Notes
    -----
    Work 4·K·p flops and K exponentials a row (CSR: 4·K·nnz); memory one tile, `TILE_BYTES` or 1,024 rows.
    """
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    order = _order(X)
    point = theta.astype(dtype, order=order)
    gradient = np.zeros(theta.shape, order=order)
    value = 0.0
    logits = _scratch(theta, X, dtype)
    for rows, tile in _tiles(X, len(theta), dtype):
        Z = _logits(point, tile, logits)
        value += to_residuals(Z, y[rows], _weights_of(weights, rows, dtype))
        _add_product(Z, tile, gradient)
    return value, np.ascontiguousarray(gradient)


def decision_function(theta: Float, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the logits of one block, (rows, K) in the compute dtype."""
    dtype = np.dtype(dtype or compute_dtype(X.dtype))
    point = theta.astype(dtype, order=_order(X))
    out = np.empty((X.shape[0], len(theta)), dtype)
    logits = _scratch(theta, X, dtype)
    for rows, tile in _tiles(X, len(theta), dtype):
        out[rows] = _logits(point, tile, logits).T
    return out


def log_softmax(logits: NDArray) -> NDArray:
    """Return log P from logits, (rows, K): z − max z − log Σ exp(z − max z), never log of a softmax."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    shifted -= np.log(
        _exponentials(shifted.copy(), LOWEST[shifted.dtype]).sum(axis=1, keepdims=True)
    )
    return shifted


def softmax(logits: NDArray) -> NDArray:
    """Return P from logits, (rows, K); each row sums to one to rounding."""
    E = np.exp(logits - logits.max(axis=1, keepdims=True))
    E /= E.sum(axis=1, keepdims=True)
    return E
