"""The record of a pass, as history stores it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dsoftmax.objective.cost import Cost
from dsoftmax.sums.work import Done
from dsoftmax.training.grid import Grid
from dsoftmax.training.run import Run


@dataclass(frozen=True)
class Record:
    """One pass.

    The record of a grid shows the model with the largest gradient, and lists all models.

    Attributes
    ----------
    pass_ : int
        Number of the pass; 1 is the first pass, which collects statistics.
    iteration : int
        Accepted steps so far.
    objective, gradient_max : float
        F and max|∇F| at the accepted point.
    gap : float
        Estimate of F − F*: see `dsoftmax.objective.objective.Objective.gap`.
    seconds : float
        Wall time of the pass.
    rows, bytes : int
        Rows visited; decoded bytes of X.
    work : dict from str to Done
        Work of each worker in the pass, by its name. This process has the name "".
    held_loss : float
        Mean loss on the held-out rows; nan without held-out rows.
    solver : str
        Solver of the model.
    running : int
        Models of a grid that have not ended; 1 without a grid.
    models : tuple of dict
        One entry a model of a grid; empty without a grid.
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
    solver: str = ""
    running: int = 1
    models: tuple[dict[str, Any], ...] = ()

    @property
    def kept(self) -> float:
        """Part of the bytes that was cached in memory before the pass, 0 … 1."""
        return sum(self.work.values(), Done()).cached

    def as_dict(self) -> dict[str, Any]:
        """Return the record under the names of the history file: "pass" is ``pass_``."""
        return {
            "pass": self.pass_,
            "iteration": self.iteration,
            "objective": self.objective,
            "gradient_max": self.gradient_max,
            "gap": self.gap,
            "held_loss": self.held_loss,
            "solver": self.solver,
            "running": self.running,
            "seconds": self.seconds,
            "rows": self.rows,
            "bytes": self.bytes,
            "kept": self.kept,
            "work": {name: _work(done) for name, done in self.work.items()},
            **({"models": list(self.models)} if self.models else {}),
        }


def _work(done: Done) -> dict[str, Any]:
    return {
        "rows": done.rows,
        "seconds": done.seconds,
        "kept": done.cached,
        "retries": done.retries,
        "peak": done.peak,
    }


def record_pass(grid: Grid, runs: Sequence[Run], cost: Cost, running: int) -> Record:
    """Return the record of the pass that led to these runs.

    Parameters
    ----------
    grid : Grid
    runs : sequence of Run
        Run of every model, in the order of ``grid.models``.
    cost : Cost
    running : int
        Models of a grid that have not ended; 1 without a grid.
    """
    slowest = max(runs, key=lambda run: run.gradient_max)
    return Record(
        max(run.n_passes for run in runs),
        max(run.state.n_iter for run in runs),
        slowest.state.value,
        slowest.gradient_max,
        cost.seconds,
        cost.rows,
        cost.bytes,
        cost.work,
        slowest.gap,
        slowest.held_loss,
        slowest.solver,
        running,
        tuple(map(_model, grid.models, runs)) if grid.n_folds else (),
    )


def _model(member: tuple[int | None, float], run: Run) -> dict[str, Any]:
    fold, C = member
    return {
        "fold": fold,
        "C": C,
        "iteration": run.state.n_iter,
        "objective": run.state.value,
        "gradient_max": run.gradient_max,
        "held_loss": run.held_loss,
        "solver": run.solver,
    }
