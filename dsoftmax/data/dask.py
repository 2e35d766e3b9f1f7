"""Dask arrays: any graph behind them, computed inside the task that visits the block; persisted blocks stay where they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import scipy.sparse
from dask._task_spec import convert_legacy_graph
from dask.optimization import cull
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Buffer, Names
from dsoftmax.data.checks import check_shapes, real_weights, require_numbers
from dsoftmax.data.columns import columns_of
from dsoftmax.data.features import dense_or_csr
from dsoftmax.data.groups import group_keys
from dsoftmax.data.memory import row_bytes_and_step
from dsoftmax.data.source import Columns, first_rows
from dsoftmax.errors import DataError, DsoftmaxError, ReadError

if TYPE_CHECKING:
    from dsoftmax.data.zarr.rows import ZarrRows


@dataclass(frozen=True)
class Recipe:
    """One block of X, y, weights and groups: the culled graph that makes it, and what of it lives on a cluster.

    Attributes
    ----------
    graph : dict
        Without the futures.
    keys : tuple
        Of X, y, weights and groups; None where there is none.
    futures : dict
        From key to future.
    """

    graph: dict[Any, Any]
    keys: tuple[Any, ...]
    futures: dict[Any, Any]
    first_row: int
    n_rows: int


@dataclass(frozen=True)
class DaskShare:
    """The recipes of some blocks; ``values`` holds what futures stood for, once the share is bound to them."""

    recipes: dict[int, Recipe]
    names: Names
    n_features: int
    values: dict[Any, Any] = field(default_factory=dict)

    def bind(self, held: dict[int, Sequence[Any]]) -> "DaskShare":
        """Return the share with the blocks that its worker holds in the place of futures."""
        values: dict[Any, Any] = {}
        for chunk, results in held.items():
            values.update(zip(self.recipes[chunk].futures, results, strict=True))
        return DaskShare(self.recipes, self.names, self.n_features, values)

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        recipe = self.recipes[chunk]
        known = {
            key: self.values[key] if key in self.values else future.result()
            for key, future in recipe.futures.items()
        }
        wanted = [key for key in recipe.keys if key is not None]
        rows = f"{self.names.X} rows {recipe.first_row:,}–{recipe.first_row + recipe.n_rows - 1:,}"
        try:
            found = dict(zip(wanted, dask.get({**recipe.graph, **known}, wanted), strict=True))
        except DsoftmaxError:
            raise
        except Exception as error:
            raise ReadError(
                f"{rows}: the dask graph behind this block failed with {type(error).__name__}: {error}. "
                f"Compute it alone to see where: X.blocks[{chunk}].compute()."
            ) from error
        X, y, weights, groups = parts = [None if key is None else found[key] for key in recipe.keys]
        names = self.names
        for name, part in zip((names.X, names.y, names.weights, names.groups), parts, strict=True):
            if part is not None and part.shape[0] != recipe.n_rows:
                raise DataError(
                    f"{name}, block {chunk}: dask said {recipe.n_rows:,} rows and the block has {part.shape[0]:,}. "
                    "The array's chunks do not tell its true sizes; call compute_chunk_sizes() on it first."
                )
        assert X is not None
        if X.shape[1:] != (self.n_features,):
            raise DataError(
                f"{names.X}, block {chunk}: dask said {self.n_features:,} columns and the block has shape {tuple(X.shape)}. Where "
                "the blocks come from map_blocks, pass it chunks=, the chunks of its result."
            )
        return Block(
            dense_or_csr(X),
            None if y is None else np.asarray(y),
            None if weights is None else real_weights(weights, names.weights),
            recipe.first_row,
            names,
            None
            if groups is None
            else group_keys(np.asarray(groups), names.groups, recipe.first_row),
        )


@dataclass(frozen=True)
class DaskSource:
    """Blocks of dask arrays, one row of blocks a chunk; ``stored`` are the Zarr arrays among labels, weights and groups."""

    recipes: dict[int, Recipe]
    names: Names
    n_features: int
    dtype: np.dtype
    sparse: bool
    chunk_rows: NDArray[np.int64]
    chunk_bytes: NDArray[np.int64]
    columns: Columns
    tokens: dict[str, str]
    stored: tuple["ZarrRows", ...] = ()

    @property
    def resident(self) -> bool:
        return all(
            recipe.keys[0] in recipe.futures for recipe in self.recipes.values()
        )  # X's own; labels alone may be, too

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        return DaskShare(self.recipes, self.names, self.n_features).load(chunk)

    def share(self, chunks: Sequence[int]) -> DaskShare:
        # Futures do not travel inside a share: the engine passes them beside it, as dependencies.
        recipes = {}
        for chunk in chunks:
            one = self.recipes[chunk]
            recipes[chunk] = Recipe(
                one.graph, one.keys, dict.fromkeys(one.futures), one.first_row, one.n_rows
            )
        return DaskShare(recipes, self.names, self.n_features)

    def needs(self, chunk: int) -> tuple[Any, ...]:
        return tuple(self.recipes[chunk].futures.values())

    def smaller_chunks(self, rows: int) -> str:
        lines = [f"X = X.rechunk({{0: {rows}}})"] if rows < self.chunk_rows.max() else []
        return "\n  ".join(
            [*lines, *filter(None, (column.smaller_chunks(rows) for column in self.stored))]
        )

    def describe(self) -> dict[str, Any]:
        return {
            "arrays": dict(self.tokens),
            "shape": [int(self.chunk_rows.sum()), self.n_features],
            "dtype": str(self.dtype),
            "chunks": len(self.chunk_rows),
        }


def dask_source(
    X: Any,
    y: Any = None,
    weights: Any = None,
    names: Names | None = None,
    missing_chunks: str = "error",
    groups: Any = None,
) -> DaskSource:
    """Return a source of dask arrays; nothing is computed unless chunk sizes are unknown, which costs one pass to count.

    Parameters
    ----------
    X : (n, p) dask array
        Of ndarray or SciPy sparse blocks. Blocks of columns are joined.
    y, weights : (n,) dask array or array-like, optional; weights may be one number
        Cut to the rows of X's blocks.
    names : Names, optional
    missing_chunks : {"error", "fill"}
        For Zarr arrays among them: what a chunk that is not in the store means.
    groups : (n,) dask array or array-like, optional

    Raises
    ------
    DataError
        Shapes that do not fit, X without real numbers, or unknown chunks that cannot be paired.
    """
    names = names or Names()
    if not isinstance(X, da.Array):
        X = _as_dask(X, ("auto", -1), names.X, missing_chunks)
    if X.ndim == 2:
        require_numbers(names.X, X.dtype)
        X = X if X.numblocks[1] == 1 else X.rechunk({1: -1})
        X = _with_known_chunks(X)
    else:
        check_shapes(names, X.shape, None, None)
    if isinstance(weights, Real):
        weights = da.full(X.shape[0], float(weights), chunks=(X.chunks[0],))
    columns = [
        _as_column(values, X, name, missing_chunks)
        for values, name in ((y, names.y), (weights, names.weights), (groups, names.groups))
    ]
    check_shapes(names, X.shape, *(None if column is None else column.shape for column in columns))
    stored = [
        _zarr_rows(values, name, missing_chunks)
        for values, name in ((y, names.y), (weights, names.weights), (groups, names.groups))
    ]
    rows = X.chunks[0]
    arrays = [
        X,
        *(a if a is None or a.chunks[0] == rows else a.rechunk({0: rows}) for a in columns),
    ]
    present = [array for array in arrays if array is not None]
    futures = {
        key: node
        for array in present
        for key, node in dict(array.__dask_graph__()).items()
        if _is_future(node)
    }
    optimized = iter(dask.optimize(*present))
    arrays = [None if array is None else next(optimized) for array in arrays]
    graph: dict[Any, Any] = {}
    for array in arrays:
        if array is not None:
            graph.update(array.__dask_graph__())
    graph = convert_legacy_graph({key: node for key, node in graph.items() if not _is_future(node)})
    chunk_rows = np.array(rows, np.int64)
    starts = first_rows(chunk_rows)
    recipes = {}
    for chunk in range(len(rows)):
        keys = tuple(
            None if a is None else (a.name, chunk, 0) if a.ndim == 2 else (a.name, chunk)
            for a in arrays
        )
        wanted = [key for key in keys if key is not None]
        part, _ = cull(graph, [key for key in wanted if key in graph])
        named = {*wanted, *(key for node in part.values() for key in node.dependencies)}
        held = {key: futures[key] for key in named if key in futures and key not in part}
        recipes[chunk] = Recipe(dict(part), keys, held, int(starts[chunk]), int(rows[chunk]))
    sparse = scipy.sparse.issparse(X._meta)
    row_bytes = (
        X.shape[1] * X.dtype.itemsize // (20 if sparse else 1)
    )  # CSR: a guess until the blocks are seen
    return DaskSource(
        recipes,
        names,
        int(X.shape[1]),
        X.dtype,
        sparse,
        chunk_rows,
        chunk_rows * max(row_bytes, 1),
        columns_of(
            starts,
            *(
                column if rows is None else rows
                for rows, column in zip(stored, columns, strict=True)
            ),
        ),
        {
            part: str(a.name)
            for part, a in zip(("X", "y", "weights", "groups"), arrays, strict=True)
            if a is not None
        },
        tuple(rows for rows in stored if rows is not None),
    )


def _is_future(node: Any) -> bool:
    return hasattr(node, "key") and hasattr(node, "client") and hasattr(node, "result")


def _as_dask(values: Any, chunks: Any, name: str, missing_chunks: str) -> da.Array:
    if isinstance(values, da.Array):
        return values
    if type(values).__module__.startswith("dask"):
        raise DataError(
            f"{name} is a dask {type(values).__name__}; needed is a dask array. Pass {name}.to_dask_array(lengths=True) for a "
            "DataFrame or Series."
        )
    if (rows := _zarr_rows(values, name, missing_chunks)) is not None:
        from dsoftmax.data.zarr.source import row_chunks

        if chunks[0] == "auto":  # whole shards or chunks of rows
            chunks = (tuple(row_chunks(rows).tolist()), *rows.shape[1:])
        return da.from_array(rows, chunks=chunks)
    if scipy.sparse.issparse(values):
        values = dense_or_csr(values)
        return da.from_array(values, chunks=(row_bytes_and_step(values)[1], -1), asarray=False)
    array = np.asarray(values)
    return da.from_array(array, chunks=chunks if array.ndim == len(chunks) else "auto")


def _zarr_rows(values: Any, name: str, missing_chunks: str) -> "ZarrRows | None":
    """Return what reads a Zarr array, None for any other."""
    if not hasattr(values, "store_path"):
        return None
    from dsoftmax.data.zarr.rows import ZarrRows

    return ZarrRows(values, name, missing_chunks)


def _as_column(values: Any, X: da.Array, name: str, missing_chunks: str) -> da.Array | None:
    if values is None:
        return None
    aligned = getattr(values, "shape", None) == X.shape[:1]
    column = _as_dask(values, (X.chunks[0] if aligned else "auto",), name, missing_chunks)
    return _with_known_chunks(column) if column.ndim == 1 else column


def _with_known_chunks(array: da.Array) -> da.Array:
    """Return the array with the sizes of its blocks, counted by computing it once where dask does not know them."""
    if not any(np.isnan(size) for sizes in array.chunks for size in sizes):
        return array
    counted = array.copy()
    counted.compute_chunk_sizes()
    return counted


def map_rows(
    X: da.Array, function: Callable[[Any], NDArray], n_columns: int | None, dtype: np.dtype
) -> da.Array:
    """Return the lazy array of ``function`` on every block of rows; nothing is computed.

    Parameters
    ----------
    X : (n, p) dask array
        Of ndarray or SciPy sparse blocks; sizes of its blocks may be unknown.
    function : callable
        From rows of X to (rows,) where ``n_columns`` is None, else to (rows, n_columns).
    n_columns : int or None
    dtype : numpy dtype
        Of what ``function`` returns.
    """
    X = X if X.numblocks[1] == 1 else X.rechunk({1: -1})

    def on_block(block: Any) -> NDArray:
        return function(dense_or_csr(block))

    if n_columns is None:
        return X.map_blocks(on_block, drop_axis=1, dtype=dtype, meta=np.empty(0, dtype))
    return X.map_blocks(
        on_block, chunks=(X.chunks[0], (n_columns,)), dtype=dtype, meta=np.empty((0, 0), dtype)
    )
