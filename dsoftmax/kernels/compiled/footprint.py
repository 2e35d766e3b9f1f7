"""The bytes that compiled kernels allocate on a leaf, beside its rows and arrays of θ's shape."""

import numpy as np

from dsoftmax.data.leaves import MOST_LEAF_ROWS, leaf_rows
from dsoftmax.kernels import footprint
from dsoftmax.kernels.compiled.shapes import (
    COLUMNS,
    SLICE_VECTORS,
    TILE_ENTRIES,
    VECTOR_BYTES,
    curved_rows,
    curves,
    narrow_rows,
    panel_shift,
    pitch_of,
    sparse_batch,
    up,
    way,
    wide_rows,
)
from dsoftmax.kernels.packed import hessian_entries
from dsoftmax.kernels.tiles import SPARSE_TILE_ROWS

ROW_BYTES = 16
"""Bytes a row of the labels and the weights in the compute dtype, padded, with temporaries."""


def fused_gradient_bytes(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return the bytes of `dsoftmax.kernels.compiled.fused.value_and_gradient`."""
    d, itemsize, lanes = n_features + 1, dtype.itemsize, VECTOR_BYTES // dtype.itemsize
    rows = ROW_BYTES * (MOST_LEAF_ROWS if sparse else leaf_rows(n_features))
    chosen = way(n_features, n_classes, sparse)
    if chosen == "sparse":
        pitch = up(n_classes, lanes)
        return rows + (2 * n_features + sparse_batch(pitch, itemsize)) * pitch * itemsize
    if chosen == "panels":
        entries = max(TILE_ENTRIES, n_features) * (4 + itemsize)
        tables = up(n_classes, lanes) * (n_features + SPARSE_TILE_ROWS) * itemsize
        sums = VECTOR_BYTES * SLICE_VECTORS << panel_shift(n_features)
        return rows + entries + tables + sums
    if chosen == "products":
        by_blas = footprint.gradient_bytes(n_features, n_classes, dtype, sparse)
        return rows + by_blas + n_classes * (COLUMNS + 16) * itemsize
    if chosen == "narrow":
        tile = (d + n_classes) * narrow_rows(d, n_classes, itemsize) * itemsize
        return rows + tile + d * n_classes * VECTOR_BYTES
    pitch = pitch_of(d, lanes)
    tile = (pitch + n_classes) * wide_rows(pitch, n_classes, itemsize)
    return rows + (tile + 2 * n_classes * pitch) * itemsize


def fused_hessian_bytes(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return the bytes of `dsoftmax.kernels.compiled.fused.hessian_pairs` beside its result."""
    if not curves(n_features, n_classes, sparse):
        return footprint.hessian_bytes(n_features, n_classes, dtype, sparse)
    d, pairs = n_features + 1, n_classes * (n_classes - 1) // 2
    tile = curved_rows(d, n_classes, dtype.itemsize) * (2 * d + n_classes + pairs) * dtype.itemsize
    sums = hessian_entries(n_features, n_classes) * VECTOR_BYTES
    return ROW_BYTES * leaf_rows(n_features) + tile + sums
