"""A line search for a convex function, one trial per pass, that survives round-off.

The weak Wolfe conditions (Nocedal and Wright 2006, eq. 3.6) accept a step t::

    F(t) ≤ F(0) + c₁·t·F′(0)     and     F′(t) ≥ c₂·F′(0)

Near the optimum the decrease of F falls below its rounding, and the first condition becomes
noise. A search that insists on it then rejects every step, although the gradient still tells the
way. The approximate Wolfe condition of Hager and Zhang (2005, eq. 4.1) replaces it there, and the
gradient decides::

    F(t) ≤ F(0) + ε     and     (2δ − 1)·F′(0) ≥ F′(t) ≥ c₂·F′(0)

Backtracking by Armijo's rule alone has the same weakness: it halves its step until the change of F
vanishes. Without the condition on F′ it also needs a larger c₁, about ¼. A smaller one accepts
steps close to 2/L, which jump across the valley and hardly decrease F.

F is convex along the line. The sign of F′ therefore brackets the minimum, and the next trial is a
secant step on F′.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

C1 = 1e-4
"""c₁: fraction of the promised decrease that a step must reach. Most first steps reach it."""
C2 = 0.9
"""c₂: fraction of the slope that may remain. Only a step that is far too short is lengthened."""
DELTA = 0.1
"""δ of the approximate Wolfe condition, as Hager and Zhang choose it."""
MAX_TRIALS = 25
"""Limit on the trials of one search."""
SHORTER = 0.9
"""Factor by which the gradient must shrink to count as progress if F is flat to rounding."""


class Evaluated(Protocol):
    """A point whose F and ∇F are known: a state, or an answer."""

    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> NDArray[np.float64]: ...
    @property
    def value_error(self) -> float: ...


@dataclass(frozen=True)
class Search:
    """A line search in progress.

    Attributes
    ----------
    step : float
        Trial to evaluate next; the accepted step once ``verdict`` is "accepted".
    value, slope : float
        F(0) and F′(0) < 0.
    error : float
        Rounding of F: smaller differences mean nothing.
    low, slope_low : float
        Longest step known to be too short, and F′ there.
    high, slope_high : float
        Shortest step known to be too long, and F′ there; inf and nan while unknown.
    trials : int
        Number of trials so far.
    verdict : {"", "accepted", "failed"}
    """

    step: float
    value: float
    slope: float
    error: float
    low: float
    slope_low: float
    high: float = np.inf
    slope_high: float = np.nan
    trials: int = 0
    verdict: str = ""


def begin(value: float, slope: float, error: float, step: float) -> Search:
    """Return a search whose first trial is ``step``."""
    return Search(step, value, slope, error, 0.0, slope)


def advance(search: Search, value: float, slope: float, error: float) -> Search:
    """Return the search after F(step) = ``value`` and F′(step) = ``slope`` are known."""
    step, noise = search.step, max(search.error, error)
    trials = search.trials + 1
    finite = np.isfinite(value) and np.isfinite(slope)
    if finite and slope >= C2 * search.slope:
        decrease = value <= search.value + C1 * step * search.slope and value < search.value - noise
        rounding = value <= search.value + noise and slope <= (2 * DELTA - 1) * search.slope
        if decrease or rounding:
            return replace(search, trials=trials, verdict="accepted")
    if trials >= MAX_TRIALS:
        return replace(search, trials=trials, verdict="failed")
    if not finite:
        search = replace(search, high=step, slope_high=np.nan)
    elif slope >= 0 or value > search.value + noise:
        search = replace(search, high=step, slope_high=slope if slope > 0 else np.nan)
    else:
        search = replace(search, low=step, slope_low=slope)
    following = _next_trial(search, step, slope)
    if not search.low < following < search.high:
        return replace(search, trials=trials, verdict="failed")
    return replace(search, step=following, trials=trials)


def _next_trial(search: Search, step: float, slope: float) -> float:
    low, high = search.low, search.high
    if not np.isfinite(high):
        # Too short so far: a secant step on F′ from 0, longer by a factor between 2 and 10.
        gained = slope - search.slope
        secant = step * -search.slope / gained if gained > 0 else np.inf
        return float(min(max(secant, 2 * step), 10 * step))
    width = high - low
    if not np.isfinite(search.slope_high):
        return low + 0.1 * width if low == 0 else low + 0.5 * width
    secant = low - search.slope_low * width / (search.slope_high - search.slope_low)
    if search.trials % 4 == 3:  # bisection shortens a bracket along which secants creep
        secant = low + 0.5 * width
    return float(min(max(secant, low + 0.05 * width), high - 0.05 * width))


def improves(here: Evaluated, there: Evaluated, step: NDArray[np.float64]) -> bool:
    """Return whether a point is better than another, for a step of any origin.

    F must fall. If rounding hides the fall, the gradient decides. Either it is shorter by
    `SHORTER`, or the approximate Wolfe condition of this module holds: the slope along the step
    is at most (1 − 2δ) of the slope at its start.

    Parameters
    ----------
    here, there : Evaluated
        Start and end of the step.
    step : (K, p+1) float64
    """
    error = max(here.value_error, there.value_error)
    if not np.isfinite(there.value) or there.value > here.value + error or not np.any(step):
        return False
    if there.value < here.value - error:
        return True
    slope, before = float(np.sum(there.gradient * step)), float(np.sum(here.gradient * step))
    shorter = np.linalg.norm(there.gradient) < SHORTER * np.linalg.norm(here.gradient)
    return bool(shorter or abs(slope) <= (1 - 2 * DELTA) * -before)


def lowest(here: Evaluated, found: Sequence[Evaluated]) -> int:
    """Return the index of the point with the least F, of the points that a pass visited.

    Among points whose F differ by rounding alone, it is the one with the shortest gradient.

    Parameters
    ----------
    here : Evaluated
        Point before the pass.
    found : sequence of Evaluated
        Points that the pass visited.
    """
    values = np.array([one.value if np.isfinite(one.value) else np.inf for one in found])
    error = max(here.value_error, found[0].value_error)
    sizes = np.array([np.linalg.norm(one.gradient) for one in found])
    return int(np.argmin(np.where(values <= values.min() + error, sizes, np.inf)))
