"""Preconditioned conjugate gradients (Nocedal and Wright 2006, algorithm 5.3)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

MAX_PRODUCTS = 60
"""Default limit on the products of one call: a Newton step needs no more."""
TOLERANCE = 0.03
"""Default factor by which the residual falls, in the norm of the preconditioner."""
FLAT = 1e-14
"""Least curvature of a direction, as a fraction of its curvature in the preconditioner."""


@dataclass(frozen=True)
class Step:
    """One step of conjugate gradients.

    Attributes
    ----------
    length : float
        Factor of ``direction``; 0 if the direction has no curvature, which ends the iteration.
    direction : ndarray
    along : ndarray
        A·direction.
    """

    length: float
    direction: Float
    along: Float


def conjugate_steps(
    product: Callable[[Float], Float],
    right: Float,
    solve: Callable[[Float], Float],
    *,
    most: int,
    goal: float = 0.0,
    tolerance: float = 0.0,
    flat: float = 0.0,
    inside: NDArray[np.bool_] | None = None,
) -> Iterator[Step]:
    """Yield steps whose sum approaches x with A·x = right, one product each.

    Parameters
    ----------
    product : callable
        Map from V to A·V, for a symmetric positive semidefinite A.
    right : ndarray float64
        Right-hand side: the residual at x = 0.
    solve : callable
        Map from r to M⁻¹·r: the preconditioner, symmetric and positive definite.
    most : int
        Limit on the products.
    goal : float
        Squared residual, in the norm of M⁻¹, at which the iteration ends.
    tolerance : float
        Fraction of the first residual, in the same norm, at which the iteration ends.
    flat : float
        Least curvature of a direction, as a fraction of its curvature in M.
    inside : bool ndarray, optional
        Entries of x that move; all entries if None. ``solve`` must return 0 at the others.
    """
    residual = right
    direction = turned = solve(residual)
    size = float(np.sum(residual * turned))
    goal = max(goal, tolerance**2 * size)
    for _ in range(most):
        if not size > goal:
            return
        along = product(direction)
        curvature = float(np.sum(direction * along))
        if not curvature > flat * size:
            yield Step(0.0, direction, along)
            return
        length = size / curvature
        yield Step(length, direction, along)
        residual = residual - length * (along if inside is None else np.where(inside, along, 0.0))
        turned = solve(residual)
        following = float(np.sum(residual * turned))
        direction = turned + following / size * direction
        size = following


def conjugate_gradients(
    product: Callable[[Float], Float],
    right: Float,
    solve: Callable[[Float], Float],
    tolerance: float = TOLERANCE,
    most: int = MAX_PRODUCTS,
) -> tuple[Float, int]:
    """Return an approximation of x with A·x = right, and the number of products.

    The iteration ends if the residual has fallen by ``tolerance`` in the norm of the
    preconditioner, after ``most`` products, or at a direction without curvature (Nocedal and
    Wright 2006, algorithm 7.1). See `conjugate_steps` for the parameters.
    """
    x, n_products = np.zeros_like(right), 0
    for step in conjugate_steps(product, right, solve, most=most, tolerance=tolerance, flat=FLAT):
        n_products += 1
        if not step.length:
            return (x if np.any(x) else step.direction), n_products
        x = x + step.length * step.direction
    return x, n_products
