"""The loop over CSR rows: logits, residuals and the gradient of a row while its part of θ is in the cache."""

from typing import Any

import numpy as np

from dsoftmax.fused.blocks import SPARSE, sparse_add, sparse_logits, whole_at
from dsoftmax.fused.compiled import compiled
from dsoftmax.fused.vectors import constant, exp, larger, largest, load, log1p, store, total


@compiled
def _row_residuals(z: Any, pitch: Any, label: Any, weight: Any, lanes: Any) -> Any:
    """Replace the logits z of one row by sᵢ(Pᵢₖ − 1{yᵢ=k}); return Σⱼ exp(zⱼ − max z) − 1, and z of the label less max z."""
    top = load(z, 0)
    for j in range(lanes, pitch, lanes):
        top = larger(load(z, j), top)
    most = largest(top)
    z_own = z[label] - most
    top = constant(top, np.float64(most))
    for j in range(0, pitch, lanes):
        store(z, j, exp(load(z, j) - top))
    own = z[label]
    z[label] = 0
    sums = load(z, 0)
    for j in range(lanes, pitch, lanes):
        sums = sums + load(z, j)
    others = total(sums)
    scale = weight / (others + own)
    factor = constant(sums, np.float64(scale))
    for j in range(0, pitch, lanes):
        store(z, j, load(z, j) * factor)
    z[label] = -others * scale
    return others + (own - z.dtype.type(1)), z_own


@compiled
def csr(
    theta: Any, intercepts: Any, K: Any, pitch: Any, p: Any, data: Any, data_tag: Any, indices: Any, indices_tag: Any,
    pointers: Any, pointers_tag: Any, y: Any, s: Any, n: Any, tile: Any, gradient: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Return J and add ∇J to ``gradient``, (p+1, K) flat: vectors of classes.

    ``theta`` is (p, pitch), ``pitch`` whole vectors; ``data``, ``indices`` and ``pointers`` are addresses. Sums of a tile are
    (p, pitch) in the compute dtype.
    """
    z, sums, last = np.empty(pitch, theta.dtype), np.zeros(p * pitch, theta.dtype), np.zeros(pitch, theta.dtype)
    excess, z_own = np.empty(tile + lanes, theta.dtype), np.empty(tile + lanes, theta.dtype)
    vectors, value = pitch // lanes, 0.0
    for start in range(0, n, tile):
        rows = min(tile, n - start)
        for r in range(rows):
            first = whole_at(pointers + (start + r) * pointers_tag.itemsize, pointers_tag)
            count = whole_at(pointers + (start + r + 1) * pointers_tag.itemsize, pointers_tag) - first
            x, at = data + first * data_tag.itemsize, indices + first * indices_tag.itemsize
            z[:] = intercepts
            for v in range(0, vectors, SPARSE):
                m = min(SPARSE, vectors - v)
                sparse_logits(x, data_tag, at, indices_tag, count, theta, v * lanes, pitch, z, v * lanes, m, sums)
            excess[r], z_own[r] = _row_residuals(z, pitch, int(y[start + r]), s[start + r], lanes)
            for j in range(0, pitch, lanes):
                store(last, j, load(last, j) + load(z, j))
            for v in range(0, vectors, SPARSE):
                m = min(SPARSE, vectors - v)
                sparse_add(x, data_tag, at, indices_tag, count, sums, v * lanes, pitch, z, v * lanes, m)
        excess[rows : rows + lanes] = 0
        z_own[rows : rows + lanes] = 0
        for r in range(0, rows, lanes):  # what is past the last row of the tile is zero, whatever its weight
            value += total((log1p(load(excess, r)) - load(z_own, r)) * load(s, start + r))
        for j in range(p):
            for k in range(K):
                gradient[j * K + k] += sums[j * pitch + k]
        for k in range(K):
            gradient[p * K + k] += last[k]
        sums[:] = 0
        last[:] = 0
    return value
