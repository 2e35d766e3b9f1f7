"""Prediction of a cube: the map, its pictures, and what the command prints."""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from dsoftmax.cli.cube_choice import CubeChoice
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.exit_codes import DONE, STOPPED
from dsoftmax.cli.missing_choice import NODATA, MissingChoice
from dsoftmax.cli.open_data import open_features
from dsoftmax.cli.open_model import open_model
from dsoftmax.cli.progress import clock, rate
from dsoftmax.cli.show import memory_line, output, progress_bar, show_facts, skipped_facts
from dsoftmax.data.counts import Normalisation
from dsoftmax.data.missing import Missing
from dsoftmax.data.source import n_rows
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.results.legend import legend_of
from dsoftmax.results.map_files import MapFile, require_drawable, write_geotiff, write_png
from dsoftmax.results.model import Model
from dsoftmax.results.no_data import Skips
from dsoftmax.results.predict import require_memory
from dsoftmax.results.stored_map import MapOptions, draft_of, write_map


@dataclass(frozen=True)
class CubeReading:
    """The cube of a prediction, as its options name it.

    Attributes
    ----------
    data : str
    features : CubeChoice
    missing_chunks : str
    missing : Missing
        Values of features that mean no data.
    nodata : str or None
        Label of pixels without data, as typed.
    memory : int or None
        Memory limit in bytes.
    """

    data: str
    features: CubeChoice
    missing_chunks: str
    missing: Missing
    nodata: str | None
    memory: int | None


@dataclass(frozen=True)
class Drawing:
    """Files that show the map."""

    png: Path | None = None
    geotiff: Path | None = None


def predict_map(
    run: Path,
    model: Model,
    reading: CubeReading,
    out: Path,
    chances: str | None,
    overwrite: bool,
    drawing: Drawing,
) -> int:
    """Write the map of a cube, and return the exit code of the command.

    Parameters
    ----------
    run : path
        Where the model is read from.
    model : Model
        Its coefficients need not be read yet.
    chances : {"float32", "uint8"} or None
        Dtype of the probabilities; None for none.

    Raises
    ------
    DsoftmaxError
    """
    label = None
    if reading.nodata is not None:
        (label,) = MissingChoice(unlabelled=(reading.nodata,)).labels(np.dtype(np.int64), NODATA)
    legend = legend_of(model.classes, model.about, label)
    skips = Skips(reading.missing, label is not None, legend.fill)
    source: Any = open_features(
        reading.data,
        reading.features,
        reading.missing_chunks,
        skips,
        model.feature_names,
        Normalisation.of(model.about),
    )
    if drawing.png is not None or drawing.geotiff is not None:
        require_drawable(source.table.X.tiling, legend, geotiff=drawing.geotiff is not None)
    engine = ThreadsEngine(memory_limit=reading.memory)
    require_memory(model, source, engine, chances is not None)
    model = open_model(run)
    rows, started = n_rows(source), time.perf_counter()
    try:
        with progress_bar("predicting", rows, "rows") as advance:
            counts = write_map(
                model,
                source,
                out,
                legend,
                MapOptions(chances),
                overwrite,
                engine,
                advance,
            )
    except KeyboardInterrupt:
        again = shlex.join(click.get_current_context().obj)
        click.echo(
            f"Interrupted. The tiles that are complete stay in {draft_of(out)}. To continue:\n"
            f"  {again}",
            err=True,
        )
        return STOPPED
    seconds = max(time.perf_counter() - started, 1e-9)
    skipped = skipped_facts(counts.tolist(), rows - int(counts.sum()))
    facts = [
        ("rows", f"{rows:,}"),
        *((name, f"{line}; their label is {legend.fill!s}") for name, line in skipped),
        ("time", clock(seconds)),
        ("throughput", rate(rows / seconds, "rows/s")),
        ("peak memory", memory_line(EngineChoice("threads", memory=reading.memory))),
        ("map", f"{out / 'labels'}, {' × '.join(f'{n:,}' for n in source.table.X.tiling.shape)}"),
    ]
    if chances:
        facts.append(("probabilities", f"{out / 'probabilities'}, {chances}"))
    if drawing.png is not None:
        write_png(MapFile(out, legend), drawing.png)
        facts.append(("picture", str(drawing.png)))
    if drawing.geotiff is not None:
        write_geotiff(MapFile(out, legend), drawing.geotiff)
        facts.append(("GeoTIFF", str(drawing.geotiff)))
    show_facts(output(), facts)
    return DONE
