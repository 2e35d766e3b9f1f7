"""The state of a run on the surrogate without matrices."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class MatrixFreeState:
    """State of `dsoftmax.solvers.matrix_free.solver.MatrixFree`.

    See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    slope : (K, p+1) float64
        Gradient of the smooth part of F. ``gradient`` is the subgradient of least norm, and equal
        to it without an L1 part.
    trials : (m, K, p+1) float64
        Points of the query that waits for its answer.
    dampings : (m,) float64
        Factor of μ of the surrogate whose minimum each trial is; nan for the sample's own F.
    promised : (m,) float64
        Fall of that surrogate to the trial.
    cut_short : (m,) bool
        Whether the budget ended the minimisation that led to each trial.
    steps, lacks : (n, K, p+1) float64
        δ of earlier points, and the change of ∇F there less that of the sample's ∇f.
    damping : float
        μ.
    budget : int
        Gradients of the sample for each minimisation.
    single : bool
        Whether the sample's products are in float32, if its values allow it.
    refused : int
        Passes since the last step.
    decrement : float
        Estimate of F − F* if F has an L1 part, else nan.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    slope: Float
    trials: Float
    dampings: Float
    promised: Float
    cut_short: NDArray[np.bool_]
    steps: Float
    lacks: Float
    damping: float
    budget: int
    single: bool = True
    refused: int = 0
    decrement: float = np.nan

    @classmethod
    def begin(cls, theta: Float, n_iter: int, damping: float, budget: int) -> "MatrixFreeState":
        """Return the state before the first answer."""
        zero = np.zeros_like(theta)
        none, no_numbers = np.zeros((0, *theta.shape)), np.zeros(0)
        return cls(
            theta, np.nan, zero, 0.0, n_iter, "", zero, none, no_numbers, no_numbers,
            np.zeros(0, bool), none, none, damping, budget,
        )  # fmt: skip

    def at_rest(self) -> "MatrixFreeState":
        """Return the state without its trials, which are answered."""
        return replace(
            self,
            trials=self.trials[:0],
            dampings=self.dampings[:0],
            promised=self.promised[:0],
            cut_short=self.cut_short[:0],
        )
