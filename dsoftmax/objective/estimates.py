"""Estimates of the curvature of a leaf from some of its rows.

They only shape steps, so they need not be exact.
"""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.kernels.curvature import moments
from dsoftmax.solvers.protocol import WHOLE_MOMENTS

Float = NDArray[np.float64]

MOMENT_ROWS, MOMENT_PART = 512, 32
"""Least rows of a leaf for moments, and the part of its rows (1/32) if that is more."""


def moment_entries(n_classes: int) -> int:
    """Return the entries of the moments in an answer."""
    return n_classes**2 if n_classes <= WHOLE_MOMENTS else n_classes


def leaf_moments(theta: Float, block: Block, weights: Float | None, dtype: np.dtype) -> Float:
    """Return the moments of a leaf's probabilities, as in an answer, from some of its rows."""
    whole = len(theta) <= WHOLE_MOMENTS
    step = max(block.n_rows // max(MOMENT_ROWS, block.n_rows // MOMENT_PART), 1)
    if weights is None:
        return moments(theta, block.X[::step], None, dtype, whole) * (
            block.n_rows / max(len(range(0, block.n_rows, step)), 1)
        )
    part = weights[::step].sum()
    return moments(theta, block.X[::step], weights[::step], dtype, whole) * (
        weights.sum() / part if part > 0 else 0.0
    )
