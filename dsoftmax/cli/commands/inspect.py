"""``dsoftmax inspect``: the stored arrays and the plan of training, from metadata alone."""

from typing import Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.exit_codes import DONE
from dsoftmax.cli.frame_choice import FrameChoice
from dsoftmax.cli.missing_choice import MissingChoice
from dsoftmax.cli.options import (
    coding_options,
    data_argument,
    engine_options,
    features_option,
    groups_option,
    labels_option,
    missing_option,
    missing_values_options,
    normalize_options,
    objective_options,
    stopping_options,
    validation_option,
    weights_option,
)
from dsoftmax.cli.sections import SectionedCommand
from dsoftmax.cli.storage_options import storage_options


@click.command("inspect", cls=SectionedCommand)
@data_argument
@features_option
@labels_option
@weights_option
@groups_option
@validation_option
@objective_options
@stopping_options
@missing_option
@missing_values_options
@normalize_options
@coding_options
@engine_options
@storage_options
def command(
    data: str,
    features: Any,
    labels: str,
    weights: str | None,
    groups: str | None,
    validation: str | None,
    missing_chunks: str,
    missing: MissingChoice,
    how: Any,
    frames: FrameChoice,
    choice: EngineChoice,
    **options: Any,
) -> int:
    """Show the arrays of DATA, and what `train` would do with the same options.

    The command reads metadata only, and the columns that --categorical chooses. It starts no
    cluster. With --scheduler it asks the running cluster for its workers.
    """
    with interrupts.shielded():
        from dsoftmax.cli.open_data import (
            label_dtype,
            open_data,
            open_names,
            open_validation,
        )
        from dsoftmax.cli.open_engine import process_limit
        from dsoftmax.cli.settings import make_settings
        from dsoftmax.cli.show import output, show_facts
        from dsoftmax.cli.show_data import stored_facts
        from dsoftmax.cli.show_plan import pass_facts, training_facts
        from dsoftmax.training.enough import require_enough
        from dsoftmax.training.prepare import Prepared, prepare

    source = open_data(
        data,
        features,
        labels,
        weights,
        missing_chunks,
        groups,
        missing,
        how=how,
        fold_column=options["fold_column"],
        classes=options["classes"],
        frames=frames,
    )
    names = open_names(data, features, source)
    held_out = open_validation(
        validation,
        source,
        features,
        labels,
        weights,
        missing_chunks,
        missing,
        names,
        how,
        options["classes"],
    )
    grouped, validated = groups is not None, held_out is not None
    settings, grid = make_settings(
        label_dtype(source), grouped=grouped, validated=validated, **options
    )
    limit = process_limit(choice)

    def prepare_for(limit: int | None) -> Prepared:
        return prepare(source, settings, grid, memory_limit=limit, validation=held_out)

    prepared = prepare_for(limit)
    console = output()
    console.print("Stored arrays", style="bold")
    show_facts(console, stored_facts(source) + ([] if held_out is None else stored_facts(held_out)))
    if limit is not None and choice.engine != "cluster":
        require_enough(prepared, limit, prepare_for)
    console.print("One pass over the data", style="bold")
    show_facts(console, pass_facts(prepared, choice))
    console.print("Training", style="bold")
    show_facts(console, training_facts(prepared))
    return DONE
