"""The state of a run by Newton's method with a trust region."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.protocol import NoDecrement

Float = NDArray[np.float64]


@dataclass(frozen=True)
class NewtonState(NoDecrement):
    """State of `dsoftmax.solvers.reference.newton.Newton`.

    See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    hessian : (K·(p+1), K·(p+1)) float64
        ∇²F at θ, or its estimate.
    exact : bool
        Whether it is ∇²F.
    places, known : (n, K, p+1) and (n, K·(p+1), K·(p+1)) float64, n ≤ 2
        The last points with an exact Hessian, and these Hessians.
    radius : float
        Likely best radius.
    trials : (m, K, p+1) float64
        Points of the next query.
    promised, lengths : (m,) float64
        Fall of the quadratic to each trial, and its distance in the metric.
    refused : int
        Passes since the last step. After a refusal the next pass finds the Hessian at θ, unless
        it is exact.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    hessian: Float
    exact: bool
    places: Float
    known: Float
    radius: float
    trials: Float
    promised: Float
    lengths: Float
    refused: int

    @property
    def here(self) -> bool:
        """Whether the next pass finds the Hessian at θ."""
        return bool(np.isnan(self.value)) or (self.refused > 0 and not self.exact)
