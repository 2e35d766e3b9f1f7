"""Minimising a smooth convex function in memory, between two passes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.conjugate_gradients import conjugate_gradients
from dsoftmax.solvers.algebra.line_search import C1, DELTA

Float = NDArray[np.float64]

VALUE_ROUNDING = 4e-16
"""Rounding of a function in memory, as a fraction of 1 + its size: about two ulps."""
MAX_STEPS = 60
"""Limit on the Newton steps of one minimisation."""
MAX_HALVINGS = 30
"""Limit on the halvings of one Newton step."""
DECREASE = 1e-7
"""Fraction of the total fall that the last step may gain at a minimum."""
MEANINGLESS = 1e-9
"""Fraction of the rounding that the last step may gain at a minimum."""
SLOW_PRODUCTS = 12
"""Products of one Newton step beyond which the preconditioner is replaced."""


@dataclass(frozen=True)
class Function:
    """A smooth function of θ (K, p+1).

    Attributes
    ----------
    value_and_gradient : callable
        Map from θ to F and ∇F.
    products : callable
        Map from θ to the product V ↦ ∇²F(θ)·V.
    error : float
        Rounding of F: smaller differences mean nothing.
    most : float
        Fall that proves that F has no minimum.
    """

    value_and_gradient: Callable[[Float], tuple[float, Float]]
    products: Callable[[Float], Callable[[Float], Float]]
    error: float = 0.0
    most: float = np.inf


def minimise(
    function: Function,
    theta: Float,
    solve: Callable[[Float], Float],
    factorise: Callable[[Float], Callable[[Float], Float] | None] | None = None,
) -> tuple[Float, float]:
    """Return the minimum and the fall of the function to it, by truncated Newton.

    The result is the first step if the function has no minimum.

    Parameters
    ----------
    function : Function
    theta : (K, p+1) float64
        Start.
    solve : callable
        Preconditioner: a symmetric positive definite map from r to an approximation of (∇²F)⁻¹·r.
    factorise : callable, optional
        Map from θ to a better preconditioner, or to None if there is none. It is called after a
        step of more than `SLOW_PRODUCTS` products.

    Notes
    -----
    Nocedal and Wright 2006, algorithm 7.1, with Armijo's rule. If rounding hides the fall of F,
    the slope decides, as in `dsoftmax.solvers.algebra.line_search`. Work: at most `MAX_STEPS`
    steps of `dsoftmax.solvers.algebra.conjugate_gradients.MAX_PRODUCTS` products, usually a few
    dozen products in all.
    """
    value, gradient = function.value_and_gradient(theta)
    first, near = value, None
    for _ in range(MAX_STEPS):
        found, n_products = conjugate_gradients(function.products(theta), gradient, solve)
        slope = -float(np.sum(found * gradient))
        if not slope < 0:
            break
        landed = _backtracked(function, theta, value, found, slope)
        if landed is None:
            break
        trial, reached, there, step = landed
        near = near or (trial, first - reached)
        if first - reached > function.most:
            return near
        gained = max(value - reached, 0.5 * step * -slope)
        theta, value, gradient = trial, reached, there
        if gained <= DECREASE * max(first - value, 0.0) or gained <= MEANINGLESS * function.error:
            break
        if factorise is not None and n_products > SLOW_PRODUCTS:
            solve = factorise(theta) or solve
    return theta, max(first - value, 0.0)


def _backtracked(
    function: Function, theta: Float, value: float, down: Float, slope: float
) -> tuple[Float, float, Float, float] | None:
    """Return the first acceptable point on the line θ − t·down, with F, ∇F and t.

    The result is None if there is none.
    """
    step = 1.0
    for _ in range(MAX_HALVINGS):
        trial = theta - step * down
        reached, there = function.value_and_gradient(trial)
        after = -float(np.sum(down * there))
        falls = reached <= value + C1 * step * slope and reached < value - function.error
        rounding = reached <= value + function.error and abs(after) <= (1 - 2 * DELTA) * -slope
        if np.isfinite(reached) and (falls or rounding):
            return trial, reached, there, step
        step /= 2
    return None
