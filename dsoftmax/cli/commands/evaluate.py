"""``dsoftmax evaluate``: a model against labelled rows, in one pass."""

import json
from pathlib import Path

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.options import (
    data_argument,
    engine_choice,
    engine_options,
    features_option,
    labels_option,
    missing_option,
    run_argument,
    weights_option,
)


@click.command("evaluate")
@run_argument
@data_argument
@features_option
@labels_option
@weights_option
@missing_option
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all classes.")
def command(
    run: Path,
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
    spool: str | None,
    spool_limit: int | None,
    as_json: bool,
) -> int:
    """Compare the model of RUN with the labelled rows of DATA: log loss, accuracy, and every class."""
    choice = engine_choice(engine, workers, scheduler, scheduler_file, memory, spool, spool_limit)
    with interrupts.shielded():
        from dsoftmax.cli.commands.predict import open_model
        from dsoftmax.cli.data import open_data, open_engine
        from dsoftmax.cli.show import metrics_tables, output
        from dsoftmax.results.evaluate import evaluate

    model = open_model(run)
    source = open_data(data, features, labels, weights, missing_chunks)
    with open_engine(choice) as where:
        metrics = evaluate(model, source, where)
    if as_json:
        click.echo(json.dumps(metrics.as_dict()))
    else:
        metrics_tables(metrics, output())
    return 0
