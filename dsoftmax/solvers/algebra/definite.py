"""Solving with a positive definite matrix whose entries differ by many orders of magnitude."""

from collections.abc import Callable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Float = NDArray[np.float64]

LIFT = 1e-10
"""Added to the diagonal, scaled to 1, of what is factorised: rounding must not make it indefinite."""


def scaled(matrix: Float, size: Float) -> Float:
    """Return (n, n) ``matrix`` with its rows and columns divided by ``size``, (n,), and `LIFT` on its diagonal."""
    found: Float = matrix / np.outer(size, size)
    found[np.diag_indices(len(found))] += LIFT
    return found


def solver(matrix: Float) -> Callable[[Float], Float] | None:
    """Return what solves with a matrix for (n,) vectors; None where it is not positive definite. Work n³/3 flops, then 2·n²."""
    diagonal = np.diag(matrix)
    if not (np.isfinite(matrix).all() and diagonal.min(initial=np.inf) > 0):
        return None
    size = np.sqrt(diagonal)
    try:
        factor = scipy.linalg.cho_factor(scaled(matrix, size), overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    return lambda right: scipy.linalg.cho_solve(factor, right / size) / size
