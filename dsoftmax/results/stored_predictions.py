"""Predictions on disk: a Zarr group that appears whole or not at all."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.missing import REASONS, is_missing
from dsoftmax.data.source import Source, n_rows
from dsoftmax.engines.base import Engine
from dsoftmax.errors import OutputExistsError
from dsoftmax.first_pass.labels import in_json, is_text
from dsoftmax.results.model import Model
from dsoftmax.results.no_data import Predict, label_dtype, skipped_label
from dsoftmax.results.outputs import labels, probabilities, require_features
from dsoftmax.results.predict import each_block, scratch_bytes
from dsoftmax.results.stored_model import METADATA_BYTES
from dsoftmax.system.files import replacing_directory, writing
from dsoftmax.system.interrupts import finished
from dsoftmax.typing import Label


def write_predictions(
    model: Model,
    source: Source,
    path: Path | str,
    *,
    with_probabilities: bool = False,
    overwrite: bool = False,
    engine: Engine | None = None,
    watch: Callable[[int], None] | None = None,
    nodata: Label | None = None,
) -> NDArray[np.int64]:
    """Write the labels of all rows to a Zarr group, and their probabilities on request.

    Parameters
    ----------
    model : Model
    source : Source
        Rows of X; labels are not needed.
    path : path
        The group. It holds the array ``labels`` (n,) and, on request, ``probabilities`` (n, K)
        float32. Its attributes name the classes. Classes that are bytes become strings, because
        few readers of Zarr v3 know bytes.
    with_probabilities : bool
    overwrite : bool
        Whether the new group replaces an existing one at ``path``, once the new one is complete.
    engine : Engine, optional
        A `ThreadsEngine` sets the number of threads and the memory limit.
    watch : callable, optional
        Called with the number of rows written after every chunk, from one thread at a time.
    nodata : label, optional
        Label of rows that are skipped, as in `dsoftmax.Model.predict`. If some are, it is the
        attribute ``_FillValue`` of the labels. Their probabilities are NaN.

    Returns
    -------
    (4,) int64
        Rows that were skipped, in the order of `dsoftmax.data.missing.REASONS`.

    Raises
    ------
    OutputExistsError
        Something exists at ``path``, and ``overwrite`` is false.
    DataError
        X has another number of features, or holds NaN or infinity.
    WriteError
    """
    import zarr

    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists and would be overwritten. Pass overwrite=True (--overwrite), or "
            "another path."
        )
    require_features(model, source.n_features, source.names.X)
    n, K, step = n_rows(source), len(model.classes), max(int(source.chunk_rows[0]), 1)
    text = is_text(model.classes)
    label = skipped_label(model.classes, nodata)
    as_labels = Predict(labels, model, None, label, label_dtype(model.classes, label), False)
    as_chances = Predict(probabilities, model, None, np.nan, np.dtype(np.float32), True)
    counts = np.zeros(len(REASONS), np.int64)
    lock = threading.Lock()
    row_bytes = model.classes.dtype.itemsize + (4 * K if with_probabilities else 0)
    n_bytes = n * row_bytes + METADATA_BYTES
    with replacing_directory(path, n_bytes, overwrite) as draft:
        # Chunks of nothing but the fill value are stored too, so that a missing chunk is a loss.
        options: Any = {"config": {"write_empty_chunks": True}}

        def make() -> tuple[zarr.Array, zarr.Array | None]:
            group = zarr.create_group(
                draft, zarr_format=3, attributes={"classes": in_json(model.classes)}
            )
            found = group.create_array(
                "labels",
                shape=(n,),
                dtype="string" if text else model.classes.dtype,
                chunks=(step,),
                **options,
            )
            if not with_probabilities:
                return found, None
            return found, group.create_array(
                "probabilities", shape=(n, K), dtype=np.float32, chunks=(step, K), **options
            )

        with writing(path, n_bytes):
            found, chances = finished(make)

        def write(block: Block) -> None:
            rows = slice(block.first_row, block.first_row + block.n_rows)
            predicted, skipped = as_labels(block)
            predicted = np.array(in_json(predicted), object) if text else predicted
            chance = None if chances is None else as_chances(block)[0]

            def store() -> None:
                found[rows] = predicted
                if chances is not None:
                    chances[rows] = chance

            nonlocal counts
            with lock:  # two blocks may write parts of one stored chunk: read, change, write
                with writing(path, n_bytes):
                    finished(store)
                if skipped is not None:
                    counts = counts + skipped
                if watch is not None:
                    watch(block.n_rows)

        each_block(write, source, engine, scratch_bytes(model, source, with_probabilities))
        if counts.any():
            (value,) = in_json(np.asarray([label]))
            missing = "NaN" if is_missing(value) else value
            with writing(path, n_bytes):
                finished(lambda: found.attrs.update({"_FillValue": missing}))
    return counts
