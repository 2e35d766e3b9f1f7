"""The door: from a table of arrays to a source.

A new storage is one file and one line in `open_source`.
"""

import os
from typing import Any

import scipy.sparse

from dsoftmax.data.kind import kind_of
from dsoftmax.data.memory import memory_source
from dsoftmax.data.skipped import with_known_rows
from dsoftmax.data.source import Source
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError


def open_source(table: Table[Any]) -> Source:
    """Return the source for the kinds of arrays of a table.

    Parameters
    ----------
    table : Table of arrays
        X is (n, p): an ndarray, SciPy sparse, zarr.Array or dask array. Columns are (n,), of the
        same kinds but not sparse. Weights may be one number, the weight of every row. Rows of one
        group fall into the same fold. One dask array makes the whole source a source of dask
        arrays. Masked entries, and the values that ``table.missing`` names, skip their rows.

    Raises
    ------
    OptionError
        A missing value cannot occur in its array.
    DataError
        A value is not an array, or shapes or dtypes do not fit.
    """
    require_array(table.X, table.names.X)
    for name, values in list(table.named())[1:]:
        require_column(values, name)
    kinds = {kind_of(values) for _, values in table.items()}
    if "dask" in kinds:
        from dsoftmax.data.dask.source import dask_source

        return dask_source(with_known_rows(table))
    if kind_of(table.X) == "zarr":
        from dsoftmax.data.zarr.source import zarr_source

        return zarr_source(with_known_rows(table))
    if "zarr" in kinds:  # columns of rows that are in memory
        from dsoftmax.data.zarr.source import with_columns_read

        table = with_columns_read(table)
    return memory_source(with_known_rows(table))


def require_array(values: Any, name: str) -> None:
    """Raise if a path or a Zarr group was given for an array.

    Raises
    ------
    DataError
    """
    if isinstance(values, (str, bytes, os.PathLike)):
        path = os.fsdecode(values)
        raise DataError(
            f"{name} is {values!r}; expected an array. If this is the path of one, open it: "
            f"zarr.open_array({path!r}, mode='r')."
        )
    if kind_of(values) == "zarr":
        from dsoftmax.data.zarr.names import require_no_group

        require_no_group(values, name)


def require_column(values: Any, name: str) -> None:
    """Raise as `require_array` does, and if labels, weights or groups are sparse.

    Raises
    ------
    DataError
    """
    require_array(values, name)
    if scipy.sparse.issparse(values):
        raise DataError(
            f"{name} is sparse, of shape {values.shape}; expected one value per row. Pass "
            f"{name}.toarray().ravel()."
        )
