"""The state of a run on a surrogate."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.protocol import NoDecrement

Float = NDArray[np.float64]


@dataclass(frozen=True)
class SurrogateState(NoDecrement):
    """State of `dsoftmax.solvers.surrogate.solver.Surrogate`.

    See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    trials : (m, K, p+1) float64
        Points of the query that waits for its answer. The Hessian is asked for at the first one,
        which is θ itself after a refusal.
    promised : (m,) float64
        Fall of the surrogate to each trial.
    dampings : (m,) float64
        μ of each trial.
    damping : float
        Least μ to try next.
    trusted : bool
        Whether the last step gained what was promised.
    correction : (K·(p+1), K·(p+1)) float64
        Exact part of C; of shape (0, 0) while it is zero.
    steps, lacks : (n, K, p+1) float64
        δ of earlier points. Each lack is the change of ∇F there, less that of ∇f + C·δ.
    refused : int
        Passes since the last step.
    exact : bool
        Whether the Hessian at θ is known.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    trials: Float
    promised: Float
    dampings: Float
    damping: float
    trusted: bool
    correction: Float
    steps: Float
    lacks: Float
    refused: int
    exact: bool = False

    @classmethod
    def begin(cls, theta: Float, n_iter: int) -> "SurrogateState":
        """Return the state before the first answer."""
        none, no_numbers = np.zeros((0, *theta.shape)), np.zeros(0)
        return cls(
            theta, np.nan, np.zeros_like(theta), 0.0, n_iter, "", none, no_numbers, no_numbers, 0.0,
            False, np.zeros((0, 0)), none, none, 0,
        )  # fmt: skip

    def at_rest(self) -> "SurrogateState":
        """Return the state without its trials, which are answered."""
        return replace(
            self, trials=self.trials[:0], promised=self.promised[:0], dampings=self.dampings[:0]
        )
