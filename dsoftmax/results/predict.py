"""Outputs of a model for rows of any size: lazy for dask, chunk by chunk for Zarr."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.checks import check_shapes
from dsoftmax.data.cubes.xarrays import FeatureDim, is_cube_like
from dsoftmax.data.features import Features
from dsoftmax.data.kind import is_dask, is_lazy, kind_of
from dsoftmax.data.missing import Missing, Reasons, is_masked
from dsoftmax.data.open import admitted, dask_features, open_source
from dsoftmax.data.source import Source, n_rows
from dsoftmax.data.table import Names, Table
from dsoftmax.engines.base import Engine
from dsoftmax.engines.feed import Feed
from dsoftmax.engines.threads import ThreadsEngine, on_threads
from dsoftmax.engines.visit import Footprint
from dsoftmax.kernels.footprint import gradient_bytes
from dsoftmax.kernels.tiles import compute_dtype
from dsoftmax.results.legend import legend_of
from dsoftmax.results.no_data import NO_SKIPS, Predict, Skips, label_dtype, report_predicted
from dsoftmax.results.outputs import (
    SLAB_VALUES,
    Coefficients,
    Output,
    labels,
    logits,
    require_features,
)
from dsoftmax.typing import Predictions


@dataclass(frozen=True)
class CubeOptions:
    """How a cube of xarray is read and labelled.

    Attributes
    ----------
    feature_dim : str or sequence of str, or None
    names : p strings, or None
        Names of the features of the model.
    about : mapping
        Record of the model, with names and colours of classes.
    nodata : label, optional
        Value of pixels without data, as the user gave it.
    """

    feature_dim: FeatureDim = None
    names: Any = None
    about: Mapping[str, Any] = field(default_factory=dict)
    nodata: Any = None


NO_CUBE = CubeOptions()


def apply(
    output: Output,
    model: Coefficients,
    X: Any,
    dtype: np.dtype | None = None,
    engine: Engine | None = None,
    missing_chunks: str = "error",
    owner: str = "the model",
    skips: Skips = NO_SKIPS,
    cube: CubeOptions = NO_CUBE,
) -> Predictions:
    """Return an output of the model for every row of X.

    One line is logged if rows are skipped, except for a dask array.

    Parameters
    ----------
    output : callable
        One of the functions of `dsoftmax.results.outputs`.
    model : Coefficients
    X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
    dtype : numpy dtype, optional
        Dtype of the products; follows the stored dtype when None.
    engine : Engine, optional
        A `ThreadsEngine` sets the number of threads and the memory limit. Any other engine, or
        None, means this machine's cores.
    missing_chunks : {"error", "fill"}
        Meaning of a Zarr chunk that is not in the store: an error, or the fill value.
    owner : str
        The model, as its user spells it in messages.
    skips : Skips
        Rows without data, and their label.
    cube : CubeOptions
        How a cube of xarray is read and labelled.

    Returns
    -------
    (n,) or (n, K) array
        A DataArray if X is a cube of xarray. A lazy dask array with the row chunks of X if X is
        a dask array. Otherwise an ndarray.

    Raises
    ------
    DataError
        X has another number of features, is not two-dimensional, or holds NaN or infinity. For a
        dask array, NaN and infinity are found when the result is computed.
    """
    if is_cube_like(X, cube.feature_dim):
        from dsoftmax.results.data_arrays import predict_cube

        legend = legend_of(model.classes, cube.about, cube.nodata)
        wanted = None if output is labels else output
        return predict_cube(wanted, model, X, cube.feature_dim, cube.names, legend, skips, dtype)
    X = admitted(X, "X")
    given = X
    if not (is_lazy(X) or scipy.sparse.issparse(X)):
        X = X if is_masked(X) else np.asarray(X)
    X, reasons = dask_features(X)
    if len(X.shape) != 2:
        check_shapes(Table(tuple(X.shape)), Table(given), model.theta.shape[1] - 1)
    require_features(model, X.shape[1], owner=owner)
    wide, stored = output is not labels, np.dtype(X.dtype)
    missing = skips.values(stored)
    products = dtype or compute_dtype(stored)
    predict = Predict(
        output,
        model,
        products,
        np.nan if wide else skips.label,
        products if wide else label_dtype(model.classes, skips.label),
        wide,
    )
    if is_dask(X):
        from dsoftmax.data.dask.arrays import map_rows

        n_columns = len(model.classes) if wide else None
        on_rows = partial(_on_rows, predict, missing)
        return map_rows(X, on_rows, n_columns, predict.dtype, reasons)
    source = open_source(Table(X, missing_chunks=missing_chunks, missing=missing))
    shape = (n_rows(source), len(model.classes)) if wide else (n_rows(source),)
    out = np.empty(shape, predict.dtype)
    counts: list[NDArray[np.int64]] = []

    def fill(block: Block) -> None:
        rows = slice(block.first_row, block.first_row + block.n_rows)
        out[rows], skipped = predict(block)
        if skipped is not None:
            counts.append(skipped)

    each_block(fill, source, engine, scratch_bytes(model, source, wide))
    report_predicted(counts, len(out), predict.fill, wide)
    return out


def apply_decision(
    model: Coefficients,
    X: Any,
    dtype: np.dtype | None = None,
    engine: Engine | None = None,
    missing_chunks: str = "error",
    owner: str = "the model",
    skips: Skips = NO_SKIPS,
    cube: CubeOptions = NO_CUBE,
) -> Predictions:
    """Return what scikit-learn calls the decision function: z₁ − z₀ for two classes, else z.

    Parameters and errors are those of `apply`.

    Returns
    -------
    (n,) for two classes, else (n, K) array
    """
    z: Any = apply(logits, model, X, dtype, engine, missing_chunks, owner, skips, cube)
    if kind_of(z) == "xarray":
        z = z.rename("decision")
        return z[1].drop_vars("class") - z[0].drop_vars("class") if len(model.classes) == 2 else z
    return z[:, 1] - z[:, 0] if len(model.classes) == 2 else z


def _on_rows(
    predict: Predict, missing: Missing, X: Features, reasons: Reasons | None = None
) -> NDArray:
    # A lazy block does not know its position in X, so the message counts its rows from 0.
    names = Names(X="In a block of X,")
    table: Table[Any] = Table(X, names=names, missing=missing, skipped=reasons)
    return predict(Block.of(table, 0))[0]


def each_block(
    function: Callable[[Block], None],
    source: Source,
    engine: Engine | None,
    scratch: int,
    chunks: Sequence[int] | None = None,
) -> None:
    """Call a function on every block, on as many threads as the memory limit allows.

    Parameters
    ----------
    function : callable
        Called with a `Block`, from several threads.
    source : Source
    engine : Engine, optional
        A `ThreadsEngine` sets the number of threads and the memory limit.
    scratch : int
        Bytes that one call of ``function`` allocates.
    chunks : sequence of int, optional
        Chunks of the blocks; all of them when None.
    """
    chunks = range(len(source.chunk_rows)) if chunks is None else chunks
    threads = engine if isinstance(engine, ThreadsEngine) else ThreadsEngine()
    plan = threads.plan(source, Footprint(scratch=scratch))

    def work(blocks: Iterator[Block]) -> None:
        for block in blocks:
            function(block)

    on_threads(work, Feed(source, chunks, plan, source.resident, whole=True))


def scratch_bytes(model: Coefficients, source: Source, wide: bool) -> int:
    """Return the bytes that predicting the largest block allocates, beside its rows.

    Parameters
    ----------
    model : Coefficients
    source : Source
    wide : bool
        Whether the output has a column per class, so that the logits of all rows are in memory at
        once. Otherwise they are computed in slabs of `SLAB_VALUES`.
    """
    rows, K, p = int(source.chunk_rows.max(initial=0)), len(model.classes), source.n_features
    outputs = 3 * 8 * (rows * K if wide else min(rows * K, SLAB_VALUES))
    tile = min(gradient_bytes(p, K, np.dtype(np.float64), source.sparse), rows * 8 * (p + 4 * K))
    # θ in the dtype of the products, the extremes of the features, and a class times these.
    return outputs + source.columns.copied * rows + tile + model.theta.nbytes + 64 * p


def require_memory(
    model: Coefficients, source: Source, engine: ThreadsEngine, wide: bool = False
) -> None:
    """Reserve memory for coefficients that will be read, and plan their predictions.

    Parameters
    ----------
    model : Coefficients
        The shape of θ is enough: see `dsoftmax.results.stored_model.sketch_model`.
    source : Source
    engine : ThreadsEngine
    wide : bool
        Whether probabilities are predicted.

    Raises
    ------
    MemoryLimitError
        Not even one thread with one block fits.
    """
    engine.reserve(model.theta.nbytes)
    engine.plan(source, Footprint(scratch=scratch_bytes(model, source, wide)))
