"""Predictions on disk: a Zarr group that appears whole or not at all."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dsoftmax.data.block import Block
from dsoftmax.data.source import Source, n_rows
from dsoftmax.engines.base import Engine
from dsoftmax.errors import OutputExistsError
from dsoftmax.first_pass.checks import check_finite
from dsoftmax.first_pass.labels import in_json, is_text
from dsoftmax.results.model import Model
from dsoftmax.results.outputs import most_probable, probabilities, require_features
from dsoftmax.results.predict import each_block, scratch_bytes
from dsoftmax.results.stored_model import METADATA_BYTES
from dsoftmax.system.files import replacing_directory, writing
from dsoftmax.system.interrupts import finished


def write_predictions(
    model: Model,
    source: Source,
    path: Path | str,
    *,
    with_probabilities: bool = False,
    overwrite: bool = False,
    engine: Engine | None = None,
    watch: Callable[[int], None] | None = None,
) -> None:
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
    names = np.array(in_json(model.classes), dtype=object) if text else model.classes
    lock = threading.Lock()
    row_bytes = model.classes.dtype.itemsize + (4 * K if with_probabilities else 0)
    n_bytes = n * row_bytes + METADATA_BYTES
    with replacing_directory(path, n_bytes) as draft:
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
            check_finite(block)
            rows = slice(block.first_row, block.first_row + block.n_rows)
            predicted = names[most_probable(model, block.X)]
            chance = None if chances is None else probabilities(model, block.X).astype(np.float32)

            def store() -> None:
                found[rows] = predicted
                if chances is not None:
                    chances[rows] = chance

            with lock:  # two blocks may write parts of one stored chunk: read, change, write
                with writing(path, n_bytes):
                    finished(store)
                if watch is not None:
                    watch(block.n_rows)

        each_block(write, source, engine, scratch_bytes(model, source, with_probabilities))
