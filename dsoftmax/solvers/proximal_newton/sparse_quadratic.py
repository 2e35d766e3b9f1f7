"""Minimising a quadratic plus an L1 penalty in memory: the subproblem of `dsoftmax.solvers.proximal_newton.solver`.

min over x of ½(x − a)ᵀB(x − a) + gᵀ(x − a) + Σ wⱼ|xⱼ|. Where the signs of a solution are known, it is a linear system. Block principal
pivoting (Kim and Park 2010, "Fast active-set-type algorithms for L1-regularized linear regression", algorithm 1) guesses all signs,
solves, and corrects every sign that turned out wrong at once; the systems are solved by conjugate gradients. A few
steps of FISTA (Beck and Teboulle 2009) make the first guess, and many go the whole way where pivoting cycles.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import definite

Float = NDArray[np.float64]

FIRST_STEPS, MOST_STEPS = 30, 300
MOST_PIVOTS, FULL_EXCHANGES = 40, 3
MOST_PRODUCTS = 100
MOST_BOUND = 1e12


@dataclass
class Budget:
    """Products that may still be spent: what is not minimal by then is a worse guess, and costs a pass more."""

    left: int

    def spend(self) -> None:
        """Count one."""
        self.left -= 1

    @property
    def spent(self) -> bool:
        return self.left <= 0


@dataclass(frozen=True)
class Quadratic:
    """A convex quadratic with an L1 penalty.

    Attributes
    ----------
    multiply : callable
        V ↦ B·V, for (K, p+1) float64; zero where an entry is not free.
    diagonal : (K, p+1) float64
        About the diagonal of B; positive.
    matrix : (K·(p+1), K·(p+1)) float64, optional
        B itself, where it is small.
    weights : (K, p+1) float64
        w.
    free : (K, p+1) bool
        Entries that move.
    budget : Budget
        Shared by all quadratics between two passes.
    """

    multiply: Callable[[Float], Float]
    diagonal: Float
    matrix: Float | None
    weights: Float
    free: NDArray[np.bool_]
    budget: Budget

    def product(self, V: Float) -> Float:
        """Return B·V, at the expense of the budget."""
        self.budget.spend()
        return self.multiply(V)

    def distance(self, gradient: Float, x: Float) -> float:
        """Return how far x is from optimal: the squared norm of the minimum-norm subgradient, each entry by its curvature."""
        return float(np.sum(subgradient(gradient, x, self.weights) ** 2 / self.diagonal))


def subgradient(gradient: Float, x: Float, weights: Float) -> Float:
    """Return the minimum-norm subgradient of f + Σ wⱼ|xⱼ|, from ∇f (Andrew and Gao 2007, eq. 4, its negative)."""
    return np.where(x != 0, gradient + weights * np.sign(x), shrunk(gradient, weights))


def shrunk(x: Float, weights: Float) -> Float:
    """Return x, each entry closer to zero by w, or zero: the proximal operator of Σ wⱼ|xⱼ|."""
    found: Float = np.sign(x) * np.maximum(np.abs(x) - weights, 0.0)
    return found


def minimise(quadratic: Quadratic, x: Float, gradient: Float, goal: float) -> Float:
    """Return x at which `Quadratic.distance` is at most ``goal``, or as close as the limits of this module allow.

    Parameters
    ----------
    quadratic : Quadratic
    x : (K, p+1) float64
        Where to begin, a.
    gradient : (K, p+1) float64
        g: that of the smooth part there.
    goal : float
    """
    x, gradient = _fista(quadratic, x, gradient, FIRST_STEPS, goal)
    weights, penalised = quadratic.weights, quadratic.weights > 0
    signs = np.where(penalised, np.sign(x), 0.0)
    best, nearest, fewest, exchanges = (x, gradient), np.inf, x.size + 1, FULL_EXCHANGES
    for _ in range(MOST_PIVOTS):
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
        if exchanges < 0:  # the backup rule: one at a time cannot cycle
            last = np.flatnonzero(wrong)[-1]
            wrong = (np.arange(x.size) == last).reshape(x.shape)
        signs = np.where(wrong & enters, -np.sign(there), np.where(wrong, 0.0, signs))
        following = np.where(penalised & (y * signs <= 0), 0.0, y)
        x, gradient = following, gradient + quadratic.product(following - x)
    if nearest <= goal or quadratic.budget.spent:
        return best[0]
    return _fista(quadratic, *best, MOST_STEPS, goal)[0]


def _solve(
    quadratic: Quadratic,
    x: Float,
    gradient: Float,
    inside: NDArray[np.bool_],
    slope: Float,
    goal: float,
) -> tuple[Float, Float]:
    """Return the minimum over the entries ``inside``, whose penalty has this slope, and the gradient there."""
    solve = _factorised(quadratic, inside)
    residual = np.where(inside, -(gradient + slope), 0.0)
    turned = solve(residual)
    direction, size = turned, float(np.sum(residual * turned))
    for _ in range(MOST_PRODUCTS):
        if size <= goal or quadratic.budget.spent:
            break
        along = quadratic.product(direction)
        curvature = float(np.sum(direction * along))
        if not curvature > 0:
            break
        length = size / curvature
        x, gradient = x + length * direction, gradient + length * along
        residual = residual - length * np.where(inside, along, 0.0)
        turned = solve(residual)
        following = float(np.sum(residual * turned))
        direction, size = turned + following / size * direction, following
    return x, gradient


def _factorised(quadratic: Quadratic, inside: NDArray[np.bool_]) -> Callable[[Float], Float]:
    """Return what solves with the part of B that is ``inside``; with its diagonal where B is not there or not definite."""
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
    """Return x and the gradient there after at most so many accelerated proximal steps, in the metric of the diagonal.

    Beck and Teboulle 2009, with backtracking, and the restart of O'Donoghue and Candès (2015, section 3.2).
    """
    ahead, slope, bound, momentum = x, gradient, 1.0, 1.0
    for _ in range(most):
        while True:
            metric = bound * quadratic.diagonal
            landed = np.where(
                quadratic.free, shrunk(ahead - slope / metric, quadratic.weights / metric), x
            )
            step = landed - ahead
            bent = quadratic.product(step)
            if float(np.sum(step * bent)) <= bound * float(np.sum(quadratic.diagonal * step**2)) * (
                1 + 1e-12
            ):
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
