"""The step that solvers share: a state moves to a point whose answer is known."""

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dsoftmax.solvers.protocol import Answer

S = TypeVar("S", bound=Any)


def moved(state: S, theta: NDArray[np.float64], answer: Answer, n_iter: int, **changes: Any) -> S:
    """Return the state at another point, stuck if F is not finite there.

    Parameters
    ----------
    state : frozen dataclass with the fields of `dsoftmax.solvers.protocol.State`
    theta : (K, p+1) float64
        The point.
    answer : Answer
        The answer there.
    n_iter : int
        Steps made so far.
    **changes
        Further fields that change.
    """
    found: S = replace(
        state,
        theta=theta,
        value=answer.value,
        gradient=answer.gradient,
        value_error=answer.value_error,
        n_iter=n_iter,
        stuck="" if np.isfinite(answer.value) else "F is not finite",
        **changes,
    )
    return found
