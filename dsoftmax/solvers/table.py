"""The solvers by name. To add one: a folder, a line in `SOLVERS`, and `check_solver` passes.

A solver is a frozen set of hyper-parameters and three pure functions, ``start``, ``ask`` and
``tell`` (`dsoftmax.solvers.protocol.Solver`). It sees answers, never data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dsoftmax.errors import unknown_option
from dsoftmax.solvers.auto import (
    AUTO,
    KRONECKER,
    MATRIX_FREE,
    PROXIMAL,
    SURROGATE,
    Choice,
    choose,
)
from dsoftmax.solvers.lbfgs import solver as lbfgs
from dsoftmax.solvers.lbfgs.state import LBFGSState
from dsoftmax.solvers.matrix_free import solver as matrix_free
from dsoftmax.solvers.matrix_free.state import MatrixFreeState
from dsoftmax.solvers.protocol import Allocation, Problem, Sizes, Solver
from dsoftmax.solvers.proximal_newton import solver as proximal_newton
from dsoftmax.solvers.proximal_newton.state import ProximalState
from dsoftmax.solvers.reference import bohning, gradient_descent, newton
from dsoftmax.solvers.reference.newton_state import NewtonState
from dsoftmax.solvers.surrogate import solver as surrogate
from dsoftmax.solvers.surrogate.state import SurrogateState

__all__ = ["AUTO", "SOLVERS", "Choice", "Entry", "choose", "solver_entry"]


@dataclass(frozen=True)
class Entry:
    """A solver, and its wishes for the first pass.

    Attributes
    ----------
    make : callable
        Map from the problem to the solver.
    state : type
        Type of its states.
    footprint : callable
        Map from the sizes of a problem to the bytes of the solver.
    gram : {"", "exact", "estimate"}
        Gram matrix that the statistics should have: none, one of all rows, or one of a part of
        the rows.
    sample : bool
        Whether it needs a sample.
    double : bool
        Whether products are in float64 from the first pass on: its passes are few, and F must be
        exact.
    l1 : bool
        Whether it can minimise an L1 penalty.
    reference : bool
        Whether it serves to judge other solvers; "auto" never chooses it.
    """

    make: Callable[[Problem], Solver]
    state: type
    footprint: Callable[[Sizes], Allocation]
    gram: Literal["", "exact", "estimate"] = ""
    sample: bool = False
    double: bool = False
    l1: bool = False
    reference: bool = False

    def n_bytes(self, sizes: Sizes, n_models: int = 1) -> int:
        """Return the bytes of `n_models` solvers and of the statistics that they share.

        The statistics have class sums, a Gram matrix and a sample. Each model has its own problem
        and an estimate of F − F*, with three Gram matrices in all. The estimate is made when the
        step's scratch is free again.
        """
        solver = self.footprint(sizes)
        statistics = sizes.vector + sizes.gram_matrix + sizes.stored_bytes
        problem = 2 * sizes.vector + 3 * sizes.gram_matrix + sizes.moments
        estimate = 4 * sizes.vector + sizes.gram_matrix + 5 * sizes.moments
        scratch = max(solver.shared, estimate)
        return statistics + n_models * (problem + solver.per_model) + scratch


SOLVERS: dict[str, Entry] = {
    SURROGATE: Entry(
        surrogate.Surrogate.of,
        SurrogateState,
        surrogate.footprint,
        gram="estimate",
        sample=True,
        double=True,
    ),
    MATRIX_FREE: Entry(
        matrix_free.MatrixFree.of,
        MatrixFreeState,
        matrix_free.footprint,
        gram="estimate",
        sample=True,
        double=True,
        l1=True,
    ),
    PROXIMAL: Entry(
        proximal_newton.ProximalNewton.of,
        ProximalState,
        proximal_newton.footprint,
        gram="estimate",
        sample=True,
        double=True,
        l1=True,
    ),
    KRONECKER: Entry(
        lbfgs.LBFGS.preconditioned, LBFGSState, lbfgs.preconditioned_footprint, gram="estimate"
    ),
    "newton": Entry(
        newton.Newton.of,
        NewtonState,
        newton.footprint,
        gram="estimate",
        double=True,
        reference=True,
    ),
    "lbfgs": Entry(lbfgs.LBFGS.plain, LBFGSState, lbfgs.plain_footprint, reference=True),
    "bohning": Entry(
        bohning.Bohning.of,
        gradient_descent.DescentState,
        bohning.footprint,
        gram="exact",
        reference=True,
    ),
    "gradient-descent": Entry(
        gradient_descent.GradientDescent.of,
        gradient_descent.DescentState,
        gradient_descent.footprint,
        gram="exact",
        reference=True,
    ),
}
"""The solvers that "auto" chooses from, then the references."""


def solver_entry(name: str) -> Entry:
    """Return the table's line for a solver.

    Raises
    ------
    OptionError
        The name is unknown.
    """
    if name not in SOLVERS:
        raise unknown_option("solver", name, (AUTO, *SOLVERS))
    return SOLVERS[name]
