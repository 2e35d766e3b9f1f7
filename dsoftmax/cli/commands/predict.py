"""``dsoftmax predict``: labels of new rows, chunk by chunk."""

import json
import time
from pathlib import Path

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.exit_codes import DONE
from dsoftmax.cli.options import (
    data_argument,
    features_option,
    memory_option,
    missing_option,
    overwrite_option,
    run_argument,
)
from dsoftmax.cli.sections import SectionedCommand


@click.command("predict", cls=SectionedCommand)
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
    help="Zarr group that the command writes.",
)
@click.option(
    "--probabilities",
    is_flag=True,
    help="Write the probabilities of all classes beside the labels.",
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
    """Predict the label of every row of DATA with the model of RUN.

    RUN is a run directory, or a model.zarr. The output is a Zarr group with the array "labels",
    and with --probabilities the array "probabilities". The group appears complete or not at all.
    """
    with interrupts.shielded():
        from dsoftmax.cli.open_data import open_data
        from dsoftmax.cli.open_model import open_model
        from dsoftmax.cli.progress import clock, rate
        from dsoftmax.cli.show import memory_line, output, progress_bar, show_facts
        from dsoftmax.data.counts import Normalisation
        from dsoftmax.data.source import n_rows
        from dsoftmax.engines.threads import ThreadsEngine
        from dsoftmax.results.stored_predictions import write_predictions

    model = open_model(run)
    _require_output(out, overwrite, run, data)
    source = open_data(
        data,
        features,
        missing_chunks=missing_chunks,
        feature_names=model.feature_names,
        how=Normalisation.of(model.about),
    )
    rows, started = n_rows(source), time.perf_counter()
    with progress_bar("predicting", rows, "rows") as advance:
        write_predictions(
            model,
            source,
            out,
            with_probabilities=probabilities,
            overwrite=overwrite,
            engine=ThreadsEngine(memory_limit=memory),
            watch=advance,
        )
    seconds = max(time.perf_counter() - started, 1e-9)
    facts = [
        ("rows", f"{rows:,}"),
        ("time", clock(seconds)),
        ("throughput", rate(rows / seconds, "rows/s")),
        ("peak memory", memory_line(EngineChoice("threads", memory=memory))),
        ("labels", str(out / "labels")),
    ]
    if probabilities:
        facts.append(
            ("probabilities", f"{out / 'probabilities'} (one column per class, in class order)")
        )
    show_facts(output(), facts)
    return DONE


def _require_output(out: Path, overwrite: bool, run: Path, data: str) -> None:
    """Raise unless ``out`` is free, or holds predictions that --overwrite may replace.

    Data and runs are never replaced.

    Raises
    ------
    OutputExistsError
    """
    from dsoftmax.errors import OutputExistsError

    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise OutputExistsError(
            f"{out} already exists. Pass another --out, or --overwrite to replace predictions."
        )
    place = out.resolve()
    for other, name in ((run, "the run"), (Path(data), "the data")):
        if "://" not in str(other) and (
            place == other.resolve() or place in other.resolve().parents
        ):
            raise OutputExistsError(
                f"{out} contains {name} that this command reads. Pass another --out."
            )
    try:
        predictions = "classes" in json.loads((out / "zarr.json").read_text()).get("attributes", {})
    except (OSError, ValueError):
        predictions = False
    if not predictions or not (out / "labels" / "zarr.json").is_file():
        raise OutputExistsError(
            f"{out} exists and does not hold predictions, and --overwrite replaces nothing else. "
            "Remove it yourself, or pass another --out."
        )
