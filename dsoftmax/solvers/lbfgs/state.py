"""The state of a run by L-BFGS."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.algebra.kronecker_sum import KroneckerSum
from dsoftmax.solvers.algebra.line_search import Search
from dsoftmax.solvers.lbfgs.pairs import Pairs
from dsoftmax.solvers.protocol import NoDecrement

Float = NDArray[np.float64]

SHARED = "_curvature"
"""Name under which a state remembers its `KroneckerSum`.

It is no field: a checkpoint leaves it out.
"""


@dataclass(frozen=True)
class LBFGSState(NoDecrement):
    """State of `dsoftmax.solvers.lbfgs.solver.LBFGS`.

    See `dsoftmax.solvers.protocol.State` for the common fields.

    Attributes
    ----------
    pairs : Pairs
        The memory.
    moments : (K, K) float64
        A at θ; of shape (0, 0) without a preconditioner.
    group_moments : (groups, K, K) float64
    group_grams : (groups, (p+1)·(p+2)/2) float32
        A_g and G_g of the newest point at which they were asked for; of no groups before.
    direction : (K, p+1) float64
        Direction of the line search.
    search : Search
    """

    theta: Float
    value: float
    gradient: Float
    value_error: float
    n_iter: int
    stuck: str
    pairs: Pairs
    moments: Float
    group_moments: Float
    group_grams: NDArray[np.float32]
    direction: Float
    search: Search

    def curvature(self, kronecker: Kronecker) -> KroneckerSum:
        """Return Σ A_g ⊗ G_g + λI, with the λ and the free entries of ``kronecker``.

        The states that `changed` makes of this one share the sum, which is factorised once.
        """
        found: KroneckerSum | None = self.__dict__.get(SHARED)
        if found is None:
            found = KroneckerSum(
                self.group_moments, self.group_grams, kronecker.penalty, kronecker.free
            )
            self.__dict__[SHARED] = found  # as functools.cached_property does
        return found

    def changed(self, **changes: Any) -> "LBFGSState":
        """Return this state with other values in some fields."""
        found = replace(self, **changes)
        if SHARED in self.__dict__ and found.group_grams is self.group_grams:
            found.__dict__[SHARED] = self.__dict__[SHARED]
        return found
