"""A Hessian at a point, estimated from exact ones at other points and from gradients around."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.reference.newton_state import NewtonState
from dsoftmax.solvers.reference.trust_region import Metric

Float = NDArray[np.float64]

LEAST_DENOMINATOR = 1e-6
"""Least denominator of a rank-one correction, as a fraction of its largest possible value.

See Nocedal and Wright 2006, eq. 6.26.
"""


def between(metric: Metric, state: NewtonState, theta: Float) -> Float:
    """Return the Hessian at θ, interpolated between the last two exact ones."""
    if len(state.known) < 2:
        return state.known[-1]
    along = _logits(metric, state.places[1] - state.places[0])
    reach = float(along @ along)
    part = float(along @ _logits(metric, theta - state.places[0])) / reach if reach > 0 else 1.0
    part = min(max(part, 0.0), 1.0)
    found: Float = (1 - part) * state.known[0] + part * state.known[1]
    return found


def _logits(metric: Metric, step: Float) -> Float:
    """Return the free entries of a step, in the scale of the change of the logits."""
    found: Float = step[metric.free] / metric.scale
    return found


def corrected(
    metric: Metric,
    hessian: Float,
    theta: Float,
    gradient: Float,
    points: list[tuple[Float, Float]],
    only_more: bool = False,
) -> Float:
    """Return the Hessian after rank-one corrections.

    Each correction fits the gradient of one point; the best point comes last. With
    ``only_more`` a correction may only add curvature.
    """
    found, moves = hessian, metric.free.ravel()
    for at, slope in points:
        step = (at - theta).ravel()
        lack = (slope - gradient).ravel() - found @ step
        below = float(lack @ step)
        size = float(
            np.linalg.norm(lack[moves] * metric.scale) * np.linalg.norm(step[moves] / metric.scale)
        )
        if (below if only_more else abs(below)) > LEAST_DENOMINATOR * size > 0:
            found = found + np.outer(lack, lack) / below
    return found
