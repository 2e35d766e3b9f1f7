"""Sources of dask arrays: one row of blocks is one chunk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from dsoftmax.compat.dask import (
    block_example,
    culled,
    dependencies_of,
    futures_of,
    optimized,
    tasks_of,
)
from dsoftmax.data.block import Block
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.checks import check_shapes, require_numbers
from dsoftmax.data.columns import Column, ColumnBytes, column_bytes
from dsoftmax.data.dask.arrays import (
    DaskColumn,
    as_array,
    as_column,
    one_column_of_blocks,
    with_known_chunks,
)
from dsoftmax.data.dask.share import DaskShare, Recipe
from dsoftmax.data.kind import kind_of
from dsoftmax.data.missing import is_masked
from dsoftmax.data.rows import StoredRows
from dsoftmax.data.skipped import in_dtypes
from dsoftmax.data.source import Share, first_rows
from dsoftmax.data.table import Names, Table

CSR_SHARE = 20
"""Assumed ratio of dense bytes to CSR bytes of a block, because dask does not know the density."""


@dataclass(frozen=True)
class DaskSource(Share):
    """Blocks of dask arrays.

    Attributes
    ----------
    recipes : dict
        Recipes by chunk.
    dtypes : Table of numpy dtype
    n_features : int
    sparse : bool
    chunk_rows, chunk_bytes : (n_chunks,) int64
    columns : ColumnBytes
    tokens : Table of str
        Dask's names of the arrays, which identify their content.
    stored : tuple of StoredRows
        Readers of the stored arrays among labels, weights and groups.
    """

    recipes: dict[int, Recipe]
    dtypes: Table[np.dtype]
    n_features: int
    sparse: bool
    chunk_rows: NDArray[np.int64]
    chunk_bytes: NDArray[np.int64]
    columns: ColumnBytes
    tokens: Table[str]
    stored: tuple[StoredRows, ...] = ()

    @property
    def names(self) -> Names:
        return self.dtypes.names

    @property
    def dtype(self) -> np.dtype:
        return self.dtypes.X

    @property
    def resident(self) -> bool:
        # Only X counts: blocks whose labels alone are persisted are computed in every pass.
        return all(recipe.keys.X in recipe.futures for recipe in self.recipes.values())

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        return DaskShare(self.recipes, self.n_features).load(chunk)

    def share(self, chunks: Sequence[int]) -> DaskShare:
        # Futures do not travel inside a share: the engine passes them beside it, as dependencies.
        recipes = {chunk: self.recipes[chunk].without_futures() for chunk in chunks}
        return DaskShare(recipes, self.n_features)

    def needs(self, chunk: int) -> tuple[Any, ...]:
        return tuple(self.recipes[chunk].futures.values())

    def smaller_chunks(self, rows: int) -> str:
        X = f"X = X.rechunk({{0: {rows}}})" if rows < self.chunk_rows.max() else ""
        lines = [X, *(column.smaller_chunks(rows) for column in self.stored)]
        return "\n  ".join(filter(None, lines))

    def describe(self) -> dict[str, Any]:
        return {
            "arrays": dict(self.tokens.items()),
            "shape": [int(self.chunk_rows.sum()), self.n_features],
            "dtype": str(self.dtype),
            "chunks": len(self.chunk_rows),
        }


def dask_source(table: Table[Any]) -> DaskSource:
    """Return a source of dask arrays.

    Nothing is computed if dask knows the sizes of all blocks. Otherwise one computation counts
    them.

    Parameters
    ----------
    table : Table of arrays, of which at least one is a dask array
        Blocks of X are ndarray or SciPy sparse; blocks of columns are joined. The other arrays are
        cut to the rows of X's blocks. Weights may be one number.

    Raises
    ------
    DataError
        Shapes do not fit, X is not real numbers, or unknown chunks cannot be paired.
    """
    missing_chunks, declared = table.missing_chunks, _declared(table)
    X = as_array(table.X, table.names.X, missing_chunks)
    if X.ndim != 2:
        labels = getattr(table.y, "shape", None)
        check_shapes(Table(tuple(X.shape), labels, names=table.names), table)
    require_numbers(table.names.X, X.dtype)
    X = with_known_chunks(one_column_of_blocks(X))
    if isinstance(table.weights, Real):
        every = da.full(X.shape[0], float(table.weights), chunks=(X.chunks[0],))
        table = replace(table, weights=every)
    columns: Table[DaskColumn] = table.map_columns(
        lambda values, name: as_column(values, X, name, missing_chunks), DaskColumn(X)
    )
    check_shapes(columns.map(lambda column, _: tuple(column.array.shape)), table)
    starts = first_rows(np.array(X.chunks[0], np.int64))
    arrays = columns.map(lambda column, _: _cut_as(column.array, X))
    missing = in_dtypes(
        table.missing, arrays.map(lambda array, _: array.dtype), issparse(block_example(X))
    )
    for part, values in declared.items():
        missing = missing.adding(part, values)
    arrays = replace(arrays, missing=missing)
    return _source_of(arrays, columns, column_bytes(columns.map(_about(starts)), _copied(arrays)))


def _declared(table: Table[Any]) -> dict[str, tuple[Any, ...]]:
    """Return the values that the Zarr arrays of a table declare as missing, by their attribute."""
    stored = [(part, values) for part, values in table.items() if kind_of(values) == "zarr"]
    if not stored:
        return {}
    from dsoftmax.data.zarr.declared import declared_missing

    return {part: declared_missing(values) for part, values in stored}


def _copied(arrays: Table[da.Array]) -> int:
    """Return the bytes of a row of X if rows may be skipped, else 0."""
    masked = any(is_masked(block_example(array)) for _, array in arrays.items())
    skips = arrays.missing.any or arrays.skipped is not None or masked
    return int(arrays.X.shape[1] * arrays.X.dtype.itemsize) if skips else 0


def _cut_as(array: da.Array, X: da.Array) -> da.Array:
    return array if array.chunks[0] == X.chunks[0] else array.rechunk({0: X.chunks[0]})


def _about(starts: NDArray[np.int64]) -> Any:
    def about(column: DaskColumn, name: str) -> Column:
        cached = 0 if column.stored is None else column.stored.cached_bytes(starts)
        return Column(column.array.dtype, False, cached)

    return about


def _source_of(
    arrays: Table[da.Array], columns: Table[DaskColumn], n_bytes: ColumnBytes
) -> DaskSource:
    X = arrays.X
    futures = futures_of(array for _, array in arrays.items())
    simpler = dict(
        zip(
            [part for part, _ in arrays.items()],
            optimized([array for _, array in arrays.items()]),
            strict=True,
        )
    )
    arrays = replace(arrays, **simpler)
    tasks = tasks_of(array for _, array in arrays.items())
    chunk_rows = np.array(X.chunks[0], np.int64)
    sizes = zip(first_rows(chunk_rows).tolist(), chunk_rows.tolist(), strict=True)
    recipes = {
        chunk: _recipe(arrays, tasks, futures, chunk, start, rows)
        for chunk, (start, rows) in enumerate(sizes)
    }
    sparse = issparse(block_example(X))
    row_bytes = X.shape[1] * X.dtype.itemsize // (CSR_SHARE if sparse else 1)
    return DaskSource(
        recipes,
        arrays.map(lambda array, _: array.dtype),
        int(X.shape[1]),
        sparse,
        chunk_rows,
        chunk_rows * max(row_bytes, 1),
        n_bytes,
        arrays.map(lambda array, _: str(array.name)),
        tuple(column.stored for _, column in columns.columns() if column.stored is not None),
    )


def _recipe(
    arrays: Table[da.Array],
    tasks: dict[Any, Any],
    futures: dict[Any, Any],
    chunk: int,
    first_row: int,
    n_rows: int,
) -> Recipe:
    """Return the recipe of one row of blocks: its tasks, and the futures to which they refer."""
    keys = arrays.map(
        lambda array, _: (array.name, chunk, 0) if array.ndim == 2 else (array.name, chunk)
    )
    wanted = [key for _, key in keys.items()]
    part = culled(tasks, wanted)
    named = {*wanted, *dependencies_of(part)}
    own = {key: futures[key] for key in named if key in futures and key not in part}
    return Recipe(part, keys, own, first_row, n_rows)
