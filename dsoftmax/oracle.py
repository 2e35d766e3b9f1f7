"""What a solver may ask, and what one pass over the data says."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Query:
    """A question that one pass answers.

    Attributes
    ----------
    theta : (K, p+1) float64
        Where to look.
    direction : (K, p+1) float64, optional
        Ask for the product of the Hessian at ``theta`` with it.
    hessian : bool
        Ask for the Hessian at ``theta``.
    """

    theta: Float
    direction: Float | None = None
    hessian: bool = False


@dataclass(frozen=True)
class Answer:
    """What a pass found, in the scale of the objective F.

    Attributes
    ----------
    value : float
        F at the point.
    gradient : (K, p+1) float64
        ∇F; zero where a parameter is not free.
    value_error : float
        Differences of F below this are rounding.
    product : (K, p+1) float64, optional
        ∇²F · direction, where it was asked for.
    hessian : (K·(p+1), K·(p+1)) float64, optional
        ∇²F, where it was asked for.
    """

    value: float
    gradient: Float
    value_error: float = 0.0
    product: Float | None = None
    hessian: Float | None = None


class State(Protocol):
    """All of a run that evolves: frozen, complete, saved after any pass.

    Attributes
    ----------
    theta : (K, p+1) float64
        The best point so far, which the run would return now.
    value : float
        F there; nan before the first answer.
    gradient : (K, p+1) float64
        ∇F there.
    n_iter : int
        Accepted steps.
    stuck : str
        A sentence when the solver cannot go on, else empty.
    """

    @property
    def theta(self) -> Float: ...
    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Float: ...
    @property
    def n_iter(self) -> int: ...
    @property
    def stuck(self) -> str: ...


class Solver(Protocol):
    """Frozen hyper-parameters and three pure functions of the solver's own kind of `State`."""

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> Any:
        """Return the first state at ``theta``; with its answer where that is known without a pass."""

    def ask(self, state: Any) -> Query:
        """Return what the next pass should answer."""

    def tell(self, state: Any, answer: Answer) -> Any:
        """Return the state after the answer to ``ask(state)``."""
