"""``dsoftmax evaluate``: score a model on labelled rows, in one pass."""

import json
from pathlib import Path
from typing import Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.exit_codes import DONE
from dsoftmax.cli.frame_choice import FrameChoice
from dsoftmax.cli.missing_choice import MissingChoice
from dsoftmax.cli.options import (
    data_argument,
    engine_options,
    features_option,
    known_coding_options,
    labels_option,
    missing_option,
    missing_values_options,
    run_argument,
    weights_option,
)
from dsoftmax.cli.sections import SectionedCommand
from dsoftmax.cli.storage_options import storage_options


@click.command("evaluate", cls=SectionedCommand)
@run_argument
@data_argument
@features_option
@labels_option
@weights_option
@missing_option
@missing_values_options
@known_coding_options
@engine_options
@storage_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all classes.")
def command(
    run: Path,
    data: str,
    features: Any,
    labels: str,
    weights: str | None,
    missing_chunks: str,
    missing: MissingChoice,
    frames: FrameChoice,
    choice: EngineChoice,
    as_json: bool,
) -> int:
    """Score the model of RUN on the labelled rows of DATA.

    RUN is a run directory, or a model.zarr. The command prints the log loss, the accuracy, the
    precision and recall of every class, and the confusion matrix.
    """
    with interrupts.shielded():
        from dsoftmax.cli.open_cube import with_known_dims
        from dsoftmax.cli.open_data import open_data
        from dsoftmax.cli.open_engine import open_engine
        from dsoftmax.cli.open_model import open_model
        from dsoftmax.cli.show import output
        from dsoftmax.cli.show_metrics import metrics_tables
        from dsoftmax.data.coding import Coding
        from dsoftmax.data.counts import Normalisation
        from dsoftmax.results.evaluate import evaluate, require_memory

    model = open_model(run, sketch=True)
    missing = missing.otherwise(model.about)
    features = with_known_dims(features, model.about)
    source = open_data(
        data,
        features,
        labels,
        weights,
        missing_chunks,
        missing=missing,
        feature_names=model.feature_names,
        how=Normalisation.of(model.about),
        frames=frames,
        coding=Coding.from_json(model.about.get("frame")),
    )
    with open_engine(choice) as engine:
        require_memory(model, source, engine)
        metrics = evaluate(open_model(run), source, engine)
    if as_json:
        click.echo(json.dumps(metrics.as_dict()))
    else:
        metrics_tables(metrics, output())
    return DONE
