"""``dsoftmax predict``: labels for new rows, chunk by chunk."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.options import (
    data_argument,
    features_option,
    memory_option,
    missing_option,
    overwrite_option,
    run_argument,
)

if TYPE_CHECKING:
    from dsoftmax.results.model import Model


@click.command("predict")
@run_argument
@data_argument
@features_option
@missing_option
@memory_option
@click.option(
    "--out",
    required=True,
    metavar="STORE",
    type=click.Path(path_type=Path),
    help="Zarr group to write.",
)
@click.option(
    "--probabilities", is_flag=True, help="Write an array of probabilities beside the labels."
)
@overwrite_option
def command(
    run: Path,
    data: str,
    features: str | None,
    missing_chunks: str,
    memory: int | None,
    out: Path,
    probabilities: bool,
    overwrite: bool,
) -> int:
    """Write the most probable class of every row of DATA with the model of RUN.

    RUN is a run directory, or a model.zarr. The output is a Zarr group with the array "labels", and "probabilities" on
    request; it appears whole or not at all.
    """
    with interrupts.shielded():
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from dsoftmax.cli.data import open_data
        from dsoftmax.cli.options import EngineChoice
        from dsoftmax.cli.progress import clock, rate
        from dsoftmax.cli.show import diagnostics, memory_line, output, show_facts
        from dsoftmax.data.source import n_rows
        from dsoftmax.engines.threads import ThreadsEngine
        from dsoftmax.results.stored_predictions import write_predictions

    model = open_model(run)
    _require_output(out, overwrite, run, data)
    source = open_data(data, features, missing_chunks=missing_chunks)
    console, rows, started = diagnostics(), n_rows(source), time.perf_counter()
    columns = (
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("predict", total=rows)
        write_predictions(
            model,
            source,
            out,
            with_probabilities=probabilities,
            overwrite=overwrite,
            engine=ThreadsEngine(memory_limit=memory),
            watch=lambda done: progress.advance(task, done),
        )
    seconds = max(time.perf_counter() - started, 1e-9)
    show_facts(
        output(),
        [
            ("rows", f"{rows:,}"),
            ("time", f"{clock(seconds)}, {rate(rows / seconds, 'rows/s')}"),
            ("peak memory", memory_line(EngineChoice("threads", memory=memory))),
            ("labels in", str(out / "labels")),
            *(
                [
                    (
                        "probabilities in",
                        f"{out / 'probabilities'} (columns in the order of the classes)",
                    )
                ]
                if probabilities
                else []
            ),
        ],
    )
    return 0


def open_model(run: Path) -> "Model":
    """Return the model of a run directory, or of a model's own path.

    Raises
    ------
    ReadError
    """
    from dsoftmax.errors import ReadError
    from dsoftmax.results.stored_model import load_model

    if not run.exists():
        raise ReadError(
            f"{run} does not exist. Needed is a run directory, which `dsoftmax train … --out {run}` makes."
        )
    if (run / "run.json").is_file():
        return load_model(run / "model.zarr")
    if (run / "zarr.json").is_file():
        return load_model(run)
    raise ReadError(
        f"{run} is neither a run directory (no run.json) nor a model. `dsoftmax train … --out DIRECTORY` makes one."
    )


def _require_output(out: Path, overwrite: bool, run: Path, data: str) -> None:
    """Raise unless the output is free, or predictions that may be replaced: never data, never a run.

    Raises
    ------
    OutputExistsError
    """
    from dsoftmax.errors import OutputExistsError

    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise OutputExistsError(
            f"{out} exists and would be overwritten. Pass --overwrite, or another --out."
        )
    place = out.resolve()
    for other, name in ((run, "the run"), (Path(data), "the data")):
        if "://" not in str(other) and (
            place == other.resolve() or place in other.resolve().parents
        ):
            raise OutputExistsError(
                f"{out} holds {name} that this command reads. Pass another --out."
            )
    try:
        predictions = "classes" in json.loads((out / "zarr.json").read_text()).get("attributes", {})
    except (OSError, ValueError):
        predictions = False
    if not predictions or not (out / "labels" / "zarr.json").is_file():
        raise OutputExistsError(
            f"{out} exists and does not hold predictions; --overwrite replaces nothing else. Remove it yourself, or pass another --out."
        )
