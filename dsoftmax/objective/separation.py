r"""A direction along which F of a sample falls without end, or the proof that there is none.

Newton's method on the sample decides it. It steps by δ = −H⁻¹∇F from points θ with the
probabilities P. The logits of the step are a.

**There is none** if P(1 + a − Σ P a) is positive for the other classes of all rows. The gradient is
−Σ sᵢx̃ᵢ(1{yᵢ=k} − Pᵢₖ). With these numbers in place of P it is exactly zero, because δ solves
Hδ = −∇F. A direction D with margins m ≥ 0 (`dsoftmax.objective.margins`) would make it
−Σ sᵢPᵢₖmᵢₖ < 0 along D, a contradiction. At an optimum a is zero, so the proof is found there.

**There is one** if the margins of δ say so. Losses that fall without end fall as exp(−m). A Newton
step adds 1 to such a margin, whatever its loss. The other margins do not change, because their
losses are at their minimum: each step makes this true to more digits.

**If rounding hides both**, a linear program decides, provided that the sample is small. It finds
the largest sum of margins m ≥ 0. See Konis 2007, "Linear programming algorithms for detecting
separated data in binary logistic regression models". It is not the first choice, because it takes
20 s with 1,000 entries of θ. A Newton step takes about one second.

All rows of the data judge the direction afterwards, so it is never named wrongly.
"""

from collections.abc import Iterator

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.kernels.softmax import softmax
from dsoftmax.objective.margins import NEGATIVE, separates
from dsoftmax.objective.on_sample import LocalObjective
from dsoftmax.solvers.algebra import definite

Float = NDArray[np.float64]

NONE = np.zeros((0, 0))
"""No direction."""
STEPS = 25
"""Most Newton steps. An optimum takes one or a few of them, a direction rarely more than 20."""
PROGRAM_VALUES = 2**18
"""Most coefficients of a linear program: it takes about a second."""
VISIBLE = 1e-9
"""Least curvature, beside that of the features, which float64 shows well beside the others."""
LOST = 1e-13
"""Curvature, beside that of the features, which is mostly rounding beside the others."""
CERTAIN = 0.5
"""Least part of each P that is left in the proof. Rounding cannot make half of it negative."""
INDEPENDENT = 1e-11
"""Least part of the square of a feature that is left without the features before it."""
LIFTS = 10.0 ** np.arange(-13, -6)
"""Parts that are added to a unit diagonal until the matrix is positive definite."""
WEAK = 1e-3
"""Strength of an entry of a direction, beside the strongest one, without which it is tried."""
SHORTEST = 1e-6
"""Shortest part of a Newton step."""
ROW_VALUES = 2**18
"""Logits that are computed at a time."""


def find_direction(local: LocalObjective, free: NDArray[np.bool_], theta: Float) -> Float:
    """Return a direction that separates rows of the sample, completely or not.

    Parameters
    ----------
    local : LocalObjective
        F on a sample, without a penalty.
    free : (K, p+1) bool
        Entries of θ that move.
    theta : (K, p+1) float64
        The optimum, or a point near the infimum.

    Returns
    -------
    (K, p+1) float64
        A direction in the coordinates of θ. Its shape is (0, 0) if there is none, or if rounding
        hides it.

    Notes
    -----
    Work of a step: a Hessian of the sample, and its factorisation. Usually one step is made.
    """
    (K, d), gram = theta.shape, local.gram()
    columns = _independent(gram, free[-1])
    entries = (np.arange(1, K)[:, None] * d + columns).ravel()  # class 0 is the reference
    squares = np.tile(np.diag(gram)[columns], K - 1)
    for _ in range(STEPS):
        gradient = local.value_and_gradient(theta)[1]
        H = local.hessian(theta)[np.ix_(entries, entries)]
        found = _newton(H, gradient.ravel()[entries], squares)
        if found is None:
            break
        step, visible = np.zeros(theta.shape), found[1]
        step.ravel()[entries] = found[0]
        for direction in (_without_weak(local, step, gram), step):
            if separates(local.margins(direction), NEGATIVE / 10):
                return direction
        if visible >= VISIBLE and _least_left(local, theta, step) > CERTAIN:
            return NONE
        if visible < LOST:
            theta = theta / 2  # too far along a direction for float64 to see it
        else:
            theta = _moved(local, theta, step, gradient)
    return _by_program(local, columns, np.sqrt(np.diag(gram)), theta.shape)


def _without_weak(local: LocalObjective, direction: Float, gram: Float) -> Float:
    """Return a direction by θ's few strong entries alone.

    Margins that must not change are then exactly zero where a few columns tell the classes apart.
    """
    raw = local.coordinates.raw(direction)
    raw = raw - raw.mean(axis=0)
    strength = np.abs(local.coordinates.scaled(raw)) * np.sqrt(np.append(np.diag(gram)[:-1], 1.0))
    raw[strength < WEAK * strength[:, :-1].max(initial=0)] = 0
    return local.coordinates.centred(raw)


def _independent(gram: Float, free: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return free columns that do not depend on each other, and on which the others depend."""
    size = np.sqrt(np.diag(gram))
    some = np.flatnonzero((size > 0) & free)
    scaled = gram[np.ix_(some, some)] / np.outer(size[some], size[some])
    _, pivots, rank, _ = scipy.linalg.lapack.dpstrf(scaled, tol=INDEPENDENT, lower=1)
    return np.sort(some[pivots[:rank] - 1])


def _newton(H: Float, gradient: Float, squares: Float) -> tuple[Float, float] | None:
    """Return −H⁻¹·gradient, and about the least curvature of H beside ``squares``.

    None if H is not positive definite.
    """
    diagonal = np.diag(H)
    diagonal = np.where(diagonal > 0, diagonal, squares)
    size = np.sqrt(diagonal)
    for lift in LIFTS:
        try:
            factor = scipy.linalg.cho_factor(
                definite.scaled(H, size, lift), lower=True, check_finite=False
            )
        except scipy.linalg.LinAlgError:
            continue
        left = np.square(np.diag(factor[0])) * diagonal / squares
        step = -scipy.linalg.cho_solve(factor, gradient / size) / size
        return step, float(left.min(initial=np.inf))
    return None


def _least_left(local: LocalObjective, theta: Float, step: Float) -> float:
    """Return the least 1 + a − Σ P a over the other classes of all rows."""
    least, codes, counted = np.inf, local.sample.codes, local.sample.weights > 0
    for rows in _slices(local.n_rows, len(theta)):
        P, a = softmax(local.logits(theta, rows)), local.logits(step, rows)
        left = 1 + a - (P * a).sum(axis=1, keepdims=True)
        left[np.arange(len(left)), codes[rows]] = np.inf
        least = min(least, left[counted[rows]].min(initial=np.inf))
    return float(least)


def _moved(local: LocalObjective, theta: Float, step: Float, gradient: Float) -> Float:
    """Return the point after the step, or after the part of it that does not overshoot.

    A step is never stretched: margins that do not change would lose the digits that a step gains.
    """
    part, slope = 1.0, abs(float(np.sum(gradient * step)))
    while part > SHORTEST:
        point = theta + part * step
        if float(np.sum(local.value_and_gradient(point)[1] * step)) <= 0.5 * slope:
            break
        part /= 4
    return theta + part * step


def _by_program(
    local: LocalObjective, columns: NDArray[np.intp], size: Float, shape: tuple[int, ...]
) -> Float:
    """Return a direction that separates, from a linear program; of shape (0, 0) if there is none.

    Entries are those of ``columns`` in the units of ``size``, between −1 and 1.
    """
    K, sample, m = shape[0], local.sample, len(columns)
    counted = np.flatnonzero(sample.weights)
    pairs, entries = len(counted) * (K - 1), (K - 1) * m
    if pairs * entries > PROGRAM_VALUES:
        return NONE
    X = local.columns(columns)[counted] / size[columns]
    rows, others = np.nonzero(np.arange(K) != sample.codes[counted, None])
    own, each = sample.codes[counted][rows], np.arange(pairs)
    margins = np.zeros((pairs, K, m))
    margins[each, own] += X[rows]
    margins[each, others] -= X[rows]
    A = margins[:, 1:].reshape(pairs, entries)
    from scipy.optimize import linprog  # 18 MiB, which every worker would have to pay for

    found = linprog(
        -A.mean(axis=0), A_ub=-A, b_ub=np.zeros(pairs), bounds=(-1, 1), method="highs-ds"
    )
    if found.status != 0:
        return NONE
    direction = np.zeros(shape)
    direction[1:, columns] = found.x.reshape(K - 1, m) / size[columns]
    return direction if separates(local.margins(direction), NEGATIVE / 10) else NONE


def _slices(n: int, n_classes: int) -> Iterator[slice]:
    step = max(ROW_VALUES // n_classes, 64)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
