"""L-BFGS whose first matrix is the inverse of A ⊗ diag G: what scaling each feature achieves."""

from dataclasses import replace

import numpy as np

from dsoftmax.solvers.algebra.kronecker import Kronecker
from dsoftmax.solvers.lbfgs.solver import LBFGS, PRECONDITIONED_PAIRS, preconditioned_footprint
from dsoftmax.solvers.lbfgs.state import LBFGSState
from dsoftmax.solvers.protocol import Problem
from dsoftmax.solvers.table import Entry

NAME = "lbfgs-diagonal"


def of(problem: Problem) -> LBFGS:
    """Return the solver of a problem."""
    scales = problem.gram if problem.gram.ndim == 1 else np.diag(problem.gram).copy()
    kronecker = Kronecker.of(replace(problem, gram=scales))
    return LBFGS(PRECONDITIONED_PAIRS, kronecker, problem.moments)


ENTRY = Entry(of, LBFGSState, preconditioned_footprint, gram="estimate", reference=True)
"""Its line in the table of solvers, which benchmarks and tests add for themselves."""
