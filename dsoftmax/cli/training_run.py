"""A training run in its directory: begin it, or resume it from its checkpoint."""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import click

from dsoftmax.cli import exit_codes, interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.notes import noted
from dsoftmax.cli.open_engine import open_engine, plan_choice, process_limit
from dsoftmax.cli.progress import Progress
from dsoftmax.cli.show import diagnostics
from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.errors import DsoftmaxError, WriteError
from dsoftmax.results.stored_model import save_model
from dsoftmax.runs.directory import RunDirectory
from dsoftmax.runs.fingerprint import fingerprint
from dsoftmax.runs.history import History, read_history
from dsoftmax.system.files import write_text
from dsoftmax.training.enough import require_enough
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.prepare import Prepared, Resumed, prepare
from dsoftmax.training.result import Result
from dsoftmax.training.run import Run
from dsoftmax.training.settings import Settings

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Outcome:
    """A run that has ended, and the part of it that this command did.

    Attributes
    ----------
    result : Result
    seconds : float
        Duration of the passes of this command.
    engine : str
        One line about the engine.
    """

    result: Result
    seconds: float
    engine: str

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0 if all models converged, otherwise 3."""
        return exit_codes.DONE if self.result.converged else exit_codes.STOPPED


@interrupts.unwrapped()
def train_in(
    directory: RunDirectory,
    source: Source,
    settings: Settings,
    choice: EngineChoice,
    reading: dict[str, Any],
    command_line: list[str],
    overwrite: bool = False,
    grid: Grid | None = None,
    validation: Source | None = None,
    names: Sequence[str] | None = None,
    about: Mapping[str, Any] = NOTHING,
) -> Outcome:
    """Train in a run directory: begin a run, or resume the run of the directory.

    Parameters
    ----------
    directory : RunDirectory
    source : Source
    settings : Settings
    choice : EngineChoice
    reading : dict
        Options that decide how the data are read. They belong to the objective.
    command_line : list of str
        Words of the command, for ``run.json``.
    overwrite : bool
        Begin a new run, and replace the run of the directory.
    grid : Grid, optional
        Models that train together.
    validation : Source, optional
        Validation set that decides when to stop.
    names : sequence of p str, optional
        Names of the features.
    about : mapping
        More to record in the model.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C or SIGTERM arrived. The checkpoint of the last pass is saved.
    DsoftmaxError
    """
    settings, asked = asked_of(
        directory, source, settings, choice, reading, command_line, overwrite, grid, validation
    )
    with ExitStack() as stack:
        # The engine may fail to start. It starts before anything in the directory changes.
        engine = stack.enter_context(open_engine(choice))
        stack.enter_context(naming_what_is_saved(directory))
        interrupts.require_none()
        history, resume, began_at = enter(stack, directory, asked, overwrite)
        started, described = time.perf_counter(), engine.describe()
        save, console = saver(history, directory), diagnostics()
        with (
            noted(console),
            Progress(
                settings.tol,
                settings.max_iter,
                console,
                began_at=began_at,
                ongoing=lambda: engine.ongoing,
            ) as progress,
        ):
            result = train(
                source,
                engine,
                settings,
                grid,
                validation=validation,
                resume=resume,
                watchers=[save, progress],
                names=names,
            )
        seconds = time.perf_counter() - started
        described = described_after(engine, described)
        with interrupts.shielded():
            save_result(directory, result, reading, about)
        return Outcome(result, seconds, described)


def described_after(engine: Engine, before: str) -> str:
    """Return the line about an engine after training: workers may have come late."""
    try:
        return engine.describe()
    except (DsoftmaxError, OSError):  # the cluster has ended with the training
        return before


def asked_of(
    directory: RunDirectory,
    source: Source,
    settings: Settings,
    choice: EngineChoice,
    reading: dict[str, Any],
    command_line: list[str],
    overwrite: bool,
    grid: Grid | None,
    validation: Source | None = None,
) -> tuple[Settings, dict[str, Any]]:
    """Return the settings with the kernel of the run, and the contents of its ``run.json``."""
    resumed = None
    if directory.has_checkpoint() and not overwrite:
        resumed = Resumed(directory.kernel() if settings.kernel == "auto" else None)
    limit = process_limit(choice)

    def prepare_for(limit: int | None) -> Prepared:
        return prepare(
            source, settings, grid, memory_limit=limit, validation=validation, resumed=resumed
        )

    prepared = prepare_for(limit)
    if limit is not None and choice.engine != "cluster":
        require_enough(prepared, limit, prepare_for)
    plan_choice(prepared.source, choice)  # refuses before the first chunk is read
    return replace(settings, kernel=prepared.kernel.name), {
        "objective": {**_objective(settings, grid), **reading},
        "data": prepared.source.describe(),
        "digest": "-".join(fingerprint(one) for one in (source, validation) if one is not None),
        "stopping": {"tol": settings.tol, "max_iter": settings.max_iter},
        "engine": {name: value for name, value in vars(choice).items() if value is not None},
        "command": command_line,
    }


def save_result(
    directory: RunDirectory, result: Result, reading: dict[str, Any], about: Mapping[str, Any]
) -> None:
    """Write the model, and the scores of a grid."""
    directory.require_locked()
    if result.grid.n_folds:
        scores = json.dumps(result.as_dict(), indent=2) + "\n"
        write_text(directory.file("scores.json"), scores)
    about = {**result.model.about, **_skipping(reading), **about}
    model = replace(result.model, about=about)
    save_model(model, directory.file("model.zarr"), overwrite=True)


def enter(
    stack: ExitStack, directory: RunDirectory, asked: dict[str, Any], overwrite: bool
) -> tuple[History, list[Run] | None, float | None]:
    """Lock the directory until ``stack`` closes, and make it ready for the run.

    Returns
    -------
    History
    list of Run, or None
        States to resume from.
    float or None
        max|∇F| after the first pass of the run that is resumed.
    """
    file = directory.file("history.jsonl")
    with interrupts.shielded():
        stack.enter_context(directory.locked())
        if overwrite:
            directory.clear()
        elif directory.has_checkpoint():
            directory.require_same(asked)
        directory.remove_drafts()
        directory.write_asked(asked)
        resume = directory.load() if directory.has_checkpoint() else None
        past = read_history(file)
        n_passes = directory.passes()
        history = History(file, n_passes)
        stack.enter_context(history)
    if resume is None:
        return history, None, None
    diagnostics().print(f"{directory.path} holds a run with {n_passes} passes.", soft_wrap=True)
    return history, resume, past[0]["gradient_max"] if past else None


def saver(history: History, directory: RunDirectory) -> Callable[[Any, Any], None]:
    """Return the watcher that saves every pass."""

    def save(record: Any, runs: Any) -> None:
        with interrupts.shielded():
            # The line of history first, then the checkpoint: see dsoftmax.runs.directory.
            directory.require_locked()
            history(record, runs)
            directory.save(record, runs)
        interrupts.require_none()

    return save


@contextmanager
def naming_what_is_saved(directory: RunDirectory) -> Iterator[None]:
    """Add to a `WriteError` of the block what the directory still holds."""
    try:
        yield
    except WriteError as error:
        raise WriteError(f"{error} {saved(directory)}") from error


def _objective(settings: Settings, grid: Grid | None) -> dict[str, Any]:
    """Return the options that decide the objective and the path to its optimum, in JSON types."""
    weights = settings.class_weight
    return {
        "C": str(settings.C) if grid is None else [str(C) for C in grid.Cs.tolist()],
        "folds": None if grid is None else grid.n_folds,
        "given_folds": True if grid is not None and grid.given else None,
        "scoring": None if grid is None else grid.scoring,
        "validation_fraction": settings.validation_fraction,
        "l1_ratio": settings.l1_ratio,
        "scale": settings.scale,
        "solver": settings.solver,
        "intercept": settings.fit_intercept,
        "class_weight": {str(label): weight for label, weight in weights.items()}
        if isinstance(weights, dict)
        else weights,
        "classes": None
        if settings.classes is None
        else sorted(map(str, settings.classes.tolist())),
        "dtype": settings.dtype,
        "kernel": settings.kernel,
    }


def _skipping(reading: dict[str, Any]) -> dict[str, Any]:
    """Return the missing values that were named, which predictions of the model need too."""
    return {name: reading[name] for name in ("nodata", "unlabelled") if reading.get(name)}


def saved(directory: RunDirectory) -> str:
    """Say what the directory holds after a command that did not end."""
    if not directory.entered:
        if directory.has_checkpoint():
            return f"The earlier run in {directory.path} is unchanged."
        return "This run has not begun."
    passes = directory.passes()
    if not passes:
        return "No pass was completed."
    return f"The checkpoint of pass {passes} is saved in {directory.path}."


def say_interrupted(directory: RunDirectory, command_line: list[str]) -> None:
    """Say what is saved, and print the command that continues the run."""
    again = [part for part in command_line if part != "--overwrite" or not directory.entered]
    click.echo(f"Interrupted. {saved(directory)} To continue:\n  {shlex.join(again)}", err=True)
