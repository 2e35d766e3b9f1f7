"""Preconditioned conjugate gradients."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
MAX_PRODUCTS = 60
"""Products of one call, unless the caller passes another number."""
TOLERANCE = 0.03
"""Of conjugate gradients, in the norm of the preconditioner."""
FLAT = 1e-14
"""A direction with less than this part of the preconditioner's curvature has none."""


def conjugate_gradients(
    product: Callable[[Float], Float],
    right: Float,
    solve: Callable[[Float], Float],
    tolerance: float = TOLERANCE,
    most: int = MAX_PRODUCTS,
) -> tuple[Float, int]:
    """Return about x with A·x = right, for a positive semidefinite A, and the products it took: preconditioned conjugate gradients.

    Ends where the residual has fallen by ``tolerance`` in the norm of the preconditioner, after ``most`` products, or along a
    direction without curvature (Nocedal and Wright 2006, algorithms 5.3 and 7.1).
    """
    x, residual = np.zeros_like(right), right.copy()
    direction = turned = solve(residual)
    size = first = float(np.sum(residual * turned))
    for i in range(most):
        if not size > tolerance**2 * first:
            return x, i
        along = product(direction)
        curvature = float(np.sum(direction * along))
        if not curvature > FLAT * size:
            return (x if np.any(x) else direction), i + 1
        length = size / curvature
        x = x + length * direction
        residual = residual - length * along
        turned = solve(residual)
        following = float(np.sum(residual * turned))
        direction = turned + following / size * direction
        size = following
    return x, most
