"""Minimising a quadratic plus an L1 penalty in memory: the subproblem of proximal Newton.

The problem is min over x of ½(x − a)ᵀB(x − a) + gᵀ(x − a) + Σ wⱼ|xⱼ|. It is a linear system if
the signs of a solution are known. Block principal pivoting guesses all signs, solves the system,
and corrects every wrong sign at once (Kim and Park 2010, "Fast active-set-type algorithms for
L1-regularized linear regression", algorithm 1). Conjugate gradients solve the systems. A few
steps of FISTA (Beck and Teboulle 2009) make the first guess. More steps of FISTA finish the work
if pivoting cycles.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import definite
from dsoftmax.solvers.algebra.conjugate_gradients import conjugate_steps
from dsoftmax.solvers.algebra.l1 import shrunk, subgradient

Float = NDArray[np.float64]

FIRST_STEPS = 30
"""Limit on the steps of FISTA that guess the signs."""
LAST_STEPS = 300
"""Limit on the steps of FISTA if pivoting has not reached the goal."""
MAX_PIVOTS = 40
"""Limit on the linear systems of one minimisation."""
FULL_EXCHANGES = 3
"""Pivots that may correct all wrong signs without a new low of their number.

Kim and Park 2010 choose 3 too.
"""
SYSTEM_PRODUCTS = 100
"""Limit on the products of one linear system."""
MOST_BOUND = 1e12
"""Limit on the step bound of FISTA, in units of the diagonal: beyond it steps are rounding."""


@dataclass
class Budget:
    """Products that remain between two passes.

    A minimisation that spends them all returns a worse point, which costs one pass more.

    Attributes
    ----------
    left : int
        Number of products.
    """

    left: int

    def spend(self) -> None:
        """Count one product."""
        self.left -= 1

    @property
    def spent(self) -> bool:
        """Whether no product is left."""
        return self.left <= 0


@dataclass(frozen=True)
class Quadratic:
    """A convex quadratic with an L1 penalty.

    Attributes
    ----------
    multiply : callable
        Map from V (K, p+1) to B·V; zero at an entry that is not free.
    diagonal : (K, p+1) float64
        Approximate diagonal of B; positive.
    matrix : (K·(p+1), K·(p+1)) float64, optional
        B itself, if it is small.
    weights : (K, p+1) float64
        w.
    free : (K, p+1) bool
        Entries that move.
    budget : Budget
        Budget of all quadratics between two passes.
    """

    multiply: Callable[[Float], Float]
    diagonal: Float
    matrix: Float | None
    weights: Float
    free: NDArray[np.bool_]
    budget: Budget

    def product(self, V: Float) -> Float:
        """Return B·V, and spend one product of the budget."""
        self.budget.spend()
        return self.multiply(V)

    def distance(self, gradient: Float, x: Float) -> float:
        """Return the squared norm of the minimum-norm subgradient, in units of the curvature.

        It is 0 at the optimum.
        """
        return float(np.sum(subgradient(gradient, x, self.weights) ** 2 / self.diagonal))


def minimise(quadratic: Quadratic, x: Float, gradient: Float, goal: float) -> Float:
    """Return the minimum, to a `Quadratic.distance` of ``goal``.

    The result is the nearest point found if a limit of this module is reached first.

    Parameters
    ----------
    quadratic : Quadratic
    x : (K, p+1) float64
        Start, a.
    gradient : (K, p+1) float64
        g: the gradient of the smooth part at the start.
    goal : float
    """
    x, gradient = _fista(quadratic, x, gradient, FIRST_STEPS, goal)
    weights, penalised = quadratic.weights, quadratic.weights > 0
    signs = np.where(penalised, np.sign(x), 0.0)
    best, nearest, fewest, exchanges = (x, gradient), np.inf, x.size + 1, FULL_EXCHANGES
    for _ in range(MAX_PIVOTS):
        distance = quadratic.distance(gradient, x)
        if distance < nearest:
            best, nearest = (x, gradient), distance
        if distance <= goal or quadratic.budget.spent:
            break
        inside = quadratic.free & (~penalised | (signs != 0))
        y, there = _solve(quadratic, x, gradient, inside, weights * signs, 0.01 * goal)
        leaves = inside & penalised & (y * signs < 0)
        enters = quadratic.free & ~inside & (np.abs(there) > weights)
        wrong = leaves | enters
        n_wrong = int(wrong.sum())
        if n_wrong == 0:
            return y
        exchanges = FULL_EXCHANGES if n_wrong < fewest else exchanges - 1
        fewest = min(n_wrong, fewest)
        if exchanges < 0:  # the backup rule: one exchange at a time cannot cycle
            last = np.flatnonzero(wrong)[-1]
            wrong = (np.arange(x.size) == last).reshape(x.shape)
        signs = np.where(wrong & enters, -np.sign(there), np.where(wrong, 0.0, signs))
        following = np.where(penalised & (y * signs <= 0), 0.0, y)
        x, gradient = following, gradient + quadratic.product(following - x)
    if nearest <= goal or quadratic.budget.spent:
        return best[0]
    return _fista(quadratic, *best, LAST_STEPS, goal)[0]


def _solve(
    quadratic: Quadratic,
    x: Float,
    gradient: Float,
    inside: NDArray[np.bool_],
    slope: Float,
    goal: float,
) -> tuple[Float, Float]:
    """Return the minimum over the entries ``inside``, and the gradient there.

    ``slope`` is the gradient of the penalty.
    """
    right = np.where(inside, -(gradient + slope), 0.0)
    for step in conjugate_steps(
        quadratic.product,
        right,
        _factorised(quadratic, inside),
        most=min(SYSTEM_PRODUCTS, max(quadratic.budget.left, 0)),
        goal=goal,
        inside=inside,
    ):
        if not step.length:
            break
        x, gradient = x + step.length * step.direction, gradient + step.length * step.along
    return x, gradient


def _factorised(quadratic: Quadratic, inside: NDArray[np.bool_]) -> Callable[[Float], Float]:
    """Return the solve with the part of B that is ``inside``, or with its diagonal.

    The diagonal replaces B if the matrix is not known, or not positive definite.
    """
    by_diagonal = np.where(inside, 1 / quadratic.diagonal, 0.0)
    if quadratic.matrix is None:
        return lambda right: right * by_diagonal
    places = np.flatnonzero(inside)
    part = quadratic.matrix[np.ix_(places, places)]
    within = definite.solver(part)
    if within is None:
        return lambda right: right * by_diagonal

    def solve(right: Float) -> Float:
        found = np.zeros(right.size)
        found[places] = within(right.ravel()[places])
        return found.reshape(right.shape)

    return solve


def _fista(
    quadratic: Quadratic, x: Float, gradient: Float, most: int, goal: float
) -> tuple[Float, Float]:
    """Return x and the gradient there after at most ``most`` accelerated proximal steps.

    Beck and Teboulle 2009, with backtracking, in the metric of the diagonal, and with the restart
    of O'Donoghue and Candès (2015, section 3.2).
    """
    ahead, slope, bound, momentum = x, gradient, 1.0, 1.0
    for _ in range(most):
        while True:
            metric = bound * quadratic.diagonal
            moved_to = shrunk(ahead - slope / metric, quadratic.weights / metric)
            landed = np.where(quadratic.free, moved_to, x)
            step = landed - ahead
            bent = quadratic.product(step)
            above = bound * float(np.sum(quadratic.diagonal * step**2))
            if float(np.sum(step * bent)) <= above * (1 + 1e-12):
                break
            if bound > MOST_BOUND:
                return x, gradient
            bound *= 2
        there = slope + bent
        moved, turned = landed - x, there - gradient
        if float(np.sum(quadratic.diagonal * (ahead - landed) * moved)) > 0:
            momentum = 1.0
        x, gradient = landed, there
        if quadratic.distance(gradient, x) <= goal or quadratic.budget.spent:
            break
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        part = (momentum - 1) / following
        ahead, slope, momentum = x + part * moved, gradient + part * turned, following
    return x, gradient
