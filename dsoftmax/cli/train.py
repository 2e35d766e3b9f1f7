"""``dsoftmax train``: a run in a run directory."""

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsoftmax.cli import STOPPED
from dsoftmax.cli.options import (
    EngineChoice,
    data_argument,
    engine_choice,
    engine_options,
    features_option,
    labels_option,
    missing_option,
    objective_options,
    overwrite_option,
    stopping_options,
    weights_option,
)

if TYPE_CHECKING:
    from dsoftmax.blocks import Source
    from dsoftmax.cli.show import Outcome
    from dsoftmax.rundir import RunDirectory
    from dsoftmax.training import Run, Settings


@click.command("train")
@data_argument
@features_option
@labels_option
@weights_option
@objective_options
@stopping_options
@missing_option
@engine_options
@overwrite_option
@click.option("--out", required=True, metavar="DIRECTORY", type=click.Path(path_type=Path), help="Where the run is kept.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: str,
    features: str | None,
    labels: str,
    weights: str | None,
    missing_chunks: str,
    engine: str | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    memory: int | None,
    overwrite: bool,
    out: Path,
    **options: Any,
) -> int:
    """Train on the Zarr store DATA, and keep the run in a directory.

    The same command again goes on where the run stopped, with the same result to the last bit. tol, max-iter, and
    everything about the engine may change in between.
    """
    choice = engine_choice(engine, workers, scheduler, scheduler_file, memory)
    from dsoftmax.cli.data import label_dtype, make_settings, open_data
    from dsoftmax.cli.show import summary
    from dsoftmax.rundir import RunDirectory

    directory = RunDirectory(out)
    directory.require_free()
    source = open_data(data, features, labels, weights, missing_chunks)
    settings = make_settings(label_dtype(source), **options)
    try:
        outcome = train_in(directory, source, settings, choice, {"missing_chunks": missing_chunks}, ctx.obj, overwrite)
    except KeyboardInterrupt:
        interrupted(directory, ctx.obj)
        return STOPPED
    summary(directory, outcome, choice)
    return 0 if outcome.result.converged else STOPPED


def train_in(
    directory: "RunDirectory",
    source: "Source",
    settings: "Settings",
    choice: EngineChoice,
    reading: dict[str, Any],
    command_line: list[str],
    overwrite: bool = False,
) -> "Outcome":
    """Train in a run directory: begin, or go on from its checkpoint.

    Parameters
    ----------
    directory : RunDirectory
    source : Source
    settings : Settings
    choice : EngineChoice
    reading : dict
        Options that say how the data are read; they belong to the objective.
    command_line : list of str
        What was typed, for ``run.json``.
    overwrite : bool
        Begin anew, whatever run stands there.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C or SIGTERM; the checkpoint of the last pass stands.
    DsoftmaxError
    """
    from dsoftmax.cli.data import open_engine
    from dsoftmax.cli.show import Outcome, diagnostics
    from dsoftmax.engine.memory import require_blocks
    from dsoftmax.model import save_model
    from dsoftmax.monitor.history import History, read_history
    from dsoftmax.monitor.progress import Progress
    from dsoftmax.rundir import fingerprint
    from dsoftmax.training import train

    if choice.engine != "cluster":  # before the first chunk is read
        require_blocks(1, source.chunk_bytes, choice.memory)
    with _sigterm_as_interrupt(), ExitStack() as stack:
        asked = {
            "objective": {**_objective(settings), **reading},
            "data": source.describe(),
            "digest": fingerprint(source),
            "stopping": {"tol": settings.tol, "max_iter": settings.max_iter},
            "engine": {name: value for name, value in vars(choice).items() if value is not None},
            "command": command_line,
        }
        # What can fail without this directory fails before anything in it is touched.
        engine = stack.enter_context(open_engine(choice))
        stack.enter_context(directory.locked())
        if overwrite:
            directory.clear()
        elif directory.has_checkpoint():
            directory.require_same(asked)
        directory.remove_drafts()
        directory.write_asked(asked)
        resume = _resume(directory, settings)
        console = diagnostics()
        past = read_history(directory.file("history.jsonl"))
        if resume is not None:
            console.print(f"{directory.path} holds a run of {resume.n_passes} passes.", soft_wrap=True)
        history = stack.enter_context(History(directory.file("history.jsonl"), 0 if resume is None else resume.n_passes))
        began_at = past[0]["gradient_max"] if resume is not None and past else None
        started, described = time.perf_counter(), engine.describe()
        with Progress(settings.tol, settings.max_iter, console, began_at=began_at) as progress:
            # The line of history first, then the checkpoint: see dsoftmax.rundir.
            result = train(source, engine, settings, resume=resume, watchers=[history, directory.save, progress])
        seconds = time.perf_counter() - started
        save_model(result.model, directory.file("model.zarr"), overwrite=True)
        return Outcome(result, seconds, described)


def _resume(directory: "RunDirectory", settings: "Settings") -> "Run | None":
    if not directory.has_checkpoint():
        return None
    import numpy as np

    from dsoftmax.solvers import solver_entry
    from dsoftmax.training import Run

    kind = type(solver_entry(settings.solver).make(lambda: 1.0).start(np.zeros((2, 2)), None))
    saved = directory.load(kind)
    return Run(saved.statistics, saved.state, saved.n_passes, saved.double)


def _objective(settings: "Settings") -> dict[str, Any]:
    """What decides the objective and the way to it, in JSON types."""
    weights = settings.class_weight
    return {
        "C": str(settings.C),
        "solver": settings.solver,
        "intercept": settings.fit_intercept,
        "class_weight": {str(label): weight for label, weight in weights.items()} if isinstance(weights, dict) else weights,
        "classes": None if settings.classes is None else sorted(map(str, settings.classes.tolist())),
        "dtype": settings.dtype,
    }


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which schedulers send before they kill, end a run as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupted(directory: "RunDirectory", command_line: list[str]) -> None:
    """Say what is kept, and the command that goes on."""
    passes = directory.passes()
    kept = f"the checkpoint after pass {passes} is kept in {directory.path}" if passes else "no pass was complete"
    again = [part for part in command_line if part != "--overwrite"]
    click.echo(f"Interrupted; {kept}. To go on:\n  {shlex.join(again)}", err=True)
