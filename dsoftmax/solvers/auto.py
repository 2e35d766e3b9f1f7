"""Which solver a run takes when it is left to choose: a rule of sizes, written down."""

from dataclasses import dataclass

from dsoftmax.solvers.algebra.kronecker_sum import n_groups, sum_bytes

AUTO, SURROGATE, SUM = "auto", "surrogate", "lbfgs-kronecker-sum"
SURROGATE_ENTRIES = 1000
"""With no more entries of θ than this, Hessians of a sample are factorised between passes."""
HESSIAN_BYTES, HESSIAN_PART = 100, 4
"""What an entry of a Hessian takes in a thread that sums it (bytes); all may take one part in so many of the memory that is left."""
HELD_PART = 2
"""What a solver holds between passes may take one part in so many of the memory that is left."""
SAMPLE_ROWS = 3
"""Rows of the sample for each free entry of θ that make it worth it, unless it holds all rows."""


@dataclass(frozen=True)
class Choice:
    """A solver and why.

    Attributes
    ----------
    solver : str
        A name in `dsoftmax.solvers.table.SOLVERS`.
    why : str
        A clause.
    """

    solver: str
    why: str


def choose(
    n_rows: int,
    n_features: int,
    n_classes: int,
    sample_rows: int,
    whole: bool,
    gram: bool,
    needed: int,
    room: int | None = None,
    resident: bool = False,
) -> Choice:
    """Return the solver for a problem.

    Parameters
    ----------
    n_rows, n_features, n_classes : int
    sample_rows : int
        Of the sample of the first pass; 0 where there is none.
    whole : bool
        Whether it holds all rows.
    gram : bool
        Whether the Gram matrix is known, and not its diagonal alone.
    needed : int
        Bytes that `SURROGATE` would hold.
    room : int, optional
        Bytes that are left of the memory allowed.
    resident : bool
        Whether the rows lie in memory: passes then cost little beside those that find the curvatures of a sum.
    """
    other = "lbfgs-kronecker"
    fits = room is None or sum_bytes(n_rows, n_classes, n_features) <= room // HESSIAN_PART
    if gram and n_groups(n_rows, n_classes, n_features) > 1 and fits and not resident:
        other = SUM
    entries, free = (n_features + 1) * n_classes, (n_features + 1) * (n_classes - 1)
    enough = whole or sample_rows >= max(SAMPLE_ROWS * free, 1)
    pairs, products = n_classes * (n_classes - 1) // 2, (n_features + 1) * (n_features + 2) // 2
    summed = HESSIAN_BYTES * pairs * products
    tight = room is not None and (summed > room // HESSIAN_PART or needed > room // HELD_PART)
    if entries <= SURROGATE_ENTRIES and tight:
        return Choice(
            other,
            f"Hessians of {entries:,} × {entries:,} and a sample do not fit well in the memory allowed",
        )
    if entries <= SURROGATE_ENTRIES and enough:
        return Choice(
            SURROGATE,
            f"θ has {entries:,} entries, no more than {SURROGATE_ENTRIES:,}: a few passes and a sample in memory",
        )
    if entries <= SURROGATE_ENTRIES:
        why = f"the sample of {sample_rows:,} rows is too small for Newton's method on it"
    else:
        why = f"θ has {entries:,} entries, more than {SURROGATE_ENTRIES:,}: Hessians are too large"
    return Choice(other, why)
