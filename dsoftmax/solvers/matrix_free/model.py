r"""The surrogate of a pass: the sample's losses, the data's gradient, and a damping.

With f the objective on the sample and d = θ − θₜ,

.. math::

    m_μ(d) = f(θ_t + d) - f(θ_t) - ⟨∇f(θ_t), d⟩ + ⟨∇F(θ_t), d⟩ + ½ dᵀ(C + μM)d

This is eq. 13 of Shamir, Srebro and Zhang (2014) with two more terms. C corrects the curvature. μM
is Levenberg and Marquardt's damping in the metric M.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.matrix_free.correction import Correction

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """m_μ around one point.

    Attributes
    ----------
    evaluate : callable
        Map from θ to f and ∇f.
    theta : (K, p+1) float64
        θₜ.
    value : float
        f(θₜ).
    lift : (K, p+1) float64
        ∇F(θₜ) − ∇f(θₜ).
    correction : Correction, optional
        C.
    damping : (K, p+1) float64 or float
        Diagonal of μM.
    """

    evaluate: Callable[[Float], tuple[float, Float]]
    theta: Float
    value: float
    lift: Float | float = 0.0
    correction: Correction | None = None
    damping: Float | float = 0.0

    def value_and_gradient(self, at: Float) -> tuple[float, Float]:
        """Return m_μ and ∇m_μ at a θ."""
        value, slope = self.evaluate(at)
        step = at - self.theta
        bent = self.damping * step
        if self.correction is not None:
            bent += self.correction.product(step)
        found = value - self.value + float(np.sum((self.lift + 0.5 * bent) * step))
        return found, slope + self.lift + bent
