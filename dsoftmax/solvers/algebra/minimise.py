"""Minimising a smooth convex function that is in memory: what solvers do between two passes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.conjugate_gradients import conjugate_gradients
from dsoftmax.solvers.algebra.line_search import DELTA

Float = NDArray[np.float64]

C1 = 1e-4
MAX_STEPS, MAX_HALVINGS = 60, 30
DECREASE = 1e-7
"""A minimum is reached when the next step promises less than this part of what was gained so far."""
MEANINGLESS = 1e-9
"""Steps that promise less than this part of rounding are not worth another."""
POOR = 12
"""A preconditioner that takes more products than this for one step has become poor."""


@dataclass(frozen=True)
class Function:
    """A smooth function of θ (K, p+1).

    Attributes
    ----------
    value_and_gradient : callable
        From θ to F and ∇F.
    products : callable
        From θ to what multiplies by ∇²F there.
    error : float
        Differences of F below this are rounding.
    most : float
        A function that falls by more than this has no minimum.
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
    """Return the minimum and how far the function falls to it, by Newton's method with conjugate gradients; where it has none,
    the first step.

    Parameters
    ----------
    function : Function
    theta : (K, p+1) float64
        Where to begin.
    solve : callable
        From r to about (∇²F)⁻¹·r, symmetric and positive definite: the preconditioner.
    factorise : callable, optional
        From θ to a better one, or to None where there is none: asked where this one has become poor.

    Notes
    -----
    Truncated Newton (Nocedal and Wright 2006, algorithm 7.1) with Armijo's rule; work `MAX_STEPS`·`MAX_PRODUCTS` products at
    most, most often a few dozen.
    """
    value, gradient = function.value_and_gradient(theta)
    first, near = value, None
    for _ in range(MAX_STEPS):
        found, n_products = conjugate_gradients(function.products(theta), gradient, solve)
        slope = -float(np.sum(found * gradient))
        if not slope < 0:
            break
        step, moved = 1.0, False
        for _ in range(MAX_HALVINGS):
            trial = theta - step * found
            reached, there = function.value_and_gradient(trial)
            after = -float(np.sum(found * there))
            falls = reached <= value + C1 * step * slope and reached < value - function.error
            rounding = reached <= value + function.error and abs(after) <= (1 - 2 * DELTA) * -slope
            if np.isfinite(reached) and (falls or rounding):
                moved = True
                break
            step /= 2
        if not moved:
            break
        near = near or (trial, first - reached)
        if first - reached > function.most:
            return near
        gained = max(value - reached, 0.5 * step * -slope)
        theta, value, gradient = trial, reached, there
        if gained <= DECREASE * max(first - value, 0.0) or gained <= MEANINGLESS * function.error:
            break
        if factorise is not None and n_products > POOR:
            solve = factorise(theta) or solve
    return theta, max(first - value, 0.0)
