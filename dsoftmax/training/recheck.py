"""The check that a resumed run reads the data that it began with.

Sums are exact, so ∇F at a point has the same bits as long as no row changes. The first pass
after a checkpoint computes it once more at the accepted point, as one of its trials. It reads
nothing for it.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import RunMismatchError
from dsoftmax.solvers.protocol import Answer, Query

CLOSE = 1e-3
"""Most relative difference at the start of a run, whose F and ∇F no pass has computed."""


def with_trial(query: Query, theta: NDArray[np.float64]) -> Query:
    """Return a query with one more trial, the last one."""
    given = query.trials if query.trials is not None else np.zeros((0, *theta.shape))
    return replace(query, trials=np.concatenate([given, theta[None]]))


def without_trial(query: Query, answer: Answer) -> tuple[Query, Answer, Answer]:
    """Return a query and its answer without the last trial, and the answer to that trial."""
    assert query.trials is not None
    *others, last = answer.trials
    trials = query.trials[:-1] if others else None
    return replace(query, trials=trials), replace(answer, trials=tuple(others)), last


def require_same_data(state: Any, again: Answer) -> None:
    """Raise unless ∇F at the accepted point is that of the checkpoint.

    Before the first step F and ∇F are those of the sums of the first pass. They have other bits.

    Raises
    ------
    RunMismatchError
    """
    before = getattr(state, "slope", state.gradient)  # an L1 part adds to the gradient
    difference = float(np.abs(again.gradient - before).max())
    allowed = 0.0 if state.n_iter else CLOSE * float(np.abs(before).max())
    if not difference <= allowed:
        raise RunMismatchError(
            f"∇F at the point of the checkpoint is another than before, by up to {difference:.2g}; "
            "expected the same bits. Rows, labels or weights have changed since the run began. "
            "Restore them, or pass another --out, or --overwrite to begin anew with the data as "
            "they are."
        )
