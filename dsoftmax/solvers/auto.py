"""The solver of a run with solver="auto": a rule of sizes, written down."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

AUTO, SURROGATE, MATRIX_FREE, KRONECKER = "auto", "surrogate", "matrix-free", "lbfgs-kronecker"
PROXIMAL = "proximal-newton"
"""Names of solvers."""
SURROGATE_ENTRIES = 1000
"""Limit on the entries of θ for `SURROGATE`.

It factorises Hessians of a sample between passes, of up to 8 MB each.
"""
HESSIAN_BYTES = 100
"""Bytes that an entry of a Hessian occupies in a thread that sums it."""
HESSIAN_PART = 4
"""Divisor of the memory that is left, for the budget of the Hessians or Gram matrices of a pass."""
SOLVER_PART = 2
"""Divisor of the memory that is left, for the budget of the solver between passes."""
PASS_BYTES = 32 * 2**20
"""Bytes of the memory that is left which blocks and threads of a pass may need."""
MATRIX_FREE_PART = 3 / 4
"""Part of the rest that `MATRIX_FREE` may allocate. L-BFGS can do with less."""
SAMPLE_ROWS = 3
"""Rows of a useful sample per free entry of θ, unless the sample has all rows."""


@dataclass(frozen=True)
class Choice:
    """A solver and the reason for it.

    Attributes
    ----------
    solver : str
        A name in `dsoftmax.solvers.table.SOLVERS`.
    why : str
        A clause.
    otherwise : str
        The solver of a model whose rehearsal on the sample fails; empty without a rehearsal.
    """

    solver: str
    why: str
    otherwise: str = ""


def choose(
    n_features: int,
    n_classes: int,
    sample_rows: int,
    whole: bool,
    needed: Mapping[str, int],
    budget: int | None = None,
    resident: bool = False,
    l1: bool = False,
) -> Choice:
    """Return the solver for a problem.

    Parameters
    ----------
    n_features, n_classes : int
    sample_rows : int
        Rows of the sample of the first pass; 0 if there is none.
    whole : bool
        Whether the sample has all rows.
    needed : mapping from str to int
        Bytes of `SURROGATE` and of `MATRIX_FREE`.
    budget : int, optional
        Bytes that are left of the memory limit; None if there is no limit.
    resident : bool
        Whether the rows are in memory. A pass then costs less than a step on a large sample, and
        L-BFGS takes the least time on most data. On some it hardly arrives, which a rehearsal on
        the sample tells.
    l1 : bool
        Whether the penalty has an L1 part.
    """
    memory = np.inf if budget is None else budget
    allowed = memory / SOLVER_PART
    fits = needed[MATRIX_FREE] <= MATRIX_FREE_PART * (memory - PASS_BYTES)
    if l1:
        return _with_l1((n_features + 1) * n_classes, fits)

    def other(why: str) -> Choice:
        if not (sample_rows and fits):
            return Choice(KRONECKER, why)
        if not resident:
            return Choice(MATRIX_FREE, why)
        if not whole and sample_rows <= n_features:  # it tells nothing of most directions
            return Choice(KRONECKER, f"{why}; the sample has fewer rows than features")
        return Choice(KRONECKER, why, MATRIX_FREE)

    entries, free = (n_features + 1) * n_classes, (n_features + 1) * (n_classes - 1)
    if entries > SURROGATE_ENTRIES:
        large = f"θ has {entries:,} entries, more than {SURROGATE_ENTRIES:,}"
        return other(f"{large}: Hessians are too large")
    pairs, products = n_classes * (n_classes - 1) // 2, (n_features + 1) * (n_features + 2) // 2
    summed = HESSIAN_BYTES * pairs * products
    if budget is not None and (summed > budget // HESSIAN_PART or needed[SURROGATE] > allowed):
        return other(f"Hessians of {entries:,} × {entries:,} and a sample exceed the memory limit")
    if not whole and sample_rows < max(SAMPLE_ROWS * free, 1):
        small = f"the sample of {sample_rows:,} rows is too small"
        return other(f"{small} for Newton's method on it")
    few = f"θ has {entries:,} entries, no more than {SURROGATE_ENTRIES:,}"
    return Choice(SURROGATE, f"{few}: a few passes and a sample in memory")


def _with_l1(entries: int, fits: bool) -> Choice:
    """Return the solver if the penalty has an L1 part."""
    why = "the penalty has an L1 part"
    if entries <= SURROGATE_ENTRIES:
        return Choice(PROXIMAL, why)
    large = f"{why}, and θ has {entries:,} entries, more than {SURROGATE_ENTRIES:,}"
    return (
        Choice(MATRIX_FREE, large)
        if fits
        else Choice(PROXIMAL, f"{why}, and {MATRIX_FREE} exceeds the memory limit")
    )
