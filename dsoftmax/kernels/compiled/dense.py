"""The loops over dense rows.

``X`` is an address, two strides in bytes and a ``tag`` of its dtype, so every layout shares one
compiled loop. ``theta``, the scratch and the results are flat. A tile ends with a column of ones,
so intercepts are products like all others.
"""

from typing import Any

import numpy as np

from dsoftmax.kernels.compiled.compile import compiled
from dsoftmax.kernels.compiled.registers import inner, outer, take, take_turned
from dsoftmax.kernels.compiled.simd import (
    constant,
    exp,
    larger,
    load,
    log1p,
    store,
    total,
    where_equal,
)


@compiled
def even(n: Any, most: Any) -> Any:
    """Return the first size if n is cut into the fewest, nearly equal parts of at most ``most``."""
    return -(-n // -(-n // most))


@compiled
def residuals(
    Z: Any, pitch: Any, K: Any, columns: Any, y: Any, s: Any, start: Any, scratch: Any, lanes: Any
) -> Any:
    """Return J of some rows; replace their logits by sᵢ(Pᵢₖ − 1{yᵢ=k}) in place.

    Parameters
    ----------
    Z : flat, logit k of row r at ``k·pitch + r``
    columns : int
        Number of rows, a multiple of the lanes.
    y, s : flat, of the dtype of Z
        Codes and weights; those of row r are at ``start + r``.
    scratch : (2·columns,)
    """
    for r in range(0, columns, lanes):
        label = load(y, start + r)
        zero, one = constant(label, 0.0), constant(label, 1.0)
        top = load(Z, r)
        for k in range(1, K):
            top = larger(load(Z, k * pitch + r), top)
        others, z_own, number = zero, zero, zero
        for k in range(K):
            z = load(Z, k * pitch + r) - top
            e = exp(z)
            store(Z, k * pitch + r, e)
            # Σ over k ≠ y, so that 1 − P of the label does not cancel
            others = others + where_equal(number, label, zero, e)
            z_own = where_equal(number, label, z, z_own)
            number = number + one
        store(scratch, r, others)
        store(scratch, columns + r, z_own)
    value = 0.0
    # A loop of its own: its long chains of few steps overlap here.
    for r in range(0, columns, lanes):
        others, z_own, weight = load(scratch, r), load(scratch, columns + r), load(s, start + r)
        own = exp(z_own)
        scale = weight / (others + own)
        value += total((log1p(others + (own - constant(own, 1.0))) - z_own) * weight)
        store(scratch, r, scale)
        store(scratch, columns + r, constant(own, 0.0) - others * scale)
    for r in range(0, columns, lanes):
        label, scale, mine = load(y, start + r), load(scratch, r), load(scratch, columns + r)
        number, one = constant(label, 0.0), constant(label, 1.0)
        for k in range(K):
            store(
                Z, k * pitch + r, where_equal(number, label, mine, load(Z, k * pitch + r) * scale)
            )
            number = number + one
    return value


@compiled
def tile_residuals(
    Z: Any, K: Any, columns: Any, y: Any, s: Any, width: Any, pitch: Any, lanes: Any
) -> Any:
    """Return J of a tile with any number of rows, (K, columns).

    Replace its logits by residuals in place.

    The logits of one row lie whole pages apart in the tile. The loop copies ``width`` rows at a
    time to a part where they lie close together.
    """
    part, scratch = np.zeros(K * pitch, Z.dtype), np.empty(2 * width, Z.dtype)
    value = 0.0
    for c in range(0, columns, width):
        w = min(width, columns - c)
        full = w // lanes * lanes
        for k in range(K):
            for i in range(0, full, lanes):
                store(part, k * pitch + i, load(Z, k * columns + c + i))
            for i in range(full, w):
                part[k * pitch + i] = Z[k * columns + c + i]
        value += residuals(part, pitch, K, -(-w // lanes) * lanes, y, s, c, scratch, lanes)
        for k in range(K):
            for i in range(0, full, lanes):
                store(Z, k * columns + c + i, load(part, k * pitch + i))
            for i in range(full, w):
                Z[k * columns + c + i] = part[k * pitch + i]
    return value


@compiled
def take_by_feature(
    X: Any,
    pitch: Any,
    here: Any,
    row_stride: Any,
    stride: Any,
    tag: Any,
    p: Any,
    rows: Any,
    columns: Any,
    lanes: Any,
) -> None:
    """Convert stored rows to ``X[j·pitch + r]``; add rows of zeros up to ``columns``."""
    size, done = tag.itemsize, 0
    if stride == size and p >= lanes:
        done = rows // lanes * lanes
        for r in range(0, done, lanes):
            for j in range(0, p, lanes):
                # The last square overlaps the one before, and writes the same numbers again.
                j = min(j, p - lanes)
                take_turned(
                    here + r * row_stride + j * size, row_stride, tag, X, j * pitch + r, pitch
                )
    for r in range(done, rows):
        for j in range(p):
            take(here + r * row_stride + j * stride, tag, X, j * pitch + r, 1)
    for j in range(p):
        X[j * pitch + rows : j * pitch + columns] = 0


@compiled
def logits(
    theta: Any, K: Any, d: Any, X: Any, Z: Any, pitch: Any, columns: Any, lanes: Any
) -> None:
    """``Z[k·pitch + r]`` = Σⱼ θₖⱼ·``X[j·pitch + r]``."""
    for r in range(0, columns, 2 * lanes):
        k = 0
        while k < K:
            m = even(K - k, 6)
            outer(theta, k * d, d, 1, X, r, pitch, Z, k * pitch + r, pitch, d, m, True)
            k += m


@compiled
def add_product(
    Z: Any, K: Any, X: Any, d: Any, sums: Any, pitch: Any, columns: Any, lanes: Any
) -> None:
    """Add the products of the rows of Z and X to vectors of partial sums, (K, d, lanes)."""
    k = 0
    while k < K:
        m, j = even(K - k, 3), 0
        while j < d:
            c = even(d - j, 3 if m == 3 else 4)
            inner(
                Z,
                k * pitch,
                pitch,
                X,
                j * pitch,
                pitch,
                sums,
                (k * d + j) * lanes,
                d * lanes,
                lanes,
                columns,
                m,
                c,
                False,
            )
            j += c
        k += m


@compiled
def add_totals(sums: Any, found: Any, lanes: Any) -> None:
    """Add the lanes of each vector of partial sums to ``found``; reset the partial sums to zero."""
    for i in range(len(found)):
        found[i] += total(load(sums, i * lanes))
    sums[:] = 0


@compiled
def narrow(
    theta: Any, K: Any, p: Any, address: Any, row_stride: Any, stride: Any, tag: Any,
    y: Any, s: Any, n: Any, tile: Any, gradient: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Return J and add ∇J to ``gradient``: vectors of rows.

    A tile is (p+1, tile), its logits (K, tile). Sums for the gradient are vectors too, (K, p+1,
    lanes). Their lanes are added every 4,096 rows.
    """
    d = p + 1
    X, Z, scratch = (
        np.empty(d * tile, theta.dtype),
        np.empty(K * tile, theta.dtype),
        np.empty(2 * tile, theta.dtype),
    )
    sums = np.zeros(K * d * lanes, theta.dtype)
    X[p * tile :] = 1
    value, since = 0.0, 0
    for start in range(0, n, tile):
        rows = min(tile, n - start)
        columns = -(-rows // (2 * lanes)) * 2 * lanes
        take_by_feature(
            X, tile, address + start * row_stride, row_stride, stride, tag, p, rows, columns, lanes
        )
        logits(theta, K, d, X, Z, tile, columns, lanes)
        value += residuals(Z, tile, K, columns, y, s, start, scratch, lanes)
        add_product(Z, K, X, d, sums, tile, columns, lanes)
        since += rows
        if since >= 4096 or start + tile >= n:
            add_totals(sums, gradient, lanes)
            since = 0
    return value


@compiled
def _take_by_row(
    X: Any,
    pitch: Any,
    here: Any,
    row_stride: Any,
    stride: Any,
    tag: Any,
    p: Any,
    rows: Any,
    lanes: Any,
) -> None:
    """Convert stored rows to ``X[r·pitch + j]``, and append a one."""
    size = tag.itemsize
    for r in range(rows):
        if stride == size and p >= lanes:
            for j in range(0, p, lanes):
                j = min(j, p - lanes)
                take(here + r * row_stride + j * size, tag, X, r * pitch + j, 2)
        else:
            for j in range(p):
                take(here + r * row_stride + j * stride, tag, X, r * pitch + j, 1)
        X[r * pitch + p] = 1


@compiled
def wide(
    theta: Any, K: Any, p: Any, pitch: Any, address: Any, row_stride: Any, stride: Any,
    tag: Any, y: Any, s: Any, n: Any, tile: Any, gradient: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Return J and add ∇J to ``gradient``: vectors of features.

    A tile is (tile, pitch), with zeros after the one, as in the rows of ``theta``, (K, pitch).
    Its logits are (K, tile). Sums for the gradient, (K, pitch), move to float64 every 4,096 rows.
    """
    X, Z, scratch = (
        np.zeros(tile * pitch, theta.dtype),
        np.empty(K * tile, theta.dtype),
        np.empty(2 * tile, theta.dtype),
    )
    sums = np.zeros(K * pitch, theta.dtype)
    value, since = 0.0, 0
    for start in range(0, n, tile):
        rows = min(tile, n - start)
        columns = -(-rows // (2 * lanes)) * 2 * lanes
        _take_by_row(
            X, pitch, address + start * row_stride, row_stride, stride, tag, p, rows, lanes
        )
        X[rows * pitch : columns * pitch] = 0
        r = 0
        while r < columns:
            c, k = even(columns - r, 3 if K % 3 == 0 else 4), 0
            while k < K:
                m = even(K - k, 3 if c == 3 else 2)
                inner(
                    theta,
                    k * pitch,
                    pitch,
                    X,
                    r * pitch,
                    pitch,
                    Z,
                    k * tile + r,
                    tile,
                    1,
                    pitch,
                    m,
                    c,
                    True,
                )
                k += m
            r += c
        value += residuals(Z, tile, K, columns, y, s, start, scratch, lanes)
        for j in range(0, pitch, 2 * lanes):
            k = 0
            while k < K:
                m = even(K - k, 6)
                outer(
                    Z, k * tile, tile, 1, X, j, pitch, sums, k * pitch + j, pitch, columns, m, False
                )
                k += m
        since += rows
        if since >= 4096 or start + tile >= n:
            for k in range(K):
                for j in range(p + 1):
                    gradient[k * (p + 1) + j] += sums[k * pitch + j]
            sums[:] = 0
            since = 0
    return value
