"""``dsoftmax train``: a run in a run directory."""

from pathlib import Path
from typing import Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.exit_codes import STOPPED
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
    overwrite_option,
    stopping_options,
    validation_option,
    weights_option,
)
from dsoftmax.cli.sections import SectionedCommand
from dsoftmax.cli.storage_options import storage_options


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
@coding_options
@engine_options
@storage_options
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
    frames: FrameChoice,
    choice: EngineChoice,
    overwrite: bool,
    out: Path,
    **options: Any,
) -> int:
    """Train on DATA, and save the run in a directory.

    DATA is a Zarr store, an HDF5 file, or Parquet: a file, a folder, or a quoted pattern such as
    'part-*.parquet'.

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
        from dsoftmax.cli.open_frames import coding_record
        from dsoftmax.cli.settings import make_settings
        from dsoftmax.cli.show import diagnostics
        from dsoftmax.cli.show_data import absent_notes
        from dsoftmax.cli.show_run import summary
        from dsoftmax.cli.training_run import say_interrupted, train_in
        from dsoftmax.runs.directory import RunDirectory

    if "," in labels:
        return _on_columns(
            ctx.obj,
            data,
            features,
            labels,
            weights,
            groups,
            validation,
            missing_chunks,
            missing,
            how,
            frames,
            choice,
            overwrite,
            out,
            options,
        )
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
    for one in (source, held_out):
        for note in [] if one is None else absent_notes(one):
            diagnostics().print(note, soft_wrap=True, markup=False, highlight=False)
    settings, grid = make_settings(
        label_dtype(source), grouped=grouped, validated=validated, **options
    )
    about = {**how.about(), **coding_record(source)}
    reading = {"missing_chunks": missing_chunks, **missing.as_dict(), **about}
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
            {**about, **cube_record(features, source)},
        )
        summary(directory, outcome, choice)
    except KeyboardInterrupt:
        say_interrupted(directory, ctx.obj)
        return STOPPED
    return outcome.exit_code


def _on_columns(
    words: list[str],
    data: str,
    features: str | None,
    labels: str,
    weights: str | None,
    groups: str | None,
    validation: str | None,
    missing_chunks: str,
    missing: MissingChoice,
    how: Any,
    frames: FrameChoice,
    choice: EngineChoice,
    overwrite: bool,
    out: Path,
    options: dict[str, Any],
) -> int:
    """Train on several label columns, each in a directory of its own."""
    with interrupts.shielded():
        from dsoftmax.cli.open_data import label_dtype, open_columns, open_names
        from dsoftmax.cli.open_frames import coding_record
        from dsoftmax.cli.settings import make_settings
        from dsoftmax.cli.show import diagnostics, output
        from dsoftmax.cli.show_data import absent_notes
        from dsoftmax.cli.show_run import summary
        from dsoftmax.cli.training_runs import (
            directories_of,
            label_paths,
            require_one_meaning,
            say_columns_interrupted,
            train_columns_in,
        )

    paths = label_paths(labels)
    require_one_meaning(len(paths), validation, options["classes"], options["class_weight"])
    directories = directories_of(out, paths)
    together, alone = open_columns(
        data,
        features,
        paths,
        weights,
        missing_chunks,
        groups,
        missing,
        how,
        options["fold_column"],
        frames,
    )
    for note in absent_notes(alone[paths[0]]):
        diagnostics().print(note, soft_wrap=True, markup=False, highlight=False)
    names = open_names(data, features, alone[paths[0]])
    settings, grid = make_settings(label_dtype(together), grouped=groups is not None, **options)
    about = {**how.about(), **coding_record(together)}
    reading = {"missing_chunks": missing_chunks, **missing.as_dict(), **about}
    try:
        outcomes = train_columns_in(
            directories,
            together,
            alone,
            settings,
            choice,
            reading,
            words,
            overwrite,
            grid,
            None if names is None else names.tolist(),
            about,
        )
        for path, outcome in outcomes.items():
            output().print(path, style="bold", markup=False, highlight=False)
            summary(directories[path], outcome, choice)
    except KeyboardInterrupt:
        say_columns_interrupted(directories, words)
        return STOPPED
    return max(outcome.exit_code for outcome in outcomes.values())
