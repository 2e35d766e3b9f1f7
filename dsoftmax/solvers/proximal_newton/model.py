"""The surrogate m of proximal Newton at one point, and its minimum."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker, diagonal_of, shift_matrix
from dsoftmax.solvers.algebra.l1 import l1_norm, shift
from dsoftmax.solvers.algebra.line_search import C1
from dsoftmax.solvers.algebra.low_rank import LowRank, bfgs_update
from dsoftmax.solvers.algebra.minimise import VALUE_ROUNDING
from dsoftmax.solvers.protocol import Local
from dsoftmax.solvers.proximal_newton.sparse_quadratic import Budget, Quadratic, minimise
from dsoftmax.solvers.proximal_newton.state import ProximalState

Float = NDArray[np.float64]

DENSE_ENTRIES = 1000
"""Entries of θ up to which B is a matrix that is factorised: 8 MB in float64."""
DENSE_PRODUCTS = 10_000
"""Limit on the products with B between two passes if B is a matrix."""
PRODUCTS = 300
"""Limit on the products with B between two passes if each visits the sample."""
PRECISION = 0.01
"""Factor by which the subgradient of the surrogate falls: a pass corrects the surrogate anyway."""
NEWTON_STEPS = 30
"""Limit on the Newton steps of one minimisation."""
MAX_TRIALS = 20
"""Limit on the trials of one Newton step."""
DIAGONAL_LIFT = 1e-8
"""Fraction of the diagonal that is added to B: rounding must not make it indefinite.

It only shortens steps.
"""
L1_SHIFT_CURVATURE = 1e-2
"""Curvature of the shift of all classes in a Newton step, as a fraction of the others' mean.

An L1 penalty leaves no shift free, so that this only shortens steps.
"""


@dataclass(frozen=True)
class Smooth:
    """The parts of the objective that stay the same during a run.

    Attributes
    ----------
    local : Local
        The smooth part on the sample, f.
    kronecker : Kronecker
    penalty : (K, p+1) float64
        λ of every entry.
    weights : (K, p+1) float64
        λ₁ of every entry.
    free : (K, p+1) bool
        Entries that move.
    """

    local: Local
    kronecker: Kronecker
    penalty: Float
    weights: Float
    free: NDArray[np.bool_]


class Model:
    """The surrogate m at one point, less its value there.

    Parameters
    ----------
    parts : Smooth
    state : ProximalState
        θₜ and the findings of the passes.
    """

    def __init__(self, parts: Smooth, state: ProximalState) -> None:
        self.parts, self.state = parts, state
        self.value, gradient = parts.local.value_and_gradient(state.theta)
        self.error = VALUE_ROUNDING * (1 + abs(self.value))
        self.lift = state.slope - gradient
        self.here = parts.local.products(state.theta)
        self.kronecker = parts.kronecker.product(state.moments)
        self.correction = self._correction(self.here)
        self.dense = state.theta.size <= DENSE_ENTRIES
        self.budget = Budget(DENSE_PRODUCTS if self.dense else PRODUCTS)

    def minimum(self) -> Float:
        """Return the minimum of m, by proximal Newton steps."""
        theta, gradient, value, goal = self.state.theta, self.state.slope, 0.0, -1.0
        for _ in range(NEWTON_STEPS):
            quadratic = self.quadratic(theta)
            distance = quadratic.distance(gradient, theta)
            if self.budget.spent:
                break
            goal = PRECISION**2 * distance if goal < 0 else goal
            if distance <= goal:
                break
            landed = minimise(quadratic, theta, gradient, max(goal, 0.01 * distance))
            reached = self._backtracked(quadratic, theta, value, gradient, landed)
            if reached is None:
                break
            theta, value, gradient = reached
            if self._shifts:
                theta, value, gradient = self._shifted(theta, value, gradient)
        return theta

    def _backtracked(
        self, quadratic: Quadratic, theta: Float, value: float, gradient: Float, landed: Float
    ) -> tuple[Float, float, Float] | None:
        """Return an acceptable point on the way to ``landed``, with m and its gradient.

        The result is None if there is none.
        """
        step, weights = landed - theta, self.parts.weights
        promised = float(np.sum(gradient * step))
        promised = promised + l1_norm(landed, weights) - l1_norm(theta, weights)
        if not promised < 0:
            return None
        distance = quadratic.distance(gradient, theta)
        for halving in range(MAX_TRIALS):
            # The whole step keeps exact zeros, which theta + step would not.
            landed = landed if halving == 0 else theta + 0.5**halving * step
            following, slope = self.value_and_gradient(landed)
            enough = following <= value + C1 * 0.5**halving * promised
            if enough and following < value - self.error:
                return landed, following, slope
            flat = following <= value + self.error
            if flat and quadratic.distance(slope, landed) < 0.5 * distance:
                return landed, following, slope
        return None

    def _shifted(self, theta: Float, value: float, gradient: Float) -> tuple[Float, float, Float]:
        """Return the best shift of all classes, with m and its gradient, if m falls there."""
        penalty, l1 = float(self.parts.penalty.max()), float(self.parts.weights.max())
        shifted = shift(theta, penalty, l1)
        following, slope = self.value_and_gradient(shifted)
        return (shifted, following, slope) if following < value else (theta, value, gradient)

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return m and the gradient of its smooth part."""
        step, weights = theta - self.state.theta, self.parts.weights
        value, gradient = self.parts.local.value_and_gradient(theta)
        bent = self._added(step)
        moved = (
            value - self.value + float(np.sum(self.lift * step)) + 0.5 * float(np.sum(bent * step))
        )
        m = moved + l1_norm(theta, weights) - l1_norm(self.state.theta, weights)
        return m, gradient + self.lift + bent

    def quadratic(self, theta: Float) -> Quadratic:
        """Return m about another point, with a C that is convex there."""
        return self._dense_quadratic(theta) if self.dense else self._sampled_quadratic(theta)

    def _dense_quadratic(self, theta: Float) -> Quadratic:
        parts = self.parts
        hessian = parts.local.hessian(theta)
        correction = self._correction(lambda V: (hessian @ V.ravel()).reshape(V.shape))
        matrix = hessian + correction.matrix() + self._added_matrix
        fixed = ~parts.free.ravel()
        matrix[fixed, :] = matrix[:, fixed] = 0
        places = np.diag_indices(len(matrix))
        floor = 1e-12 * max(float(matrix[places].max()), 1e-200)
        matrix[places] += DIAGONAL_LIFT * self._diagonal.ravel() + floor
        return Quadratic(
            lambda V: (matrix @ V.ravel()).reshape(V.shape),
            matrix[places].reshape(theta.shape),
            matrix,
            parts.weights,
            parts.free,
            self.budget,
        )

    def _sampled_quadratic(self, theta: Float) -> Quadratic:
        parts, damping = self.parts, self.state.damping
        of_sample = parts.local.products(theta)
        correction = self._correction(of_sample)

        def product(V: Float) -> Float:
            found = of_sample(V) + self._blended(V) + correction.product(V)
            if damping:
                found += damping * (self.here(V) + self._blended(V) + self.correction.product(V))
            if self._shifts:
                found = found + self._shift_curvature * V.mean(axis=0)
            return np.where(parts.free, found, 0.0)

        return Quadratic(product, self._diagonal, None, parts.weights, parts.free, self.budget)

    def _blended(self, V: Float) -> Float:
        """Return ωK·V."""
        return self.state.blend * self.kronecker(V) if self.state.blend else np.zeros_like(V)

    def _correction(self, of_sample: Callable[[Float], Float]) -> LowRank:
        """Return C for the Hessian of the sample at some point; the sum stays positive definite."""
        first = (lambda V: of_sample(V) + self._blended(V)) if self.state.blend else of_sample
        return bfgs_update(self.state.steps, self.state.lacks, of_sample, first)

    def _added(self, V: Float) -> Float:
        """Return (ωK + C + μB)·V."""
        found = self._blended(V) + self.correction.product(V)
        if self.state.damping:
            found = found + self.state.damping * (self.here(V) + found)
        return found

    @cached_property
    def _shifts(self) -> bool:
        """Whether a shift of all classes is free to move and penalised by L1."""
        return bool(self.parts.free[:, :-1].all()) and bool(self.parts.weights.any())

    @cached_property
    def _shift_curvature(self) -> Float:
        """Curvature of the shift of all classes, feature by feature, (p+1,)."""
        moments = self.state.moments
        mean = L1_SHIFT_CURVATURE * float(diagonal_of(moments).mean())
        return mean * np.maximum(self.parts.kronecker.diagonal, 0.0)

    @cached_property
    def _diagonal(self) -> Float:
        """Approximate diagonal of B, (K, p+1); positive."""
        sizes = np.maximum(self.parts.kronecker.diagonal, 0.0)
        found = (
            np.outer(np.maximum(diagonal_of(self.state.moments), 0.0), sizes) + self.parts.penalty
        )
        return np.maximum(found, max(1e-10 * float(found.max()), 1e-300))

    @cached_property
    def _added_matrix(self) -> Float:
        """ωK + μB, and the curvature of the shift."""
        state, K = self.state, len(self.state.moments)
        found = state.blend * self.parts.kronecker.matrix(state.moments)
        if state.damping:
            hessian = self.parts.local.hessian(state.theta)
            found += state.damping * (hessian + found + self.correction.matrix())
        if self._shifts:
            found += shift_matrix(self._shift_curvature, K)
        return found
