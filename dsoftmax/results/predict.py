"""A trained model on new rows: predictions lazily, in memory or into a store, and its metrics; chunk by chunk always."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Names
from dsoftmax.data.features import Features, rows_between
from dsoftmax.data.open import is_dask, open_source
from dsoftmax.data.source import Source, n_rows
from dsoftmax.engines.base import Engine
from dsoftmax.engines.feed import Feed
from dsoftmax.engines.threads import ThreadsEngine, on_threads
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import DataError, OutputExistsError
from dsoftmax.first_pass.checks import check_finite
from dsoftmax.kernels import softmax
from dsoftmax.kernels.tiles import compute_dtype
from dsoftmax.results.model import Model
from dsoftmax.results.stored_model import METADATA_BYTES
from dsoftmax.system.files import replacing_directory, writing

Output = Callable[..., NDArray]

SLAB_VALUES = 2**20
"""Logits that are held at once beside the output (entries)."""


def labels(model: Model, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the most probable class of each row, (rows,)."""
    step = max(SLAB_VALUES // len(model.classes), 1)
    parts = [
        model.predict(rows_between(X, i, min(i + step, X.shape[0])), dtype)
        for i in range(0, X.shape[0], step)
    ]
    return np.concatenate(parts) if parts else model.classes[:0]


def decision_function(model: Model, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the logits, (rows, K)."""
    return model.decision_function(X, dtype)


def probabilities(model: Model, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the probabilities, (rows, K)."""
    return softmax.softmax(model.decision_function(X, dtype))


def log_probabilities(model: Model, X: Features, dtype: np.dtype | None = None) -> NDArray:
    """Return the logarithms of the probabilities, (rows, K)."""
    return softmax.log_softmax(model.decision_function(X, dtype))


def apply(
    output: Output,
    model: Model,
    X: Any,
    dtype: np.dtype | None = None,
    engine: Engine | None = None,
    missing_chunks: str = "error",
) -> Any:
    """Return an output of the model for every row of X.

    Parameters
    ----------
    output : callable
        `labels`, `decision_function`, `probabilities` or `log_probabilities`.
    model : Model
    X : (n, p) ndarray, CSR, zarr.Array or dask array
    dtype : numpy dtype, optional
        Of the products; by what is stored when None.
    engine : Engine, optional
        A `ThreadsEngine` says how many threads visit a Zarr array; this machine's cores when None.
    missing_chunks : {"error", "fill"}
        For Zarr: what a chunk that is not in the store means.

    Returns
    -------
    (n,) or (n, K) array
        A lazy dask array for a dask array, with the row chunks of X; else an ndarray.

    Raises
    ------
    DataError
        Another number of features, more or less than two dimensions, or NaN or infinity in X; the last for a dask array
        when it is computed.
    """
    products = dtype or compute_dtype(np.dtype(X.dtype))
    if is_dask(X):
        from dsoftmax.data.dask import map_rows

        _check_features(model, X)
        n_columns = None if output is labels else len(model.classes)
        found = model.classes.dtype if output is labels else products
        return map_rows(X, partial(_on_finite, output, model, products), n_columns, found)
    source = open_source(X, missing_chunks=missing_chunks)
    _check_features(model, X)
    shape = (n_rows(source),) if output is labels else (n_rows(source), len(model.classes))
    out = np.empty(shape, model.classes.dtype if output is labels else products)

    def fill(block: Block) -> None:
        check_finite(block)
        out[block.first_row : block.first_row + block.n_rows] = output(model, block.X, products)

    _each_block(fill, source, engine, _scratch(model, source, output is not labels))
    return out


def _on_finite(output: Output, model: Model, dtype: np.dtype, X: Features) -> NDArray:
    check_finite(
        Block(X, names=Names(X="In a block of X,"))
    )  # the block does not know where it lies
    return output(model, X, dtype)


def _check_features(model: Model, X: Any) -> None:
    if len(X.shape) != 2 or X.shape[1] != model.n_features:
        raise DataError(
            f"X has {X.shape[1] if len(X.shape) == 2 else X.shape} features, but the model is expecting {model.n_features} "
            "features as input. Pass rows of the columns it was trained on, in the same order."
        )


def _require_features(model: Model, source: Source) -> None:
    if source.n_features != model.n_features:
        raise DataError(
            f"{source.names.X} has {source.n_features} features, but the model is expecting {model.n_features} features as "
            "input. Pass the columns it was trained on, in the same order."
        )


def _each_block(
    function: Callable[[Block], None], source: Source, engine: Engine | None, scratch: int
) -> None:
    """Call ``function``, which takes ``scratch`` bytes, on every block; on threads, as many as the engine's memory allows."""
    threads = engine if isinstance(engine, ThreadsEngine) else ThreadsEngine()
    plan = threads.plan(source, Footprint(scratch=scratch))

    def work(blocks: Iterator[Block]) -> None:
        for block in blocks:
            function(block)

    on_threads(work, Feed(source, range(len(source.chunk_rows)), plan, source.resident, whole=True))


def _scratch(model: Model, source: Source, wide: bool) -> int:
    """Bytes that the outputs of the largest block take on their way: logits in slabs, and of all its rows if the output is wide."""
    values = int(source.chunk_rows.max(initial=0)) * len(model.classes)
    return 3 * 8 * (values if wide else min(values, SLAB_VALUES))


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
    """Write the labels of all rows, and their probabilities on request, to a Zarr group that appears whole or not at all.

    Parameters
    ----------
    model : Model
    source : Source
        Labels are not needed.
    path : path
        Of the group: array ``labels`` (n,), and ``probabilities`` (n, K) where asked for; its attributes name the classes.
    with_probabilities : bool
    overwrite : bool
        Whether what stands at ``path`` is replaced, once the new group is complete.
    engine : Engine, optional
        A `ThreadsEngine` says how many threads work and what memory they may take.
    watch : callable, optional
        Called with the number of rows written, after every chunk; from several threads, one at a time.

    Raises
    ------
    OutputExistsError
        Something stands at ``path``, and ``overwrite`` is false.
    DataError
        Another number of features, or NaN in X.
    WriteError
    """
    import zarr

    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists and would be overwritten. Pass overwrite=True (--overwrite), or another path."
        )
    _require_features(model, source)
    n, K, step = n_rows(source), len(model.classes), max(int(source.chunk_rows[0]), 1)
    text = model.classes.dtype.kind == "U"
    lock = threading.Lock()
    row_bytes = model.classes.dtype.itemsize + (4 * K if with_probabilities else 0)
    n_bytes = n * row_bytes + METADATA_BYTES
    with replacing_directory(path, n_bytes) as draft:
        # Chunks of nothing but the fill value are written too: a chunk that is missing is then a loss, not a value.
        options: Any = {"config": {"write_empty_chunks": True}}
        chances = None
        with writing(path, n_bytes):
            group = zarr.create_group(
                draft, zarr_format=3, attributes={"classes": model.classes.tolist()}
            )
            found = group.create_array(
                "labels",
                shape=(n,),
                dtype="string" if text else model.classes.dtype,
                chunks=(step,),
                **options,
            )
            if with_probabilities:
                chances = group.create_array(
                    "probabilities", shape=(n, K), dtype=np.float32, chunks=(step, K), **options
                )

        def write(block: Block) -> None:
            check_finite(block)
            rows = slice(block.first_row, block.first_row + block.n_rows)
            predicted = labels(model, block.X)
            chance = None if chances is None else probabilities(model, block.X).astype(np.float32)
            with lock:  # neighbours may share a stored chunk, which is read, changed and written
                with writing(path, n_bytes):
                    found[rows] = predicted.astype(object) if text else predicted
                    if chances is not None:
                        chances[rows] = chance
                if watch is not None:
                    watch(block.n_rows)

        _each_block(write, source, engine, _scratch(model, source, with_probabilities))
