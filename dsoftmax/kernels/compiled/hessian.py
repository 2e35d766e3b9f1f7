"""The loops of the Hessian over dense rows: sums over pairs of classes, and products at one point.

Conventions are those of `dsoftmax.kernels.compiled.dense`. Vectors hold rows.
"""

from typing import Any

import numpy as np

from dsoftmax.kernels.compiled.compile import compiled
from dsoftmax.kernels.compiled.dense import add_product, add_totals, even, logits, take_by_feature
from dsoftmax.kernels.compiled.registers import inner
from dsoftmax.kernels.compiled.simd import constant, exp, larger, load, lowest, store, where_less


@compiled
def probabilities(Z: Any, pitch: Any, K: Any, columns: Any, lanes: Any) -> None:
    """Replace logits by probabilities.

    Products of two probabilities are no subnormal numbers either.
    """
    for r in range(0, columns, lanes):
        top = load(Z, r)
        for k in range(1, K):
            top = larger(load(Z, k * pitch + r), top)
        mass = constant(top, 0.0)
        for k in range(K):
            z = load(Z, k * pitch + r) - top
            e = where_less(z, lowest(z) * constant(z, 0.5), constant(z, 0.0), exp(z))
            store(Z, k * pitch + r, e)
            mass = mass + e
        scale = constant(top, 1.0) / mass
        for k in range(K):
            store(Z, k * pitch + r, load(Z, k * pitch + r) * scale)


@compiled
def add_pairs(
    theta: Any,
    K: Any,
    p: Any,
    address: Any,
    row_stride: Any,
    stride: Any,
    tag: Any,
    s: Any,
    n: Any,
    tile: Any,
    found: Any,
    lanes: Any,
) -> None:
    """Add Σ sᵢpᵢₖpᵢₗx̃ᵢx̃ᵢᵀ of the pairs k < l to ``found``, (K·(K-1)/2, d·(d+1)/2).

    These are upper triangles, row by row.

    The loop forms the products of one feature with those after it in the cache, then multiplies
    them with all pairs. Sums are vectors whose lanes are added every 4,096 rows.
    """
    d = p + 1
    n_pairs, n_products = K * (K - 1) // 2, d * (d + 1) // 2
    X, Z = np.empty(d * tile, theta.dtype), np.empty(K * tile, theta.dtype)
    curved, products = np.empty(n_pairs * tile, theta.dtype), np.empty(d * tile, theta.dtype)
    sums = np.zeros(n_pairs * n_products * lanes, theta.dtype)
    X[p * tile :] = 1
    since = 0
    for start in range(0, n, tile):
        rows = min(tile, n - start)
        columns = -(-rows // (2 * lanes)) * 2 * lanes
        take_by_feature(
            X, tile, address + start * row_stride, row_stride, stride, tag, p, rows, columns, lanes
        )
        logits(theta, K, d, X, Z, tile, columns, lanes)
        probabilities(Z, tile, K, columns, lanes)
        for r in range(0, columns, lanes):
            weight, pair = load(s, start + r), 0  # zero beyond the last row
            for k in range(K - 1):
                mine = load(Z, k * tile + r) * weight
                for other in range(k + 1, K):
                    store(curved, pair * tile + r, mine * load(Z, other * tile + r))
                    pair += 1
        place = 0
        for j in range(d):
            left = d - j
            for i in range(left):
                for r in range(0, columns, lanes):
                    store(
                        products, i * tile + r, load(X, j * tile + r) * load(X, (j + i) * tile + r)
                    )
            i = 0
            while i < left:
                c, pair = even(left - i, 3), 0
                while pair < n_pairs:
                    m = even(n_pairs - pair, 3)
                    inner(
                        curved, pair * tile, tile, products, i * tile, tile,
                        sums, (pair * n_products + place + i) * lanes, n_products * lanes, lanes,
                        columns, m, c, False,
                    )  # fmt: skip
                    pair += m
                i += c
            place += left
        since += rows
        if since >= 4096 or start + tile >= n:
            add_totals(sums, found, lanes)
            since = 0


@compiled
def store_probabilities(
    theta: Any,
    K: Any,
    p: Any,
    address: Any,
    row_stride: Any,
    stride: Any,
    tag: Any,
    n: Any,
    tile: Any,
    P: Any,
    lanes: Any,
) -> None:
    """Store the probabilities at θ.

    ``P[first·K + k·tile + r]`` is that of class k and row ``first`` + r. Its tile begins with
    row ``first``.
    """
    X, Z = np.empty((p + 1) * tile, theta.dtype), np.empty(K * tile, theta.dtype)
    X[p * tile :] = 1
    for start in range(0, n, tile):
        rows = min(tile, n - start)
        columns = -(-rows // (2 * lanes)) * 2 * lanes
        take_by_feature(
            X, tile, address + start * row_stride, row_stride, stride, tag, p, rows, columns, lanes
        )
        logits(theta, K, p + 1, X, Z, tile, columns, lanes)
        probabilities(Z, tile, K, columns, lanes)
        P[start * K : (start + tile) * K] = Z


@compiled
def add_product_at(
    direction: Any, K: Any, p: Any, address: Any, row_stride: Any, stride: Any, tag: Any,
    P: Any, s: Any, n: Any, tile: Any, found: Any, lanes: Any,
) -> None:  # fmt: skip
    """Add Σ sᵢx̃ᵢPᵢₖ(aᵢₖ − Σₗ Pᵢₗaᵢₗ) to ``found``, (K, d), with P of `store_probabilities`.

    aᵢ are the logits of the direction.
    """
    d = p + 1
    X, A = np.empty(d * tile, direction.dtype), np.empty(K * tile, direction.dtype)
    sums = np.zeros(K * d * lanes, direction.dtype)
    X[p * tile :] = 1
    for start in range(0, n, tile):
        rows = min(tile, n - start)
        columns = -(-rows // (2 * lanes)) * 2 * lanes
        take_by_feature(
            X, tile, address + start * row_stride, row_stride, stride, tag, p, rows, columns, lanes
        )
        logits(direction, K, d, X, A, tile, columns, lanes)
        for r in range(0, columns, lanes):
            weight = load(s, start + r)  # zero beyond the last row
            mean = constant(weight, 0.0)
            for k in range(K):
                mean = mean + load(P, start * K + k * tile + r) * load(A, k * tile + r)
            for k in range(K):
                store(
                    A,
                    k * tile + r,
                    weight * load(P, start * K + k * tile + r) * (load(A, k * tile + r) - mean),
                )
        add_product(A, K, X, d, sums, tile, columns, lanes)
    add_totals(sums, found, lanes)
