"""The surrogate at one point."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import definite
from dsoftmax.solvers.algebra.minimise import Function

if TYPE_CHECKING:
    from dsoftmax.solvers.surrogate.solver import Surrogate

Float = NDArray[np.float64]
ROUNDING = 4e-16
"""Relative rounding of f."""


def _times(matrix: Float, V: Float) -> Float:
    if not matrix.size:
        return np.zeros_like(V)
    found: Float = (matrix @ V.ravel()).reshape(V.shape)
    return found


@dataclass(frozen=True)
class _Model:
    """The surrogate m at one point, less its value there.

    Attributes
    ----------
    solver : Surrogate
    theta : (K, p+1) float64
        θₜ.
    value : float
        f(θₜ).
    share : float
        α.
    lift : (K, p+1) float64
        ∇F(θₜ) − α·∇f(θₜ).
    added : (K·(p+1), K·(p+1)) float64
        C + (1 − α)·∇²f(θₜ) + μB; of shape (0, 0) for zero.
    most : float
        A fall of more than this shows that m has no minimum.
    """

    solver: "Surrogate"
    theta: Float
    value: float
    share: float
    lift: Float
    added: Float
    most: float = np.inf

    @property
    def function(self) -> Function:
        """What is minimised."""
        return Function(
            self._value_and_gradient, self._products, ROUNDING * (1 + abs(self.value)), self.most
        )

    def _value_and_gradient(self, at: Float) -> tuple[float, Float]:
        step = at - self.theta
        there, slope = self.solver.local.value_and_gradient(at)
        bent = _times(self.added, step)
        value = (
            self.share * (there - self.value)
            + float(np.sum(self.lift * step))
            + 0.5 * float(np.sum(bent * step))
        )
        return value, self.share * slope + self.lift + bent

    def _products(self, at: Float) -> Callable[[Float], Float]:
        of_local = self.solver.local.products(at)
        return lambda V: self.share * of_local(V) + _times(self.added, V)

    def factorise(self, at: Float) -> Callable[[Float], Float] | None:
        """Return what solves with the Hessian at another point; None where that is not positive definite."""
        H = self.share * self.solver.local.hessian(at)
        return _solve(self.solver._pinned(H + self.added if self.added.size else H), at.shape)


def _solve(matrix: Float, shape: tuple[int, ...]) -> Callable[[Float], Float] | None:
    """Return what solves with a positive definite matrix; None where it is not."""
    solve = definite.solver(matrix)
    return None if solve is None else lambda right: solve(right.ravel()).reshape(shape)
