"""The state of a run by proximal Newton."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ProximalState:
    """State of `dsoftmax.solvers.proximal_newton.solver.ProximalNewton`.

    See `dsoftmax.solvers.protocol.State` for the common fields. ``value`` contains the L1 part,
    and ``gradient`` is the minimum-norm subgradient.

    Attributes
    ----------
    slope : (K, p+1) float64
        Gradient of the smooth part.
    moments : (K, K) float64
        A at θ.
    trial : (K, p+1) float64
        Point of the next query.
    promised : float
        ⟨slope, δ⟩ + the change of the L1 part: negative.
    damping : float
        μ.
    blend : float
        ω.
    steps, lacks : (n, K, p+1) float64, n ≤ `PAIRS` of the solver
        δ of earlier trials. Each lack is the change of the gradient there, less that of the sample.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    slope: Float
    moments: Float
    trial: Float
    promised: float
    damping: float
    blend: float
    steps: Float
    lacks: Float

    @property
    def decrement(self) -> float:
        """Estimate of F − F*: half of the promised fall, as the Newton decrement of a smooth F."""
        return -0.5 * self.promised if np.isfinite(self.value) else np.nan
