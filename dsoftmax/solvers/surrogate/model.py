"""The surrogate m at one point, as a function to minimise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import definite
from dsoftmax.solvers.algebra.minimise import VALUE_ROUNDING, Function
from dsoftmax.solvers.protocol import Local
from dsoftmax.solvers.surrogate.curvature import Gauge

Float = NDArray[np.float64]


def times(matrix: Float, V: Float) -> Float:
    """Return matrix·V for V (K, p+1); a matrix of shape (0, 0) stands for zero."""
    if not matrix.size:
        return np.zeros_like(V)
    found: Float = (matrix @ V.ravel()).reshape(V.shape)
    return found


@dataclass(frozen=True)
class Model:
    """The surrogate m at one point, less its value there.

    Attributes
    ----------
    local : Local
        f and its derivatives.
    gauge : Gauge
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
        Fall that proves that m has no minimum.
    """

    local: Local
    gauge: Gauge
    theta: Float
    value: float
    share: float
    lift: Float
    added: Float
    most: float = np.inf

    @property
    def function(self) -> Function:
        """The function that is minimised."""
        error = VALUE_ROUNDING * (1 + abs(self.value))
        return Function(self._value_and_gradient, self._products, error, self.most)

    def _value_and_gradient(self, at: Float) -> tuple[float, Float]:
        step = at - self.theta
        there, slope = self.local.value_and_gradient(at)
        bent = times(self.added, step)
        value = (
            self.share * (there - self.value)
            + float(np.sum(self.lift * step))
            + 0.5 * float(np.sum(bent * step))
        )
        return value, self.share * slope + self.lift + bent

    def _products(self, at: Float) -> Callable[[Float], Float]:
        of_local = self.local.products(at)
        return lambda V: self.share * of_local(V) + times(self.added, V)

    def factorise(self, at: Float) -> Callable[[Float], Float] | None:
        """Return the solve with the Hessian at a point; None if it is not positive definite."""
        H = self.share * self.local.hessian(at)
        if self.added.size:
            H += self.added
        return definite.shaped_solver(self.gauge.pinned(H), at.shape)
