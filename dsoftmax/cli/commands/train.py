"""``dsoftmax train``: a run in a run directory."""

import json
import shlex
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.options import (
    EngineChoice,
    data_argument,
    engine_choice,
    engine_options,
    features_option,
    groups_option,
    labels_option,
    missing_option,
    objective_options,
    overwrite_option,
    stopping_options,
    validation_option,
    weights_option,
)
from dsoftmax.cli.program import STOPPED

if TYPE_CHECKING:
    from dsoftmax.cli.show import Outcome
    from dsoftmax.data.source import Source
    from dsoftmax.runs.directory import RunDirectory
    from dsoftmax.training.grid import Grid
    from dsoftmax.training.settings import Settings


@click.command("train")
@data_argument
@features_option
@labels_option
@weights_option
@groups_option
@validation_option
@objective_options
@stopping_options
@missing_option
@engine_options
@overwrite_option
@click.option(
    "--out",
    required=True,
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Where the run is kept.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: str,
    features: str | None,
    labels: str,
    weights: str | None,
    groups: str | None,
    validation: str | None,
    missing_chunks: str,
    engine: str | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    memory: int | None,
    spool: str | None,
    spool_limit: int | None,
    overwrite: bool,
    out: Path,
    **options: Any,
) -> int:
    """Train on the Zarr store DATA, and keep the run in a directory.

    The same command again goes on where the run stopped, with the same result to the last bit. tol, max-iter, and
    everything about the engine may change in between.
    """
    choice = engine_choice(engine, workers, scheduler, scheduler_file, memory, spool, spool_limit)
    with interrupts.shielded():
        from dsoftmax.cli.data import label_dtype, make_settings, open_data, open_validation
        from dsoftmax.cli.show import summary
        from dsoftmax.runs.directory import RunDirectory

    directory = RunDirectory(out)
    directory.require_free()
    source = open_data(data, features, labels, weights, missing_chunks, groups)
    judging = open_validation(validation, source, features, labels, weights, missing_chunks)
    grouped, validated = groups is not None, judging is not None
    settings, grid = make_settings(
        label_dtype(source), grouped=grouped, validated=validated, **options
    )
    reading = {"missing_chunks": missing_chunks}
    try:
        outcome = train_in(
            directory, source, settings, choice, reading, ctx.obj, overwrite, grid, judging
        )
        summary(directory, outcome, choice)
    except KeyboardInterrupt:
        interrupted(directory, ctx.obj)
        return STOPPED
    return 0 if outcome.result.converged else STOPPED


@interrupts.unwrapped()
def train_in(
    directory: "RunDirectory",
    source: "Source",
    settings: "Settings",
    choice: EngineChoice,
    reading: dict[str, Any],
    command_line: list[str],
    overwrite: bool = False,
    grid: "Grid | None" = None,
    validation: "Source | None" = None,
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
    grid : Grid, optional
        The models to train together.
    validation : Source, optional
        The rows that say when to stop.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C or SIGTERM; the checkpoint of the last pass stands.
    DsoftmaxError
    """
    with interrupts.shielded():
        from dsoftmax.cli.data import open_engine, plan_choice, process_limit
        from dsoftmax.cli.notes import noted
        from dsoftmax.cli.progress import Progress
        from dsoftmax.cli.show import Outcome, diagnostics
        from dsoftmax.errors import WriteError
        from dsoftmax.results.stored_model import save_model
        from dsoftmax.runs.fingerprint import fingerprint
        from dsoftmax.runs.history import History, read_history
        from dsoftmax.system.files import write_text
        from dsoftmax.training.loop import train
        from dsoftmax.training.prepare import prepare

    used = directory.kernel() if settings.kernel == "auto" and not overwrite else None
    limit = process_limit(choice)
    prepared = prepare(
        source, settings, grid, memory_limit=limit, validation=validation, used_kernel=used
    )
    settings = replace(settings, kernel=prepared.kernel.name)
    plan_choice(prepared.source, choice)  # before the first chunk is read
    with ExitStack() as stack:
        asked = {
            "objective": {**_objective(settings, grid), **reading},
            "data": prepared.source.describe(),
            "digest": "-".join(fingerprint(one) for one in (source, validation) if one is not None),
            "stopping": {"tol": settings.tol, "max_iter": settings.max_iter},
            "engine": {name: value for name, value in vars(choice).items() if value is not None},
            "command": command_line,
        }
        # What can fail without this directory fails before anything in it is touched.
        engine = stack.enter_context(open_engine(choice))
        try:
            interrupts.require_none()
            with interrupts.shielded():
                stack.enter_context(directory.locked())
                if overwrite:
                    directory.clear()
                elif directory.has_checkpoint():
                    directory.require_same(asked)
                directory.remove_drafts()
                directory.write_asked(asked)
                resume = directory.load() if directory.has_checkpoint() else None
                past = read_history(directory.file("history.jsonl"))
                n_passes = directory.passes()
                history = History(directory.file("history.jsonl"), n_passes)
                stack.enter_context(history)
            console = diagnostics()
            if resume is not None:
                console.print(f"{directory.path} holds a run of {n_passes} passes.", soft_wrap=True)
            began_at = past[0]["gradient_max"] if resume is not None and past else None
            started, described = time.perf_counter(), engine.describe()

            def keep(record: Any, runs: Any) -> None:
                with interrupts.shielded():
                    # The line of history first, then the checkpoint: see dsoftmax.runs.directory.
                    history(record, runs)
                    directory.save(record, runs)
                interrupts.require_none()

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
                    watchers=[keep, progress],
                )
            seconds = time.perf_counter() - started
            with interrupts.shielded():
                if grid is not None:
                    write_text(
                        directory.file("scores.json"), json.dumps(result.as_dict(), indent=2) + "\n"
                    )
                save_model(result.model, directory.file("model.zarr"), overwrite=True)
        except WriteError as error:
            raise WriteError(f"{error} {_kept(directory)}") from error
        return Outcome(result, seconds, described)


def _objective(settings: "Settings", grid: "Grid | None") -> dict[str, Any]:
    """What decides the objective and the way to it, in JSON types."""
    weights = settings.class_weight
    return {
        "C": str(settings.C) if grid is None else [str(C) for C in grid.Cs.tolist()],
        "folds": None if grid is None else grid.n_folds,
        "scoring": None if grid is None else grid.scoring,
        "validation_fraction": settings.validation_fraction,
        "l1_ratio": settings.l1_ratio,
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


def _kept(directory: "RunDirectory") -> str:
    if not directory.entered:
        if directory.has_checkpoint():
            return f"The run that {directory.path} held before is still there."
        return "This run has not begun."
    passes = directory.passes()
    return (
        f"The checkpoint after pass {passes} is kept in {directory.path}."
        if passes
        else "No pass was complete."
    )


def interrupted(directory: "RunDirectory", command_line: list[str]) -> None:
    """Say what is kept, and the command that goes on."""
    again = [part for part in command_line if part != "--overwrite" or not directory.entered]
    click.echo(f"Interrupted. {_kept(directory)} To go on:\n  {shlex.join(again)}", err=True)
