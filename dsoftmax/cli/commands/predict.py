"""``dsoftmax predict``: labels of new rows, chunk by chunk."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.cube_choice import CubeChoice
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.exit_codes import DONE
from dsoftmax.cli.frame_choice import FrameChoice
from dsoftmax.cli.missing_choice import NODATA, MissingChoice
from dsoftmax.cli.options import (
    data_argument,
    features_option,
    known_coding_options,
    memory_option,
    missing_option,
    overwrite_option,
    run_argument,
)
from dsoftmax.cli.parameters import Known, ListOption
from dsoftmax.cli.sections import SectionedCommand
from dsoftmax.cli.storage_options import storage_options

if TYPE_CHECKING:
    from dsoftmax.data.missing import Missing
    from dsoftmax.results.model import Model


@click.command("predict", cls=SectionedCommand)
@run_argument
@data_argument
@features_option
@missing_option
@storage_options
@click.option(
    "--nodata",
    metavar="LABEL",
    help="Label of rows without data: rows that the array declares as missing (_FillValue), rows "
    "with a value of --features-nodata, and rows with NaN. Their probabilities are NaN.  [default: "
    "-1, the largest unsigned integer, NaN or an empty string; NaN in a row is then an error]",
)
@click.option(
    "--features-nodata",
    cls=ListOption,
    metavar="VALUES",
    help="Values of features that mean no data, such as 0,nan.  [default: those of the training]",
)
@known_coding_options
@memory_option
@click.option(
    "--out",
    required=True,
    metavar="STORE",
    type=click.Path(path_type=Path),
    help="Zarr group that the command writes, or a file that ends in .parquet.",
)
@click.option(
    "--probabilities",
    is_flag=True,
    help="Write the probabilities of all classes beside the labels.",
)
@click.option(
    "--probability-dtype",
    type=Known(("float32", "uint8")),
    default="float32",
    show_default=True,
    help="Dtype of the probabilities of a cube. uint8 has a scale factor, 1/254.",
)
@click.option(
    "--png",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw the map of a cube with its legend (needs matplotlib).",
)
@click.option(
    "--geotiff",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the map of a cube as a Cloud Optimized GeoTIFF with colours (needs rasterio).",
)
@overwrite_option
def command(
    run: Path,
    data: str,
    features: Any,
    missing_chunks: str,
    nodata: str | None,
    features_nodata: str | None,
    frames: FrameChoice,
    memory: int | None,
    out: Path,
    probabilities: bool,
    probability_dtype: str,
    png: Path | None,
    geotiff: Path | None,
    overwrite: bool,
) -> int:
    """Predict the label of every row of DATA with the model of RUN.

    RUN is a run directory, or a model.zarr. The output is a Zarr group with the array "labels",
    and with --probabilities the array "probabilities". If STORE ends in .parquet, it is a file with
    the column "label", and a column "probability_CLASS" for each class. The output appears complete
    or not at all.

    For a cube (--features B02,B03 or --feature-dim) the output is a map that xarray reads, with
    the dimensions and coordinates of the cube and the names of the classes. The same command
    continues an interrupted map.
    """
    with interrupts.shielded():
        from dsoftmax.cli.open_cube import with_known_dims
        from dsoftmax.cli.open_data import open_features
        from dsoftmax.cli.open_model import open_model
        from dsoftmax.cli.predict_map import CubeReading, Drawing, predict_map
        from dsoftmax.cli.progress import clock, rate
        from dsoftmax.cli.show import memory_line, output, progress_bar, show_facts
        from dsoftmax.data.coding import Coding
        from dsoftmax.data.counts import Normalisation
        from dsoftmax.data.source import n_rows
        from dsoftmax.engines.threads import ThreadsEngine
        from dsoftmax.errors import OptionError
        from dsoftmax.results.no_data import Skips
        from dsoftmax.results.parquet_predictions import SUFFIXES, write_parquet
        from dsoftmax.results.predict import require_memory
        from dsoftmax.results.stored_predictions import write_predictions

    model = open_model(run, sketch=True)
    _require_output(out, overwrite, run, data)
    features = with_known_dims(features, model.about)
    if isinstance(features, CubeChoice):
        drawing = Drawing(png, geotiff)
        chances = probability_dtype if probabilities else None
        skipped = _features(features_nodata, model)
        reading = CubeReading(data, features, missing_chunks, skipped, nodata, memory)
        return predict_map(run, model, reading, out, chances, overwrite, drawing)
    if png is not None or geotiff is not None:
        raise OptionError(
            "--png and --geotiff draw the map of a cube; expected --features B02,B03 or "
            "--feature-dim. Leave them out."
        )
    label = None
    if nodata is not None:
        (label,) = MissingChoice(unlabelled=(nodata,)).labels(model.classes.dtype, NODATA)
    skips = Skips.of(_features(features_nodata, model), model.classes, label)
    source = open_features(
        data,
        features,
        missing_chunks,
        skips,
        model.feature_names,
        Normalisation.of(model.about),
        frames,
        Coding.from_json(model.about.get("frame")),
    )
    engine = ThreadsEngine(memory_limit=memory)
    require_memory(model, source, engine, probabilities)
    model = open_model(run)
    rows, started = n_rows(source), time.perf_counter()
    with progress_bar("predicting", rows, "rows") as advance:
        to_parquet = out.suffix.lower() in SUFFIXES
        write = write_parquet if to_parquet else write_predictions
        counts = write(
            model,
            source,
            out,
            with_probabilities=probabilities,
            overwrite=overwrite,
            engine=engine,
            watch=advance,
            nodata=label,
        )
    seconds = max(time.perf_counter() - started, 1e-9)
    facts = [
        ("rows", f"{rows:,}"),
        *_skipped(counts.tolist(), rows, "null" if to_parquet and nodata is None else skips.label),
        ("time", clock(seconds)),
        ("throughput", rate(rows / seconds, "rows/s")),
        ("peak memory", memory_line(EngineChoice("threads", memory=memory))),
        ("labels", f"{out} (column label)" if to_parquet else str(out / "labels")),
    ]
    if probabilities and not to_parquet:
        facts.append(
            ("probabilities", f"{out / 'probabilities'} (one column per class, in class order)")
        )
    show_facts(output(), facts)
    return DONE


def _features(values: str | None, model: "Model") -> "Missing":
    """Return the values of features that mean no data: as typed, or those of the training."""
    from dsoftmax.data.missing import given_missing, remembered

    typed = MissingChoice.typed(values)
    if not typed.nodata:
        return remembered(model.about)
    return given_missing(typed.features(), None)


def _skipped(counts: list[int], rows: int, label: Any) -> list[tuple[str, str]]:
    """Return the fact that names the skipped rows and their label; nothing if all rows count."""
    from dsoftmax.cli.show import skipped_facts

    return [
        (name, f"{line}; their label is {label!s}")
        for name, line in skipped_facts(counts, rows - sum(counts))
    ]


def _require_output(out: Path, overwrite: bool, run: Path, data: str) -> None:
    """Raise unless ``out`` is free, or holds predictions that --overwrite may replace.

    Data and runs are never replaced.

    Raises
    ------
    OutputExistsError
    """
    from dsoftmax.errors import OutputExistsError
    from dsoftmax.system.regular import read_json

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
    if out.is_file():
        from dsoftmax.data.frames.write import holds_predictions

        if holds_predictions(out):
            return
    try:
        predictions = "classes" in read_json(out / "zarr.json")["attributes"]
    except (OSError, ValueError, TypeError, KeyError):
        predictions = False
    if not predictions or not (out / "labels" / "zarr.json").is_file():
        raise OutputExistsError(
            f"{out} exists and does not hold predictions, and --overwrite replaces nothing else. "
            "Remove it yourself, or pass another --out."
        )
