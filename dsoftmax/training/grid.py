"""Many models, one pass: values of C times folds advance together, and every pass reads the data once for all that still run.

A fold is a part of the rows by a hash of their numbers, or of their groups. Loss and accuracy on what a fold holds out come
from the same passes. The models of all rows, one for each C, run beside those of the folds: the one that wins is trained when
the scores are known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.errors import OptionError, unknown_option
from dsoftmax.first_pass.held_out import folds
from dsoftmax.kernels.choose import choose_kernel
from dsoftmax.objective.objective import Cost, answers
from dsoftmax.solvers.protocol import Query
from dsoftmax.solvers.table import Choice, solver_entry
from dsoftmax.system.blas import one_blas_thread
from dsoftmax.training.budget import (
    first_pass,
    held_bytes,
    make_objective,
    require_room,
    resolve,
    room,
)
from dsoftmax.training.loop import advance
from dsoftmax.training.run import Record, Result, Run
from dsoftmax.training.settings import Settings
from dsoftmax.training.track import Track

Float = NDArray[np.float64]

SCORINGS = ("accuracy", "log_loss")


@dataclass(frozen=True)
class Grid:
    """What is trained: a model for every C and fold, and for every C on all rows.

    Attributes
    ----------
    Cs : (n_Cs,) float64
        Ascending.
    n_folds : int
    scoring : {"accuracy", "log_loss"}
        By which C is chosen: the largest mean accuracy over the folds, or the least mean loss.
    """

    Cs: Float
    n_folds: int = 5
    scoring: str = "accuracy"

    def check(self, Cs: str = "Cs", folds: str = "n_folds") -> None:
        """Raise unless the grid makes sense.

        Parameters
        ----------
        Cs, folds : str
            The options, as their user spells them.

        Raises
        ------
        OptionError
        """
        if len(self.Cs) == 0 or not all(C > 0 for C in self.Cs):
            raise OptionError(
                f"{Cs}={self.Cs.tolist()}; needed are positive numbers, at least one."
            )
        if len(np.unique(self.Cs)) < len(self.Cs):
            raise OptionError(f"{Cs}={self.Cs.tolist()}; needed is every value once.")
        if (
            not isinstance(self.n_folds, (int, np.integer))
            or isinstance(self.n_folds, bool)
            or self.n_folds < 2
        ):
            raise OptionError(f"{folds}={self.n_folds!r}; needed is a whole number of at least 2.")
        if self.scoring not in SCORINGS:
            raise unknown_option("scoring", self.scoring, SCORINGS)

    @property
    def models(self) -> list[tuple[int | None, float]]:
        """Fold and C of every model, in the order of the runs; the fold is None for all rows."""
        return [(fold, float(C)) for fold in (*range(self.n_folds), None) for C in self.Cs]


Watcher = Callable[[Record, Sequence[Run]], None]
"""Called after every pass; it only watches."""


@dataclass(frozen=True)
class GridResult:
    """A grid that has ended.

    Attributes
    ----------
    grid : Grid
    results : list of Result
        In the order of ``grid.models``.
    accuracy, log_loss : (n_folds, n_Cs) float64
        On the rows that each fold holds out.
    n_passes : int
        Of the whole grid, statistics included.
    history : list of Record
        The passes of this call.
    """

    grid: Grid
    results: list[Result]
    accuracy: Float
    log_loss: Float
    n_passes: int
    history: list[Record] = field(default_factory=list)

    @property
    def scores(self) -> Float:
        """What C is chosen by, larger is better, (n_folds, n_Cs)."""
        return self.accuracy if self.grid.scoring == "accuracy" else -self.log_loss

    @property
    def best(self) -> int:
        """Number of the C with the best mean score; the smallest of several."""
        return int(np.argmax(self.scores.mean(axis=0)))

    @property
    def result(self) -> Result:
        """The model of all rows with that C."""
        return self.results[self.grid.n_folds * len(self.grid.Cs) + self.best]

    @property
    def converged(self) -> bool:
        """Whether all models converged."""
        return all(one.converged for one in self.results)

    def as_dict(self) -> dict[str, Any]:
        """Return the scores in JSON types; nan, of a fold without weight, becomes None."""

        def plain(values: Float) -> list[list[float | None]]:
            return [[float(one) if np.isfinite(one) else None for one in row] for row in values]

        return {
            "C": self.grid.Cs.tolist(),
            "folds": self.grid.n_folds,
            "scoring": self.grid.scoring,
            "best_C": float(self.grid.Cs[self.best]),
            "accuracy": plain(self.accuracy),
            "log_loss": plain(self.log_loss),
            "n_passes": self.n_passes,
            "converged": self.converged,
        }

    def path(self, fold: int, number: int) -> Float:
        """Return θ of a fold and the C of this number, (K, p+1)."""
        return self.results[fold * len(self.grid.Cs) + number].model.theta


def train_grid(
    source: Source,
    engine: Engine,
    settings: Settings,
    grid: Grid,
    *,
    resume: Sequence[Run] | None = None,
    watchers: Sequence[Watcher] = (),
) -> GridResult:
    """Train all models of a grid to the tolerance; each pass is one read for all that still run.

    Parameters
    ----------
    source : Source
        With labels.
    engine : Engine
    settings : Settings
        Of every model, but for C.
    grid : Grid
    resume : sequence of Run, optional
        Go on from here; the result is bitwise that of a grid that was never interrupted.
    watchers : sequence of Watcher

    Raises
    ------
    DataError, OptionError, ReadError, MemoryLimitError, ClusterError
    """
    grid.check()
    settings.check()
    if settings.validation_fraction is not None:
        raise OptionError(
            "validation_fraction does nothing where folds are held out. Leave one of them out."
        )
    history: list[Record] = []
    helds = folds(grid.n_folds)

    def watch(tracks: Sequence[Track], cost: Cost) -> None:
        history.append(_record(grid, [track.run for track in tracks], cost, len(_running(tracks))))
        for tell in watchers:
            tell(history[-1], [track.run for track in tracks])

    with one_blas_thread():
        kernel = choose_kernel(
            settings.kernel, None if resume is None else resume[0].kernel, engine.process_limit
        )
        if resume is None:
            statistics, cost = first_pass(source, engine, settings, kernel, helds)
            choice = resolve(
                settings, statistics, room(engine.process_limit), source.resident, len(grid.models)
            )
        else:
            statistics, choice = resume[0].statistics, Choice(resume[0].solver, resume[0].why)
        entry = solver_entry(choice.solver)
        needed = held_bytes(entry, statistics, len(grid.models))
        require_room(choice, needed)
        engine.reserve(needed)
        tracks = []
        for number, (fold, C) in enumerate(grid.models):
            one = replace(settings, C=C)
            held = None if fold is None else helds[fold]
            double = entry.double if resume is None else resume[number].double
            objective = make_objective(source, engine, one, statistics, double, kernel, held, fold)
            if resume is None:
                tracks.append(Track.begin(one, objective, statistics, choice, None))
            else:
                tracks.append(Track(one, objective, resume[number]))
        if resume is None:
            watch(tracks, cost)
        advance(tracks, watch)
        _require_scores(tracks, watch)
    scored = np.array([track.run.held for track in tracks[: grid.n_folds * len(grid.Cs)]])
    loss, hits, weight = scored.reshape(grid.n_folds, len(grid.Cs), 3).transpose(2, 0, 1)
    with np.errstate(invalid="ignore"):
        accuracy, log_loss = hits / weight, loss / weight
    n_passes = max(track.run.n_passes for track in tracks)
    return GridResult(
        grid, [track.result([]) for track in tracks], accuracy, log_loss, n_passes, history
    )


def _running(tracks: Sequence[Track]) -> list[Track]:
    return [track for track in tracks if track.ending() is None]


def _require_scores(
    tracks: Sequence[Track], watch: Callable[[Sequence[Track], Cost], None]
) -> None:
    """Look once more where a model ended at its start, so that no pass has valued what it holds out."""
    missing = [
        track
        for track in tracks
        if track.objective.held is not None and not np.isfinite(track.run.held).all()
    ]
    if not missing:
        return
    queries = [Query(track.run.state.theta) for track in missing]
    found, cost = answers([track.objective for track in missing], queries)
    for track, answer in zip(missing, found, strict=True):
        assert answer.held is not None
        track.run = replace(track.run, held=answer.held, n_passes=track.run.n_passes + 1)
    watch(tracks, cost)


def _record(grid: Grid, runs: Sequence[Run], cost: Cost, running: int) -> Record:
    models: list[dict[str, Any]] = [
        {
            "fold": fold,
            "C": C,
            "iteration": run.state.n_iter,
            "objective": run.state.value,
            "gradient_max": run.gradient_max,
            "held_loss": run.held_loss,
        }
        for (fold, C), run in zip(grid.models, runs, strict=True)
    ]
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
        running,
        tuple(models),
    )
