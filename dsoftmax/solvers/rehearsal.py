"""A rehearsal: a solver's run on the sample in memory, before its first pass over the data.

L-BFGS arrives after some thirty passes on most data. On data with heavy tails or tiny classes it
hardly arrives at all. The sample shows which data these are. A rehearsal costs less than the passes
that it saves: if it succeeds, the run goes on from its end with its pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.auto import Choice
from dsoftmax.solvers.lbfgs.solver import LBFGS
from dsoftmax.solvers.lbfgs.state import LBFGSState
from dsoftmax.solvers.protocol import Answer, Problem

Float = NDArray[np.float64]

MOST_GRADIENTS = 40
"""Gradients of the sample after which a rehearsal has failed."""
REFRESHES = frozenset((2, 4, 8, 16, 32))
"""Gradients with which the moments are found anew, which costs as much as a gradient."""
ARRIVED = 1e-4
"""Estimate of f − f*, as a fraction of f, at which a rehearsal has succeeded; f is F on the sample.

Sets on which L-BFGS takes fewer passes than a surrogate arrive after 11 to 25 gradients. The others
are at 3e-4 or more after 40.
"""


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found.

    Attributes
    ----------
    state : LBFGSState
        State to go on from: the last point, which no pass has visited, with the sample's pairs.
    n_gradients : int
        Gradients of the sample spent.
    arrived : bool
        Whether it found the minimum of F on the sample.
    """

    state: LBFGSState
    n_gradients: int
    arrived: bool

    def settle(self, choice: Choice) -> Choice:
        """Return the solver to go on with, and the reason for it."""
        if self.arrived:
            found = f"L-BFGS takes {self.n_gradients} gradients on the sample"
            return Choice(choice.solver, f"{choice.why}; {found}")
        missed = f"L-BFGS does not arrive on the sample in {self.n_gradients} gradients"
        return Choice(choice.otherwise, f"{choice.why}; {missed}")


def rehearse(
    problem: Problem,
    theta: Float,
    single: bool,
    tol: float,
    error: Callable[[float, Float], float],
) -> Rehearsal:
    """Return the result of preconditioned L-BFGS on the sample from a point.

    Parameters
    ----------
    problem : Problem
        It has a sample.
    theta : (K, p+1) float64
        Start.
    single : bool
        Whether products are in float32, if that holds the stored values.
    tol : float
        Tolerance of the run: a rehearsal as close as this has arrived too.
    error : callable
        Map from F and θ to the rounding of F.

    Notes
    -----
    Work at most `MOST_GRADIENTS` gradients of the sample, and the moments of `REFRESHES`. Memory
    that of the solver.
    """
    local, solver = problem.local, LBFGS.preconditioned(problem)
    assert local is not None
    state, spent, arrived = solver.start(theta, None), 0, False
    while spent < MOST_GRADIENTS and not (arrived or state.stuck):
        state, query = solver.ask(state)
        value, gradient = local.on_threads(query.theta, single)
        spent += 1
        moments = local.moments(query.theta) if spent in REFRESHES else None
        answer = Answer(value, gradient, error(value, query.theta), moments=moments)
        state = solver.tell(state, answer)
        arrived = state.decrement <= max(ARRIVED * state.value, tol)
    following = replace(solver.start(state.theta, None), pairs=state.pairs)
    return Rehearsal(following, spent, arrived)
