"""Predictions as a Parquet file, which appears whole or not at all."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.missing import REASONS
from dsoftmax.data.source import Source, n_rows
from dsoftmax.engines.base import Engine
from dsoftmax.errors import OutputExistsError
from dsoftmax.first_pass.labels import in_json, is_text
from dsoftmax.results.model import Model
from dsoftmax.results.no_data import Predict, label_dtype, skipped_label
from dsoftmax.results.outputs import labels, probabilities, require_features
from dsoftmax.results.predict import each_block, scratch_bytes
from dsoftmax.results.stored_model import METADATA_BYTES
from dsoftmax.system.files import make_directory, replacing
from dsoftmax.system.interrupts import finished
from dsoftmax.typing import Label

SUFFIXES = (".parquet", ".parq", ".pq")
"""Endings of Parquet files."""


def write_parquet(
    model: Model,
    source: Source,
    path: Path,
    *,
    with_probabilities: bool = False,
    overwrite: bool = False,
    engine: Engine | None = None,
    watch: Callable[[int], None] | None = None,
    nodata: Label | None = None,
) -> NDArray[np.int64]:
    """Write the labels of all rows to a Parquet file, and their probabilities on request.

    The file has the column ``label``, and on request a column ``probability_CLASS`` of float32 for
    each class. Rows that are skipped are null, except that their label is ``nodata`` if it is
    given.

    Parameters
    ----------
    model, source, with_probabilities, overwrite, engine, watch, nodata
        As `dsoftmax.results.stored_predictions.write_predictions`.

    Returns
    -------
    (4,) int64
        Rows that were skipped, in the order of `dsoftmax.data.missing.REASONS`.

    Raises
    ------
    OptionError
        pyarrow is not installed.
    DataError
        X has another number of features, or holds NaN or infinity.
    WriteError
    OutputExistsError
        Something exists at ``path``, and ``overwrite`` is false.
    """
    from dsoftmax.data.frames.write import OrderedWriter

    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists and would be overwritten. Pass overwrite=True (--overwrite), or "
            "another path."
        )

    require_features(model, source.n_features, source.names.X)
    text, K = is_text(model.classes), len(model.classes)
    fill = model.classes[0] if nodata is None else skipped_label(model.classes, nodata)
    as_labels = Predict(labels, model, None, fill, label_dtype(model.classes, fill), False)
    as_chances = Predict(probabilities, model, None, np.nan, np.dtype(np.float32), True)
    dtypes = {"label": np.dtype(object) if text else model.classes.dtype}
    if with_probabilities:
        names = [f"probability_{one}" for one in in_json(model.classes)]
        dtypes |= dict.fromkeys(names, np.dtype(np.float32))
    n_bytes = n_rows(source) * (8 + (4 * K if with_probabilities else 0)) + METADATA_BYTES
    counts, lock = np.zeros(len(REASONS), np.int64), threading.Lock()
    make_directory(path.parent)
    with replacing(path, n_bytes, overwrite) as file:
        writer = OrderedWriter(file, dtypes, in_json(model.classes))

        def write(block: Block) -> None:
            predicted, skipped = as_labels(block)
            columns = [np.array(in_json(predicted), object) if text else predicted]
            if with_probabilities:
                columns += list(as_chances(block)[0].T)
            if skipped is not None:
                lost = np.ones(block.n_rows, bool)
                lost[block.counted()[0].row_numbers - block.first_row] = False
                columns = [
                    values if place == 0 and nodata is not None else np.ma.MaskedArray(values, lost)
                    for place, values in enumerate(columns)
                ]
            found = dict(zip(dtypes, columns, strict=True))
            nonlocal counts
            with lock:
                finished(lambda: writer.add(block.first_row, found))
                if skipped is not None:
                    counts = counts + skipped
                if watch is not None:
                    watch(block.n_rows)

        try:
            each_block(write, source, engine, scratch_bytes(model, source, with_probabilities))
            finished(writer.close)
        except BaseException:
            writer.abandon()
            raise
    return counts
