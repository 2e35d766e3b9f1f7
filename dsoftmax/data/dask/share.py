"""Recipes of blocks: the part of a dask graph that makes one block, picklable without futures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask

from dsoftmax.data.block import Block
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.features import dense_or_csr
from dsoftmax.data.missing import is_masked
from dsoftmax.data.source import Share
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError, DsoftmaxError, ReadError


@dataclass(frozen=True)
class Recipe:
    """The graph that makes one block of X, y, weights and groups, without what other blocks need.

    Attributes
    ----------
    graph : dict
        Tasks by key, without the futures.
    keys : Table of keys
        Keys of the results.
    futures : dict
        Futures on a cluster that the graph refers to, by key.
    first_row, n_rows : int
    """

    graph: dict[Any, Any]
    keys: Table[Any]
    futures: dict[Any, Any]
    first_row: int
    n_rows: int

    def without_futures(self) -> "Recipe":
        """Return the recipe with the keys of its futures alone, so that it can be pickled."""
        return replace(self, futures=dict.fromkeys(self.futures))


@dataclass(frozen=True)
class DaskShare(Share):
    """The recipes of some blocks.

    Attributes
    ----------
    recipes : dict
        Recipes by chunk.
    n_features : int
    values : dict
        Results of futures by key, once the share is bound to them.
    """

    recipes: dict[int, Recipe]
    n_features: int
    values: dict[Any, Any] = field(default_factory=dict)

    def bind(self, values: Mapping[int, Sequence[Any]]) -> "DaskShare":
        results: dict[Any, Any] = {}
        for chunk, found in values.items():
            results.update(zip(self.recipes[chunk].futures, found, strict=True))
        return replace(self, values=results)

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        recipe = self.recipes[chunk]
        known = {
            key: self.values[key] if key in self.values else future.result()
            for key, future in recipe.futures.items()
        }
        values = _computed(recipe, known, chunk)
        _check_sizes(values, recipe, chunk, self.n_features)
        X = values.X if is_masked(values.X) else dense_or_csr(values.X)
        return Block.of(replace(values, X=X), recipe.first_row)


def _computed(recipe: Recipe, known: dict[Any, Any], chunk: int) -> Table[Any]:
    """Compute a recipe in this thread."""
    keys = [key for _, key in recipe.keys.items()]
    graph = {**recipe.graph, **known}
    try:
        found = dict(zip(keys, dask.get(graph, keys), strict=True))
    except DsoftmaxError:
        raise
    except Exception as error:
        raise _failed(recipe, graph, chunk, error) from error
    return recipe.keys.map(lambda key, _: found[key])


def _failed(recipe: Recipe, graph: dict[Any, Any], chunk: int, error: Exception) -> ReadError:
    """Return the error that names the first array whose block cannot be computed alone."""
    first, last = recipe.first_row, recipe.first_row + recipe.n_rows - 1
    name, alone = recipe.keys.names.X, f"{recipe.keys.names.X}.blocks[{chunk}].compute()"
    for part, key in recipe.keys.items():
        try:
            dask.get(graph, key)
        except Exception:
            name = getattr(recipe.keys.names, part)
            if part != "X":  # its own blocks may be others
                alone = f"{name}[{first}:{last + 1}].compute()"
            break
    return ReadError(
        f"{name} rows {first:,}–{last:,}: the dask graph behind this block failed with "
        f"{type(error).__name__}: {error}. Compute it alone to see where: {alone}."
    )


def _check_sizes(values: Table[Any], recipe: Recipe, chunk: int, n_features: int) -> None:
    for name, value in values.named():
        if value.shape[0] != recipe.n_rows:
            raise DataError(
                f"{name}, block {chunk}: dask said {recipe.n_rows:,} rows and the block has "
                f"{value.shape[0]:,}. The array's chunks do not tell its true sizes; call "
                "compute_chunk_sizes() on it first."
            )
    if values.X.shape[1:] != (n_features,):
        raise DataError(
            f"{values.names.X}, block {chunk}: dask said {n_features:,} columns and the block has "
            f"shape {tuple(values.X.shape)}. If the blocks come from map_blocks, pass it chunks=, "
            "the chunks of its result."
        )
