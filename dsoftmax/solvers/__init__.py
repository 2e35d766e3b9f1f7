"""Ways to the optimum, one algorithm a file. To add one: a file, a line in the table, and `check_solver` passes.

A solver is a frozen set of hyper-parameters and three pure functions, ``start``, ``ask`` and ``tell``
(`dsoftmax.oracle.Solver`). It sees answers, never data.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dsoftmax.errors import unknown_option
from dsoftmax.oracle import Solver
from dsoftmax.solvers.gradient_descent import Armijo, FixedStep, Nesterov
from dsoftmax.solvers.lbfgs import LBFGS


@dataclass(frozen=True)
class Entry:
    """How a solver is made, and what it wants from the first pass.

    Attributes
    ----------
    make : callable
        From a function that returns L ≥ λmax(∇²F) to the solver.
    vectors : int
        Arrays in the shape of θ (float64) that it holds at most, those of a new and of the last state included.
    gram : bool
        Whether the statistics should hold the Gram matrix.
    """

    make: Callable[[Callable[[], float]], Solver]
    vectors: int
    gram: bool = False


SOLVERS: dict[str, Entry] = {
    "lbfgs": Entry(lambda bound: LBFGS(), vectors=56),
    "gradient-descent": Entry(lambda bound: FixedStep(1 / bound()), vectors=12, gram=True),
    "gradient-descent-armijo": Entry(lambda bound: Armijo(1 / bound()), vectors=12, gram=True),
    "nesterov": Entry(lambda bound: Nesterov(1 / bound()), vectors=12, gram=True),
}


def solver_entry(name: str) -> Entry:
    """Return the table's line for a solver.

    Raises
    ------
    OptionError
        The name is unknown.
    """
    if name not in SOLVERS:
        raise unknown_option("solver", name, SOLVERS)
    return SOLVERS[name]
