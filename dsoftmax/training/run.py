"""The state of a run, and the record of a pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.results.model import Model
from dsoftmax.sums.work import Done

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Record:
    """One pass, as history keeps it.

    Attributes
    ----------
    pass_ : int
        1 is the statistics pass.
    iteration : int
        Accepted steps so far.
    objective, gradient_max : float
        F and max|∇F| at the accepted point.
    gap : float
        An estimate of F − F*: see `dsoftmax.objective.objective.Objective.gap`.
    seconds : float
        Of the pass.
    rows, bytes : int
        Visited; bytes of X, decoded.
    work : dict from str to Done
        What each worker did of it, by its name; this process has the name "".
    held_loss : float
        Mean loss on the rows that are held out; nan where none are.
    running : int
        Models that go on.
    models : tuple of dict
        What is recorded of each, where many models share the passes.
    """

    pass_: int
    iteration: int
    objective: float
    gradient_max: float
    seconds: float
    rows: int
    bytes: int
    work: Mapping[str, Done] = field(default_factory=dict)
    gap: float = np.nan
    held_loss: float = np.nan
    running: int = 1
    models: tuple[dict[str, Any], ...] = ()

    @property
    def kept(self) -> float:
        """The part of the bytes that was in memory already, 0 … 1."""
        return sum(self.work.values(), Done()).kept

    def as_dict(self) -> dict[str, Any]:
        """Return the record with the names that history uses: "pass" for ``pass_``."""
        return {
            "pass": self.pass_,
            "iteration": self.iteration,
            "objective": self.objective,
            "gradient_max": self.gradient_max,
            "gap": self.gap,
            "held_loss": self.held_loss,
            "running": self.running,
            "seconds": self.seconds,
            "rows": self.rows,
            "bytes": self.bytes,
            "kept": self.kept,
            "work": {
                name: {
                    "rows": done.rows,
                    "seconds": done.seconds,
                    "kept": done.kept,
                    "retries": done.retries,
                    "peak": done.peak,
                }
                for name, done in self.work.items()
            },
            **({"models": list(self.models)} if self.models else {}),
        }


@dataclass(frozen=True)
class Run:
    """All of a run that evolves.

    Attributes
    ----------
    statistics : Statistics
        Of all rows.
    state : State
        The solver's.
    n_passes : int
        Statistics included.
    double : bool
        Whether products are in float64, from the beginning or because float32 could not go on.
    kernel : str
        What computes value and gradient: a name in `dsoftmax.kernels.choose.KERNELS`.
    solver : str
        A name in `dsoftmax.solvers.table.SOLVERS`: what "auto" became.
    why : str
        Why it was chosen, a clause.
    gap : float
        An estimate of F − F*.
    held : (3,) float64
        Of the rows that are held out: loss, weight of the hits, weight; nan where none are.
    best : (K, p+1) float64
        Where the loss on the held-out rows was least; of shape (0, 0) where none are held out.
    best_loss : float
        The mean loss there.
    since : int
        Iterations since then.
    """

    statistics: Statistics
    state: Any
    n_passes: int
    double: bool
    kernel: str
    solver: str
    why: str = ""
    gap: float = np.nan
    held: Float = field(default_factory=lambda: np.full(3, np.nan))
    best: Float = field(default_factory=lambda: np.zeros((0, 0)))
    best_loss: float = np.inf
    since: int = 0

    @property
    def gradient_max(self) -> float:
        return float(np.abs(self.state.gradient).max())

    @property
    def held_loss(self) -> float:
        """Mean loss on the rows that are held out; nan where none are."""
        return float(self.held[0] / self.held[2]) if self.held[2] > 0 else np.nan


Watcher = Callable[[Record, Run], None]
"""Called after every pass; it only watches."""


@dataclass(frozen=True)
class Result:
    """A run that has ended.

    Attributes
    ----------
    model : Model
    run : Run
    status : str
        A sentence.
    converged : bool
    history : list of Record
        The passes of this call.
    """

    model: Model
    run: Run
    status: str
    converged: bool
    history: list[Record] = field(default_factory=list)
