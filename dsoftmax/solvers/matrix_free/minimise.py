"""Minimising a surrogate between two passes, by L-BFGS with a budget of gradients.

Nocedal and Wright 2006, algorithm 7.5. Steps are those of `dsoftmax.solvers.algebra.line_search`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.line_search import advance, begin
from dsoftmax.solvers.algebra.pairs import Pairs

Float = NDArray[np.float64]

MEMORY, LEAST_MEMORY = 20, 5
"""Most and least pairs of L-BFGS."""
PAIR_BYTES = 64 * 2**20
"""Bytes that all pairs may occupy, unless they are `LEAST_MEMORY`."""
CLOSE = 1e-2
"""Fraction of the first gradient, in the metric of the preconditioner, that ends a minimisation."""
LITTLE, LITTLE_STEPS = 1e-3, 5
"""Fraction of the whole fall that a step gains at least, and the steps in a row below it that end a
minimisation."""
REFRESHES = frozenset((0, 5, 15, 35, 75, 155, 315))
"""Steps before which the preconditioner is made anew, because it is that of another point."""
LEAST_COSINE = 1e-10
"""Least cosine of the angle between s and y of a pair."""


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended.

    Attributes
    ----------
    theta : (K, p+1) float64
    value : float
        The function there.
    n_gradients : int
        Gradients spent.
    cut_short : bool
        Whether the budget ended it, far from the minimum.
    """

    theta: Float
    value: float
    n_gradients: int
    cut_short: bool


def most_pairs(entries: int) -> int:
    """Return the pairs of L-BFGS for a θ with this number of entries."""
    return min(max(PAIR_BYTES // (16 * entries), LEAST_MEMORY), MEMORY)


def minimise(
    function: Callable[[Float], tuple[float, Float]],
    theta: Float,
    preconditioner: Callable[[Float, int], Callable[[Float], Float]],
    budget: int,
    error: float,
    most: float,
    length: Callable[[Float], float],
) -> Minimum:
    """Return about the minimum of a function, from ``theta``, after at most ``budget`` gradients.

    Parameters
    ----------
    function : callable
        Map from θ (K, p+1) to the value and the gradient.
    theta : (K, p+1) float64
        Start.
    preconditioner : callable
        Map from a θ and the number of its refresh to about the inverse Hessian there, a map from
        (K, p+1) to (K, p+1).
    budget : int
        Gradients to spend, at least one.
    error : float
        Rounding of the function.
    most : float
        Fall that ends the minimisation, because the function has no minimum.
    length : callable
        Map from the first direction to its length, of which the first step has at most 1.

    Notes
    -----
    Memory: two arrays with the shape of θ for each pair (`most_pairs`), and about ten.
    """
    value, gradient = function(theta)
    first, spent, pairs, steps, little = value, 1, Pairs(), 0, 0
    memory = most_pairs(theta.size)
    solve: Callable[[Float], Float] = np.copy
    n_refreshes, fresh, start, size = 0, False, np.nan, np.nan
    while spent < budget:
        if steps in REFRESHES and not fresh:
            solve, fresh = preconditioner(theta, n_refreshes), True
            n_refreshes += 1
        size = float(np.sum(gradient * solve(gradient)))
        start = size if np.isnan(start) else start
        if size <= CLOSE**2 * start or little >= LITTLE_STEPS:
            return Minimum(theta, value, spent, False)
        direction = -pairs.inverse_product(gradient, solve)
        slope = float(np.sum(direction * gradient))
        if not slope < 0 and len(pairs):  # rounding made the pairs useless
            pairs = Pairs()
            continue
        if not slope < 0:
            break
        search = begin(value, slope, error, 1.0 if steps else 1 / max(1.0, length(direction)))
        while not search.verdict and spent < budget:
            point = theta + search.step * direction
            reached, there = function(point)
            spent += 1
            if first - reached > most:
                return Minimum(point, reached, spent, False)
            search = advance(search, reached, float(np.sum(there * direction)), error)
        if search.verdict == "failed" and len(pairs):
            pairs = Pairs()
            continue
        if search.verdict != "accepted":
            break
        s, y = point - theta, there - gradient
        if np.sum(s * y) > LEAST_COSINE * np.linalg.norm(s) * np.linalg.norm(y):
            pairs = pairs.joined_by(s, y, memory)
        little = little + 1 if value - reached < LITTLE * (first - reached) else 0
        theta, value, gradient = point, reached, there
        steps, fresh = steps + 1, False
    return Minimum(theta, value, spent, bool(size > (2 * CLOSE) ** 2 * start))
