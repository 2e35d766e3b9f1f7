"""A grid of models: values of C times folds, and for every C a model of all rows.

A fold is a part of the rows, by a hash of their numbers or of their groups, or by a column of fold
numbers. All models advance together: every pass reads the data once for all models that have not
ended. Loss and accuracy on the rows that a fold holds out come from the same passes. The models of
all rows run beside those of the folds, so that the best one is trained when the scores are known.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OptionError, unknown_option

SCORINGS = ("accuracy", "log_loss")


@dataclass(frozen=True)
class Grid:
    """The models to train: one for every C and fold, and one for every C on all rows.

    Attributes
    ----------
    Cs : (n_Cs,) float64
        Values of C, ascending.
    n_folds : int
        Number of folds; 0 for models of all rows alone.
    scoring : {"accuracy", "log_loss"} or callable
        Score that chooses C: the largest mean accuracy over the folds, the least mean loss, or the
        largest mean of a function: see `dsoftmax.training.own_scores`.
    given : bool
        Whether the groups of the rows are the numbers of their folds, from 0; -1 for rows that no
        fold holds out.
    """

    Cs: NDArray[np.float64]
    n_folds: int = 5
    scoring: Any = "accuracy"
    given: bool = False

    @classmethod
    def single(cls, C: float) -> "Grid":
        """Return the grid of one model, on all rows."""
        return cls(np.array([C], np.float64), 0)

    def check(self, Cs: str = "Cs", folds: str = "n_folds") -> None:
        """Raise unless the grid makes sense.

        Parameters
        ----------
        Cs, folds : str
            Names of the options, as their user spells them.

        Raises
        ------
        OptionError
        """
        values = self.Cs.tolist()
        if len(values) == 0 or not all(C > 0 for C in values):
            raise OptionError(f"{Cs}={values}; expected positive numbers, at least one.")
        if len(np.unique(self.Cs)) < len(values):
            raise OptionError(f"{Cs}={values}; the values must be distinct.")
        whole = isinstance(self.n_folds, (int, np.integer)) and not isinstance(self.n_folds, bool)
        if not whole or self.n_folds < 2:
            raise OptionError(
                f"{folds}={self.n_folds!r}; expected a whole number that is at least 2."
            )
        if not callable(self.scoring) and self.scoring not in SCORINGS:
            raise unknown_option("scoring", self.scoring, SCORINGS)

    @property
    def models(self) -> list[tuple[int | None, float]]:
        """Fold and C of every model, in the order of training; the fold is None for all rows."""
        return [(fold, float(C)) for fold in (*range(self.n_folds), None) for C in self.Cs]
