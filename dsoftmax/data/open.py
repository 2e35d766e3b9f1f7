"""Where rows come from, one storage a file. To add one: a file, a line in `open_source`, and `check_source` passes."""

import os
from typing import Any

import scipy.sparse

from dsoftmax.data.block import Names
from dsoftmax.data.checks import MISSING_CHUNKS
from dsoftmax.data.source import Source
from dsoftmax.errors import DataError, unknown_option


def open_source(
    X: Any,
    y: Any = None,
    weights: Any = None,
    names: Names | None = None,
    missing_chunks: str = "error",
    groups: Any = None,
) -> Source:
    """Return the source for what X, y, weights and groups are.

    Parameters
    ----------
    X : (n, p) ndarray, SciPy sparse, zarr.Array or dask array
        A dask array anywhere makes the whole source one of dask.
    y, weights : (n,) the same kinds, optional
        One number is the weight of every row.
    names : Names, optional
        For messages.
    missing_chunks : {"error", "fill"}
        For Zarr: what a chunk that is not in the store means.
    groups : (n,) the same kinds, optional
        Rows of one group fall into the same fold.

    Raises
    ------
    DataError
        What is no array; shapes or dtypes that do not fit.
    OptionError
        ``missing_chunks`` is unknown.
    """
    if missing_chunks not in MISSING_CHUNKS:
        raise unknown_option("missing_chunks", missing_chunks, MISSING_CHUNKS)
    names = names or Names()
    require_array(X, names.X)
    for column, name in ((y, names.y), (weights, names.weights), (groups, names.groups)):
        require_column(column, name)
    kinds = {_kind(values) for values in (X, y, weights, groups) if values is not None}
    if "dask" in kinds:
        from dsoftmax.data.dask import dask_source

        return dask_source(X, y, weights, names, missing_chunks, groups)
    if _kind(X) == "zarr":
        from dsoftmax.data.zarr.source import zarr_source

        return zarr_source(X, y, weights, names, missing_chunks, groups)
    if (
        "zarr" in kinds
    ):  # columns beside rows that are in memory: read whole, but no missing chunk is passed over
        from dsoftmax.data.zarr.source import read_whole

        y = read_whole(y, names.y, missing_chunks) if _kind(y) == "zarr" else y
        weights = (
            read_whole(weights, names.weights, missing_chunks)
            if _kind(weights) == "zarr"
            else weights
        )
        groups = (
            read_whole(groups, names.groups, missing_chunks) if _kind(groups) == "zarr" else groups
        )
    from dsoftmax.data.memory import memory_source

    return memory_source(X, y, weights, names, groups)


def require_array(values: Any, name: str) -> None:
    """Raise where a path or a Zarr group was given for an array.

    Raises
    ------
    DataError
    """
    if isinstance(values, (str, bytes, os.PathLike)):
        path = os.fsdecode(values)
        raise DataError(
            f"{name} is {values!r}; needed is an array. If this is the path of one, open it: zarr.open_array({path!r}, mode='r')."
        )
    if _kind(values) == "zarr":
        from dsoftmax.data.zarr.names import require_no_group

        require_no_group(values, name)


def require_column(values: Any, name: str) -> None:
    """Raise as `require_array` does, and where labels, weights or groups are sparse.

    Raises
    ------
    DataError
    """
    require_array(values, name)
    if scipy.sparse.issparse(values):
        raise DataError(
            f"{name} is sparse, of shape {values.shape}; needed is one value a row. Pass {name}.toarray().ravel()."
        )


def _kind(values: Any) -> str:
    """Tell dask and Zarr arrays by their class's home, so that neither package is imported for the others' sake."""
    home = type(values).__module__.partition(".")[0]
    return home if home in ("dask", "zarr") else "memory"


def is_dask(X: Any) -> bool:
    """Return whether X is a dask collection, so that what is made from it should be lazy too."""
    return _kind(X) == "dask"


def is_lazy(X: Any) -> bool:
    """Return whether X is stored or lazy, so that it must not be read as a whole."""
    return _kind(X) != "memory"
