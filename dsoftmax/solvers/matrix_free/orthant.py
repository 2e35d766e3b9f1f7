r"""Minimising a surrogate plus an L1 part between two passes, with a budget of gradients.

A two-metric projection (Gafni and Bertsekas 1984; Schmidt 2010, "Graphical model structure learning
with ℓ1-regularization", section 2.3.2). In the orthant of the signs of θ the L1 part is linear. An
entry at zero takes the sign to which F falls, or it rests. So a step has three parts:

1. The entries that move are those that are not zero and those that leave zero.
2. The direction is that of L-BFGS on these entries alone. An entry at zero whose direction points
   to the wrong side rests too, and the direction is found again.
3. A trial is projected onto the orthant: an entry that would change its sign becomes zero.

OWL-QN (Andrew and Gao 2007) takes the direction of all entries in step 2, and projects it. It then
loses what a matrix knows that is not diagonal.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.l1 import l1_norm, subgradient
from dsoftmax.solvers.algebra.line_search import C1, DELTA
from dsoftmax.solvers.matrix_free.face_pairs import FacePairs
from dsoftmax.solvers.matrix_free.minimise import (
    CLOSE,
    LEAST_COSINE,
    LITTLE,
    LITTLE_STEPS,
    REFRESHES,
    Minimum,
    most_pairs,
)
from dsoftmax.solvers.matrix_free.part import Part

Float = NDArray[np.float64]
Inside = NDArray[np.bool_]

ROUNDS = 4
"""Most directions of one step, each without the entries that the one before held at zero."""
MAX_TRIALS = 20
"""Most trials of one step."""
SHORTEST, LONGEST = 0.1, 0.5
"""Least and largest factor by which a refused step is shortened."""


@dataclass(frozen=True)
class Composite:
    """A smooth convex function plus Σ wⱼ|θⱼ|.

    Attributes
    ----------
    smooth : callable
        Map from θ (K, p+1) to the value and the gradient of the smooth part.
    weights : (K, p+1) float64
        w.
    free : (K, p+1) bool
        Entries that move.
    error : float
        Rounding of the function.
    most : float
        Fall that ends the minimisation, because the function has no minimum.
    """

    smooth: Callable[[Float], tuple[float, Float]]
    weights: Float
    free: Inside
    error: float
    most: float

    def at(self, theta: Float) -> "Point":
        """Return a point. Work: one gradient."""
        value, gradient = self.smooth(theta)
        down = np.where(self.free, -subgradient(gradient, theta, self.weights), 0.0)
        moving = self.free & ((theta != 0) | (down != 0))
        return Point(theta, value + l1_norm(theta, self.weights), gradient, down, moving)


@dataclass(frozen=True)
class Point:
    """A point, with the function and its steepest descent.

    Attributes
    ----------
    theta : (K, p+1) float64
    value : float
    gradient : (K, p+1) float64
        Gradient of the smooth part.
    down : (K, p+1) float64
        The subgradient of least norm, negative.
    moving : (K, p+1) bool
        Entries that are not zero, or leave zero.
    """

    theta: Float
    value: float
    gradient: Float
    down: Float
    moving: Inside


def minimise_with_l1(
    function: Composite,
    theta: Float,
    part_at: Callable[[Float, int, FacePairs], Part],
    budget: int,
    length: Callable[[Float], float],
) -> Minimum:
    """Return about the minimum of a function, from ``theta``, after at most ``budget`` gradients.

    Parameters
    ----------
    function : Composite
    theta : (K, p+1) float64
        Start.
    part_at : callable
        Map from θ, the number of the refresh and the pairs so far to about the Hessian there.
    budget : int
        Gradients to spend, at least one.
    length : callable
        Map from the first direction to its length, of which the first step has at most 1.

    Notes
    -----
    Memory: two arrays with the shape of θ for each pair (`most_pairs`), and about fifteen.
    """
    here = function.at(theta)
    first, spent, pairs, steps, little = here.value, 1, FacePairs(), 0, 0
    n_refreshes, fresh, start, size = 0, False, np.nan, np.nan
    while spent < budget:
        if steps in REFRESHES and not fresh:
            part, fresh = part_at(here.theta, n_refreshes, pairs), True
            n_refreshes += 1
        size = float(np.sum(here.down**2 / part.diagonal))
        start = size if np.isnan(start) else start
        if size <= CLOSE**2 * start or little >= LITTLE_STEPS:
            return Minimum(here.theta, here.value, spent, False)
        direction = _direction(here, function.weights, pairs, part)
        longest = 1.0 if steps else 1 / max(1.0, length(direction))
        found, trials = _searched(function, here, direction, longest, budget - spent)
        spent += trials
        if found is None and len(pairs):
            pairs.clear()
            continue
        if found is None:
            break
        if first - found.value > function.most:
            return Minimum(found.theta, found.value, spent, False)
        s, y = found.theta - here.theta, found.gradient - here.gradient
        if np.sum(s * y) > LEAST_COSINE * np.linalg.norm(s) * np.linalg.norm(y):
            pairs.add(s, y, most_pairs(max(len(pairs.entries), 1)))
        little = little + 1 if here.value - found.value < LITTLE * (first - found.value) else 0
        here, steps, fresh = found, steps + 1, False
    return Minimum(here.theta, here.value, spent, bool(size > (2 * CLOSE) ** 2 * start))


def _direction(here: Point, weights: Float, pairs: FacePairs, part: Part) -> Float:
    """Return a descent direction that leaves zero on the right side."""
    moving = here.moving
    pairs.cover(moving)
    resting = (here.theta == 0) & (weights > 0)
    for _ in range(ROUNDS):
        found = pairs.inverse_product(here.down, moving, part.solve)
        wrong = moving & resting & (found * here.down <= 0)
        if not wrong.any() and np.sum(found * here.down) > 0:
            return found
        moving = moving & ~wrong
    # Entries that leave zero by the diagonal alone: each of them has the right side.
    leaving = np.where(resting, here.down / part.diagonal, 0.0)
    found = pairs.inverse_product(here.down, here.moving & ~resting, part.solve)
    if not np.sum(found * here.down) > 0:
        found = np.where(resting, 0.0, here.down / part.diagonal)
    return found + leaving


def _searched(
    function: Composite, here: Point, direction: Float, step: float, most: int
) -> tuple[Point | None, int]:
    """Return the first acceptable point on the projected path, and the number of trials.

    Armijo's rule (Bertsekas 1982, eq. 14). If rounding hides the fall, the slope decides, as in
    `dsoftmax.solvers.algebra.line_search`. The result is None if there is no such point.
    """
    signs = np.where(here.theta != 0, np.sign(here.theta), np.sign(here.down))
    bounded = function.weights > 0
    for trial in range(1, min(MAX_TRIALS, most) + 1):
        theta = here.theta + step * direction
        theta[bounded & (theta * signs <= 0)] = 0.0
        moved = theta - here.theta
        slope = -float(np.sum(here.down * moved))
        found = function.at(theta)
        falls = found.value <= here.value + C1 * slope
        if falls and found.value < here.value - function.error:
            return found, trial
        along = float(np.sum((found.gradient + function.weights * signs) * moved))
        flat = found.value <= here.value + function.error
        if slope < 0 and flat and abs(along) <= (1 - 2 * DELTA) * -slope:
            return found, trial
        bent = found.value - here.value - slope
        factor = -slope / (2 * bent) if bent > 0 and np.isfinite(bent) else SHORTEST
        step *= min(max(factor, SHORTEST), LONGEST)
    return None, min(MAX_TRIALS, most)
