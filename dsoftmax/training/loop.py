"""The run: a loop of passes that asks solvers, answers from the data, and lets watchers see."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.source import Source
from dsoftmax.data.validation import with_validation
from dsoftmax.engines.base import Engine
from dsoftmax.errors import OptionError
from dsoftmax.first_pass.held_out import VALIDATION
from dsoftmax.kernels.choose import choose_kernel
from dsoftmax.objective.objective import Cost, answers
from dsoftmax.solvers.table import solver_entry
from dsoftmax.system.blas import one_blas_thread
from dsoftmax.training.budget import (
    first_pass,
    held_bytes,
    make_objective,
    require_room,
    resolve,
    room,
)
from dsoftmax.training.run import Record, Result, Run, Watcher
from dsoftmax.training.settings import Settings
from dsoftmax.training.track import Track

Float = NDArray[np.float64]


def train(
    source: Source,
    engine: Engine,
    settings: Settings,
    *,
    validation: Source | None = None,
    theta: Float | None = None,
    resume: Run | None = None,
    watchers: Sequence[Watcher] = (),
) -> Result:
    """Train to the tolerance, or until the settings say stop.

    Parameters
    ----------
    source : Source
        With labels.
    engine : Engine
    settings : Settings
    validation : Source, optional
        Rows that are not learnt from: training stops where the loss on them no longer falls. Every pass reads them too.
    theta : (K, p+1) float64, optional
        Where to start; log priors when None.
    resume : Run, optional
        Go on from here; the result is bitwise that of a run that was never interrupted.
    watchers : sequence of Watcher

    Raises
    ------
    DataError, OptionError, ReadError, MemoryLimitError, ClusterError
    """
    settings.check()
    if validation is not None:
        if settings.held is not None:
            raise OptionError(
                "validation_fraction does nothing where validation rows are given. Leave one of them out."
            )
        source = with_validation(source, validation)
    history: list[Record] = []

    def watch(tracks: Sequence[Track], cost: Cost) -> None:
        (track,) = tracks
        history.append(_record(track.run, cost))
        for tell in watchers:
            tell(history[-1], track.run)

    with (
        one_blas_thread()
    ):  # the driver's own arithmetic too: its bits must not depend on its cores
        held, number = (settings.held, 0) if validation is None else (VALIDATION, None)
        if resume is not None:
            kernel = choose_kernel(settings.kernel, resume.kernel, engine.process_limit)
            entry = solver_entry(resume.solver)
            engine.reserve(held_bytes(entry, resume.statistics))
            objective = make_objective(
                source, engine, settings, resume.statistics, resume.double, kernel, held, number
            )
            track = Track(settings, objective, resume)
        else:
            kernel = choose_kernel(settings.kernel, None, engine.process_limit)
            helds = () if settings.held is None else (settings.held,)
            statistics, cost = first_pass(source, engine, settings, kernel, helds)
            choice = resolve(settings, statistics, room(engine.process_limit), source.resident)
            entry = solver_entry(choice.solver)
            require_room(choice, held_bytes(entry, statistics))
            engine.reserve(held_bytes(entry, statistics))
            objective = make_objective(
                source, engine, settings, statistics, entry.double, kernel, held, number
            )
            track = Track.begin(settings, objective, statistics, choice, theta)
            watch([track], cost)
        advance([track], watch)
    return track.result(history)


def advance(tracks: Sequence[Track], watch: Callable[[Sequence[Track], Cost], None]) -> None:
    """Make passes until every model has ended: one pass answers all that go on."""
    while running := [track for track in tracks if track.ending() is None]:
        queries = [track.ask() for track in running]
        found, cost = answers([track.objective for track in running], queries)
        for track, query, answer in zip(running, queries, found, strict=True):
            track.tell(query, answer)
        watch(tracks, cost)


def _record(run: Run, cost: Cost) -> Record:
    return Record(
        run.n_passes, run.state.n_iter, run.state.value, run.gradient_max, cost.seconds, cost.rows, cost.bytes, cost.work, run.gap,
        run.held_loss,
    )  # fmt: skip
