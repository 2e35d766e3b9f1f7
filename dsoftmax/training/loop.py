"""Training: a loop of passes that asks solvers, answers from the data, and lets watchers see."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.source import Source
from dsoftmax.data.validation import with_validation
from dsoftmax.engines.base import Engine
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.objective.cost import Cost
from dsoftmax.objective.objective import answers_of, visit_of
from dsoftmax.solvers.protocol import Answer, Query
from dsoftmax.solvers.table import Choice, solver_entry
from dsoftmax.system.blas import one_blas_thread
from dsoftmax.training.budget import require_memory, sizes_of, solver_bytes
from dsoftmax.training.ending import asked_for
from dsoftmax.training.first_pass import statistics_passes
from dsoftmax.training.grid import Grid
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.own_scores import own_scores
from dsoftmax.training.passes import Passes, driven
from dsoftmax.training.prepare import Prepared, Resumed, prepare
from dsoftmax.training.record import Record, record_pass
from dsoftmax.training.result import Result, Trained
from dsoftmax.training.run import Run
from dsoftmax.training.separation import may_search, search_bytes
from dsoftmax.training.settings import Settings
from dsoftmax.training.track import Track, begin_track, resume_track

Float = NDArray[np.float64]

Watcher = Callable[[Record, Sequence[Run]], bool | None]
"""Called after every pass with its record and the runs of all models; True ends the training."""


def train(
    source: Source,
    engine: Engine,
    settings: Settings,
    grid: Grid | None = None,
    *,
    validation: Source | None = None,
    theta: Float | None = None,
    resume: Sequence[Run] | None = None,
    watchers: Sequence[Watcher] = (),
    names: Sequence[str] | None = None,
) -> Result:
    """Train one model, or all models of a grid, until each one ends by the settings.

    Parameters
    ----------
    source : Source
        Rows with labels.
    engine : Engine
    settings : Settings
        Settings of every model. A grid has its own values of C.
    grid : Grid, optional
        Models to train together: each pass reads the data once for all of them. One model when
        None.
    validation : Source, optional
        Validation set: training stops early if the loss on its rows stops falling. Every pass
        reads it too.
    theta : (K, p+1) float64, optional
        Starting point of every model; log priors when None.
    resume : sequence of Run, optional
        Runs to resume, one for each model. The result is bitwise that of a training without
        interruption.
    watchers : sequence of Watcher
    names : sequence of p str, optional
        Names of the features, for messages.

    Raises
    ------
    DataError, OptionError, ReadError, MemoryLimitError, ClusterError
    """
    everything = source if validation is None else with_validation(source, validation)
    passes = passes_of(
        source,
        engine,
        settings,
        grid,
        validation=validation,
        theta=theta,
        resume=resume,
        watchers=watchers,
        names=names,
    )
    return driven(passes, everything, engine)


def passes_of(
    source: Source,
    engine: Engine,
    settings: Settings,
    grid: Grid | None = None,
    *,
    validation: Source | None = None,
    theta: Float | None = None,
    resume: Sequence[Run] | None = None,
    watchers: Sequence[Watcher] = (),
    names: Sequence[str] | None = None,
) -> Passes[Result]:
    """Return the passes of `train`, whose result is its result.

    The engine is asked for its memory limit, and makes no pass.
    """
    prepared = prepare(
        source,
        settings,
        grid,
        memory_limit=engine.process_limit,
        validation=validation,
        resumed=None if resume is None else _resumed(resume[0]),
    )
    history: list[Record] = []

    def watch(tracks: Sequence[Track], cost: Cost) -> bool:
        """Tell the watchers of a pass, and return whether one of them asks for an end."""
        runs = tuple(track.run for track in tracks)
        running = len(_running(tracks)) if prepared.grid.n_folds else 1
        history.append(record_pass(prepared.grid, runs, cost, running))
        asked = [tell(history[-1], runs) for tell in watchers]
        return any(asked)

    with one_blas_thread():  # the bits of this process's arithmetic must not depend on its cores
        if resume is None:
            statistics, cost = yield from statistics_passes(prepared.source, prepared.visit)
        else:
            statistics, cost = resume[0].statistics, None
        tracks = _tracks(prepared, engine, statistics, theta, resume, names)
        stops = cost is not None and watch(tracks, cost)
        while not stops and (running := _running(tracks)):
            stops = watch(tracks, (yield from _advance(running)))
        if prepared.grid.n_folds and (missing := list(filter(_lacks_score, tracks))):
            watch(tracks, (yield from _score(missing)))
        models = tuple(map(_trained, prepared.grid.models, tracks))
        own = yield from _own_scores(prepared, models)
    return Result(prepared.grid, models, history, own)


def _own_scores(prepared: Prepared, models: Sequence[Trained]) -> Passes[Float | None]:
    """Return the scores of the folds by the function of the grid; None if it has a name."""
    grid = prepared.grid
    if not callable(grid.scoring):
        return None
    n_models = grid.n_folds * len(grid.Cs)
    thetas = np.array([one.model.theta for one in models[:n_models]])
    found = yield from own_scores(
        grid.scoring,
        prepared.visit.held_out,
        thetas.reshape(grid.n_folds, len(grid.Cs), *thetas.shape[1:]),
        models[0].model.classes,
    )
    return found


def _resumed(run: Run) -> Resumed:
    return Resumed(run.kernel, Choice(run.solver, run.why))


def _tracks(
    prepared: Prepared,
    engine: Engine,
    statistics: Statistics,
    theta: Float | None,
    resume: Sequence[Run] | None,
    names: Sequence[str] | None,
) -> list[Track]:
    """Return the tracks of all models: after the first pass, or from the runs to resume."""
    choice, members = prepared.choose_solver(statistics), prepared.members
    runs: Sequence[Run | None] = resume or [None] * len(members)
    solvers = {choice.solver, choice.otherwise or choice.solver}
    solvers |= {run.solver for run in runs if run is not None}
    needed = {name: solver_bytes(name, statistics, len(members)) for name in solvers}
    largest = max(needed, key=needed.__getitem__)
    require_memory(largest, needed[largest])
    looks = prepared.unpenalised and may_search(sizes_of(statistics), prepared.budget)
    engine.reserve(needed[largest] + (search_bytes(sizes_of(statistics)) if looks else 0))
    tracks = []
    for one, run in zip(members, runs, strict=True):
        objective = make_objective(
            prepared.source,
            engine,
            one.settings,
            statistics,
            solver_entry(choice.solver).double if run is None else run.double,
            prepared.kernel.name,
            one.held_out,
            one.part,
        )
        if run is None:
            track = begin_track(
                one.settings, objective, statistics, choice, theta, looks=looks, names=names
            )
            tracks.append(track)
        else:
            tracks.append(resume_track(one.settings, objective, run, names))
    return tracks


def _running(tracks: Sequence[Track]) -> list[Track]:
    return [track for track in tracks if track.ending() is None]


def _answered(
    tracks: Sequence[Track], queries: Sequence[Query]
) -> Passes[tuple[list[Answer], Cost]]:
    """Make one pass, and return the answers to the queries of some models."""
    objectives, started = [track.objective for track in tracks], time.perf_counter()
    totals = yield visit_of(objectives, queries)
    return answers_of(objectives, queries, totals), Cost.since(started, totals)


def _advance(running: Sequence[Track]) -> Passes[Cost]:
    """Make one pass, which answers all models that have not ended."""
    queries = [track.ask() for track in running]
    found, cost = yield from _answered(running, queries)
    for track, query, answer in zip(running, queries, found, strict=True):
        track.tell(query, answer)
    return cost


def _lacks_score(track: Track) -> bool:
    """Return whether no pass has scored a fold: its model ended at the start."""
    return track.objective.held is not None and not np.isfinite(track.run.held).all()


def _score(tracks: Sequence[Track]) -> Passes[Cost]:
    """Make one pass that finds the loss on the held-out rows at the end of each model."""
    queries = [Query(track.run.state.theta) for track in tracks]
    found, cost = yield from _answered(tracks, queries)
    for track, answer in zip(tracks, found, strict=True):
        assert answer.held is not None
        track.run = replace(track.run, held=answer.held, n_passes=track.run.n_passes + 1)
    return cost


def _trained(member: tuple[int | None, float], track: Track) -> Trained:
    ending = track.ending() or asked_for(track.run)
    return Trained(track.model(ending), track.run, ending, *member)
