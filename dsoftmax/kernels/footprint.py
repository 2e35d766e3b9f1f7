"""The bytes that NumPy kernels allocate on a leaf, beside its rows and arrays of θ's shape."""

import numpy as np

from dsoftmax.kernels.packed import hessian_entries, triangle_entries
from dsoftmax.kernels.tiles import pair_tile_rows, shares_products, tile_rows

ROW_BYTES = 64
"""Bytes of vectors with one number a row: labels, maxima, losses, weights and their temporaries."""


def gradient_bytes(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return the bytes of a value and gradient, of a Hessian product, or of moments."""
    # CSR: the logits, SciPy's product, and the residuals in the layout of the second product.
    widths = 4 * n_classes if sparse else n_features + 2 * n_classes
    rows = tile_rows(n_features, n_classes, dtype, sparse)
    return rows * (widths * dtype.itemsize + ROW_BYTES)


def hessian_bytes(n_features: int, n_classes: int, dtype: np.dtype, sparse: bool) -> int:
    """Return the bytes of `dsoftmax.kernels.hessian.hessian_pairs` beside its result.

    They are a tile of features, pairs and products, and one product over a whole tile.
    """
    K, d = n_classes, n_features + 1
    shared = shares_products(K, d)
    pairs = K * (K - 1) // 2
    entries = 2 * d + 3 * K + pairs * (1 if shared else 2) + (triangle_entries(d) if shared else d)
    whole = hessian_entries(n_features, K) if shared else 2 * d * d
    return dtype.itemsize * (pair_tile_rows(K, d, dtype) * entries + whole)
