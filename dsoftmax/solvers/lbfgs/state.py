"""The state of a run by L-BFGS."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.line_search import Search
from dsoftmax.solvers.algebra.pairs import Pairs

Float = NDArray[np.float64]


@dataclass(frozen=True)
class LBFGSState:
    """State of `dsoftmax.solvers.lbfgs.solver.LBFGS`.

    See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    pairs : Pairs
        The memory.
    moments : (K, K) or (K,) float64
        A at θ or its diagonal; of shape (0, 0) without a preconditioner.
    direction : (K, p+1) float64
        Direction of the line search.
    search : Search
    decrement : float
        Half the Newton decrement at θ, by A ⊗ G + λI in place of the Hessian; nan without a
        preconditioner.
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    pairs: Pairs
    moments: Float
    direction: Float
    search: Search
    decrement: float = np.nan
