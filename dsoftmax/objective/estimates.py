"""Estimates of the curvature of a leaf from some of its rows.

They only shape steps, so they need not be exact.
"""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.kernels.curvature import curvatures, moments
from dsoftmax.kernels.packed import upper_triangle

Float = NDArray[np.float64]

MOMENT_ROWS, MOMENT_PART = 512, 32
"""Least rows of a leaf for moments, and the part of its rows (1/32) if that is more."""


def leaf_moments(theta: Float, block: Block, weights: Float | None, dtype: np.dtype) -> Float:
    """Return the moments of a leaf's probabilities, (K, K), estimated from some of its rows."""
    step = max(block.n_rows // max(MOMENT_ROWS, block.n_rows // MOMENT_PART), 1)
    if weights is None:
        return moments(theta, block.X[::step], None, dtype) * (
            block.n_rows / max(len(range(0, block.n_rows, step)), 1)
        )
    part = weights[::step].sum()
    return moments(theta, block.X[::step], weights[::step], dtype) * (
        weights.sum() / part if part > 0 else 0.0
    )


def leaf_curvatures(
    theta: Float,
    block: Block,
    weights: Float | None,
    groups: NDArray[np.int64],
    sizes: Float,
    step: int,
    dtype: np.dtype,
) -> tuple[Float, NDArray[np.int64]]:
    """Return the moments and Gram matrices of a leaf's groups, from every ``step``-th row.

    Gram matrices are large. They travel as integers in units of 2⁻⁵⁰ of their bound by Cauchy and
    Schwarz. Integers too add in any order, and they need a fourth of the memory of an exact sum.

    Parameters
    ----------
    theta : (K, p+1) float64
    block : Block
    weights : (rows,) float64 or None
    groups : (K, K) int64
        See `dsoftmax.kernels.curvature.curvatures`.
    sizes : (p+1,) float64
        √Σ sᵢx̃ᵢⱼ² over all rows, or more.
    step : int
    dtype : dtype
        Dtype of the products.

    Returns
    -------
    moments : (groups, K, K) float64
    grams : (groups, (p+1)·(p+2)/2) int64
        In units of `gram_unit`.
    """
    some = None if weights is None else weights[::step]
    found, grams = curvatures(theta, block.X[::step], some, groups, dtype)
    unit = gram_unit(sizes)
    whole = np.rint(np.divide(grams, unit, where=unit > 0, out=grams), out=grams)
    return found, whole.astype(np.int64)


def gram_unit(sizes: Float) -> Float:
    """Return the unit of the integers that stand for Gram matrices, ((p+1)·(p+2)/2,)."""
    return 2.0**-50 * np.outer(sizes, sizes).ravel()[upper_triangle(len(sizes))]
