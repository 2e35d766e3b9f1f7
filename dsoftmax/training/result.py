"""The result of training: the models with their runs, and the scores that choose among them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.results.model import Model
from dsoftmax.training.ending import Ending
from dsoftmax.training.grid import Grid
from dsoftmax.training.record import Record
from dsoftmax.training.run import Run

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """One model that has ended.

    Attributes
    ----------
    model : Model
    run : Run
        State at the end.
    ending : Ending
    fold : int or None
        Fold that was held out; None for a model of all rows.
    C : float
        Inverse strength of the penalty.
    """

    model: Model
    run: Run
    ending: Ending
    fold: int | None
    C: float


@dataclass(frozen=True)
class Result:
    """The result of training one model, or a grid of models.

    Attributes
    ----------
    grid : Grid
        `Grid.single` for one model.
    models : tuple of Trained
        All models, in the order of ``grid.models``.
    history : list of Record
        Passes of this call.
    own : (n_folds, n_Cs) float64, optional
        Scores by the function ``grid.scoring``; None if that is a name.
    """

    grid: Grid
    models: tuple[Trained, ...]
    history: Sequence[Record] = field(default_factory=list)
    own: Float | None = None

    @cached_property
    def best(self) -> Trained:
        """The model of all rows with the best mean score; with the smallest C of equal ones."""
        n_folds = self.grid.n_folds
        number = int(np.argmax(self.scores.mean(axis=0))) if n_folds else 0
        return self.models[n_folds * len(self.grid.Cs) + number]

    @property
    def model(self) -> Model:
        """Coefficients of the best model."""
        return self.best.model

    @property
    def run(self) -> Run:
        """State of the best model at the end."""
        return self.best.run

    @property
    def ending(self) -> Ending:
        """Ending of the best model."""
        return self.best.ending

    @property
    def status(self) -> str:
        """Ending of the best model, a sentence."""
        return self.ending.sentence

    @property
    def converged(self) -> bool:
        """Whether all models converged."""
        return all(one.ending.converged for one in self.models)

    @property
    def n_passes(self) -> int:
        """Passes of all models together; the first pass counts."""
        return max(one.run.n_passes for one in self.models)

    @cached_property
    def accuracy(self) -> Float:
        """Accuracy on the rows that each fold holds out, (n_folds, n_Cs)."""
        return self._held_out(1)

    @cached_property
    def log_loss(self) -> Float:
        """Mean loss on the rows that each fold holds out, (n_folds, n_Cs)."""
        return self._held_out(0)

    def _held_out(self, which: int) -> Float:
        shape = (self.grid.n_folds, len(self.grid.Cs))
        sums = np.array([one.run.held for one in self.models[: shape[0] * shape[1]]]).reshape(-1, 3)
        with np.errstate(invalid="ignore"):
            return (sums[:, which] / sums[:, 2]).reshape(shape)

    @property
    def scores(self) -> Float:
        """Scores that choose C, (n_folds, n_Cs): larger is better."""
        if self.own is not None:
            return self.own
        return self.accuracy if self.grid.scoring == "accuracy" else -self.log_loss

    def of_fold(self, fold: int, number: int) -> Trained:
        """Return the model that holds out a fold, with the C of this number."""
        return self.models[fold * len(self.grid.Cs) + number]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores in JSON types: a fold without weight has None in place of nan."""

        def plain(values: Float) -> list[list[float | None]]:
            return [[float(one) if np.isfinite(one) else None for one in row] for row in values]

        return {
            "C": self.grid.Cs.tolist(),
            "folds": self.grid.n_folds,
            "scoring": self.grid.scoring,
            "best_C": self.best.C,
            "accuracy": plain(self.accuracy),
            "log_loss": plain(self.log_loss),
            "n_passes": self.n_passes,
            "converged": self.converged,
        }
