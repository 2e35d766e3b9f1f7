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

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Float = NDArray[np.float64]
Features = Any  # ndarray or scipy.sparse.csr_array / csr_matrix, (rows, p)

TILE_BYTES = 3 * 2**20
"""What a tile of rows and its logits may take of the cache (bytes), unless they are fewer than 1,024 rows: after each tile (K, p)
is added in float64. Larger than the second-level cache: each of NumPy's steps must last long beside the handing over of the
interpreter's lock, or two threads are no faster than one."""
SPARSE_TILE_ROWS = 8192
"""Rows of a CSR tile: each adds a dense (K, p) product, so that fewer rows would cost more."""

GRAM_ROWS = 2048
"""Rows whose Gram matrix is one product."""
LOWEST = {np.dtype(np.float32): -75.0, np.dtype(np.float64): -690.0}
"""Logits less than their maximum by more than this have the exponential 0: it, and what it is multiplied with, would be
subnormal numbers, with which processors compute a hundred times slower."""
NEGLIGIBLE, NEGLIGIBLE_REST = 0.01, 1e-4
"""Of a pair of classes, rows with less than this product of their probabilities are left to the group of their class; there, what
curves less than this is left out."""


def compute_dtype(stored: np.dtype) -> np.dtype:
    """Return the dtype of the products: float32 where it holds every stored value exactly, else float64."""
    exact = stored.kind == "b" or stored.itemsize <= 2 or stored.newbyteorder("=") == np.float32
    return np.dtype(np.float32 if exact else np.float64)


def tile_rows(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return the rows of a tile: what fits in `TILE_BYTES`, a multiple of 64 between 1,024 and 16,384; CSR as stated."""
    if sparse:
        return SPARSE_TILE_ROWS
    fit = TILE_BYTES // ((n_features + 2 * n_classes) * dtype.itemsize)
    return min(max(fit // 64 * 64, 1024), 16384)


def scratch_bytes(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return what a kernel takes for its tiles, beside arrays in the shape of θ (bytes)."""
    # CSR: the logits, SciPy's product, and the residuals laid out for the other product.
    widths = 4 * n_classes if sparse else n_features + 2 * n_classes
    return tile_rows(n_features, n_classes, dtype, sparse) * (widths * dtype.itemsize + 64)


def rows_between(X: Features, start: int, stop: int) -> Features:
    """Return rows ``start:stop`` of X as a view; for CSR only the row pointers are copied."""
    if not scipy.sparse.issparse(X):
        return X[start:stop]
    if X.format != "csr":
        raise TypeError(f"X is sparse in the format {X.format!r}; needed is csr. Convert it with X.tocsr().")
    pointers = X.indptr[start : stop + 1]
    first, last = int(pointers[0]), int(pointers[-1])
    found = scipy.sparse.csr_array((stop - start, X.shape[1]))
    found.data, found.indices = X.data[first:last], X.indices[first:last]  # given to the constructor, they would be copied
    found.indptr = pointers - pointers[0]
    return found


def _tiles(X: Features, n_classes: int, dtype: np.dtype) -> Iterator[tuple[slice, Features]]:
    """Yield the row slices of X and the rows themselves in the compute dtype; one buffer serves all dense tiles."""
    n, p = X.shape
    sparse = scipy.sparse.issparse(X)
    step = tile_rows(p, n_classes, dtype, sparse)
    # Of an array that is not aligned, NumPy hands BLAS a copy in an order of its own, which may round otherwise.
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


def _order(X: Features) -> Literal["C", "F"]:
    """The memory order of θ and of what is summed in its shape: SciPy's sparse products have classes innermost."""
    return "F" if scipy.sparse.issparse(X) else "C"


def _scratch(theta: NDArray, X: Features, dtype: np.dtype) -> NDArray:
    """Return room for the logits of a tile, flat: (K · rows,)."""
    rows = tile_rows(X.shape[1], len(theta), dtype, scipy.sparse.issparse(X))
    return np.empty(len(theta) * min(X.shape[0], rows), dtype)


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
    label = y * np.intp(Z.shape[1]) + np.arange(Z.shape[1])  # where row i's own class lies in the flat array
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


def hessian_product(
    theta: Float, direction: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None
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


def hessian_products(theta: Float, X: Features, weights: Float | None = None) -> Callable[[Float], Float]:
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


def hessian_pairs(theta: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None) -> Float:
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
    entries = 2 * d + 3 * K + K * (K - 1) // 2 * (1 if shared else 2) + (d * (d + 1) // 2 if shared else d)
    whole = hessian_entries(n_features, K) if shared else 2 * d * d
    return dtype.itemsize * (hessian_rows(K, d, dtype) * entries + whole)


def moments(theta: Float, X: Features, weights: Float | None = None, dtype: np.dtype | None = None) -> Float:
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
    theta: Float, X: NDArray, weights: Float | None, groups: NDArray[np.int64], dtype: np.dtype | None = None
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
    shifted -= np.log(_exponentials(shifted.copy(), LOWEST[shifted.dtype]).sum(axis=1, keepdims=True))
    return shifted


def softmax(logits: NDArray) -> NDArray:
    """Return P from logits, (rows, K); each row sums to one to rounding."""
    E = np.exp(logits - logits.max(axis=1, keepdims=True))
    E /= E.sum(axis=1, keepdims=True)
    return E
