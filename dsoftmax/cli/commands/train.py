"""``dsoftmax train``: a run in a run directory."""

from pathlib import Path
from typing import Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.exit_codes import STOPPED
from dsoftmax.cli.missing_choice import MissingChoice
from dsoftmax.cli.options import (
    data_argument,
    engine_options,
    features_option,
    groups_option,
    labels_option,
    missing_option,
    missing_values_options,
    normalize_options,
    objective_options,
    overwrite_option,
    stopping_options,
    validation_option,
    weights_option,
)
from dsoftmax.cli.sections import SectionedCommand


@click.command("train", cls=SectionedCommand)
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
@engine_options
@overwrite_option
@click.option(
    "--out",
    required=True,
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Run directory, for the model, the history and the checkpoint.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: str,
    features: Any,
    labels: str,
    weights: str | None,
    groups: str | None,
    validation: str | None,
    missing_chunks: str,
    missing: MissingChoice,
    how: Any,
    choice: EngineChoice,
    overwrite: bool,
    out: Path,
    **options: Any,
) -> int:
    """Train on the Zarr store DATA, and save the run in a directory.

    The same command again resumes a stopped run, and ends with the same bits as a run that never
    stopped. --tol, --max-iter and the engine options may change in between.

    Exit codes: 0 converged, 1 error, 3 stopped before convergence.
    """
    with interrupts.shielded():
        from dsoftmax.cli.open_cube import cube_record
        from dsoftmax.cli.open_data import (
            label_dtype,
            open_data,
            open_names,
            open_validation,
        )
        from dsoftmax.cli.settings import make_settings
        from dsoftmax.cli.show import diagnostics
        from dsoftmax.cli.show_data import absent_notes
        from dsoftmax.cli.show_run import summary
        from dsoftmax.cli.training_run import say_interrupted, train_in
        from dsoftmax.runs.directory import RunDirectory

    directory = RunDirectory(out)
    directory.require_free()
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
    )
    names = open_names(data, features)
    held_out = open_validation(
        validation, source, features, labels, weights, missing_chunks, missing, names, how
    )
    grouped, validated = groups is not None, held_out is not None
    for one in (source, held_out):
        for note in [] if one is None else absent_notes(one):
            diagnostics().print(note, soft_wrap=True, markup=False, highlight=False)
    settings, grid = make_settings(
        label_dtype(source), grouped=grouped, validated=validated, **options
    )
    reading = {"missing_chunks": missing_chunks, **missing.as_dict(), **how.about()}
    try:
        outcome = train_in(
            directory,
            source,
            settings,
            choice,
            reading,
            ctx.obj,
            overwrite,
            grid,
            held_out,
            None if names is None else names.tolist(),
            {**how.about(), **cube_record(features, source)},
        )
        summary(directory, outcome, choice)
    except KeyboardInterrupt:
        say_interrupted(directory, ctx.obj)
        return STOPPED
    return outcome.exit_code
