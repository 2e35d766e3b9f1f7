"""Ways to the optimum, one algorithm a file. To add one: a file, a line in the table, and `check_solver` passes.

A solver is a frozen set of hyper-parameters and three pure functions, ``start``, ``ask`` and ``tell``
(`dsoftmax.solvers.protocol.Solver`). It sees answers, never data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dsoftmax.errors import unknown_option
from dsoftmax.solvers.algebra.kronecker_sum import sum_bytes
from dsoftmax.solvers.auto import AUTO, SUM, Choice, choose
from dsoftmax.solvers.lbfgs.solver import LBFGS, LBFGSState
from dsoftmax.solvers.protocol import Problem, Sizes, Solver
from dsoftmax.solvers.proximal_newton.solver import DENSE_ENTRIES, ProximalNewton, ProximalState
from dsoftmax.solvers.reference.bohning import Bohning
from dsoftmax.solvers.reference.gradient_descent import (
    Armijo,
    DescentState,
    FixedStep,
    Nesterov,
    NesterovState,
)
from dsoftmax.solvers.reference.newton import Newton, NewtonState
from dsoftmax.solvers.reference.newton_cg import NewtonCG, NewtonCGState
from dsoftmax.solvers.surrogate.solver import Surrogate, SurrogateState, thread_bytes

__all__ = ["AUTO", "L1_SOLVER", "SOLVERS", "Choice", "Entry", "choose", "solver_entry"]


@dataclass(frozen=True)
class Entry:
    """How a solver is made, and what it wants from the first pass.

    Attributes
    ----------
    make : callable
        From the problem to the solver.
    state : type
        Of its states.
    vectors : int
        Arrays in the shape of θ (float64) that it holds at most, those of a new and of the last state included.
    matrices : int
        Arrays in the shape of the Hessian (float64) that it holds at most.
    state_matrices : int
        Those of them that belong to its state.
    matrix_entries : int, optional
        It holds them only with so many entries of θ; with any number when None.
    gram : {"", "exact", "estimate"}
        Whether the statistics should hold the Gram matrix.
    sample : bool
        Whether it needs a sample.
    double : bool
        Whether products are in float64 from the first pass: its passes are few, and F must be exact.
    l1 : bool
        Whether it can minimise an L1 penalty.
    other_bytes : callable, optional
        From the sizes of the problem to the bytes that it holds besides.
    """

    make: Callable[[Problem], Solver]
    state: type
    vectors: int
    matrices: int = 0
    state_matrices: int = 0
    matrix_entries: int | None = None
    gram: Literal["", "exact", "estimate"] = ""
    sample: bool = False
    double: bool = False
    l1: bool = False
    other_bytes: Callable[[Sizes], int] | None = None

    def held_bytes(self, sizes: Sizes, n_models: int = 1) -> int:
        """Return the bytes that `n_models` solvers and the statistics they share hold."""
        d = sizes.n_features + 1
        size = sizes.n_classes * d
        held = self.matrix_entries is None or size <= self.matrix_entries
        each = self.vectors * size + held * self.state_matrices * size**2
        shared = held * (self.matrices - self.state_matrices) * size**2
        other = 0 if self.other_bytes is None else n_models * self.other_bytes(sizes)
        gram = 3 * (d * d if sizes.gram else d)
        samples = (1 + n_models) * sizes.sample_bytes
        return 8 * (n_models * each + shared + gram) + samples + other


def _step(problem: Problem) -> float:
    return 1 / problem.curvature_bound()


SOLVERS: dict[str, Entry] = {
    "surrogate": Entry(
        Surrogate.of,
        SurrogateState,
        vectors=120,
        matrices=18,
        state_matrices=1,
        gram="estimate",
        sample=True,
        double=True,
        other_bytes=thread_bytes,
    ),
    "newton": Entry(
        Newton.of,
        NewtonState,
        vectors=60,
        matrices=18,
        state_matrices=2,
        gram="estimate",
        double=True,
    ),
    "proximal-newton": Entry(
        ProximalNewton.of,
        ProximalState,
        vectors=150,
        matrices=8,
        state_matrices=1,
        matrix_entries=DENSE_ENTRIES,
        gram="estimate",
        sample=True,
        double=True,
        l1=True,
    ),
    SUM: Entry(
        LBFGS.preconditioned_by_sum,
        LBFGSState,
        vectors=100,
        gram="estimate",
        other_bytes=lambda sizes: sum_bytes(
            sizes.n_rows, sizes.n_classes, sizes.n_features, sizes.gram
        ),
    ),
    "lbfgs-kronecker": Entry(LBFGS.preconditioned, LBFGSState, vectors=100, gram="estimate"),
    "newton-cg": Entry(NewtonCG.of, NewtonCGState, vectors=30, gram="estimate", double=True),
    "lbfgs": Entry(lambda problem: LBFGS(), LBFGSState, vectors=56),
    "gradient-descent": Entry(
        lambda problem: FixedStep(_step(problem)), DescentState, vectors=12, gram="exact"
    ),
    "gradient-descent-armijo": Entry(
        lambda problem: Armijo(_step(problem)), DescentState, vectors=12, gram="exact"
    ),
    "bohning": Entry(Bohning.of, DescentState, vectors=12, gram="exact"),
    "nesterov": Entry(
        lambda problem: Nesterov(_step(problem)), NesterovState, vectors=12, gram="exact"
    ),
}


L1_SOLVER = next(name for name, entry in SOLVERS.items() if entry.l1)
"""What "auto" is where the penalty has an L1 part."""


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
