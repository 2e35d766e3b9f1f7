"""The door: from a table of arrays to a source.

A new storage is one file and one line in `open_source`.
"""

from typing import Any

import scipy.sparse

from dsoftmax.data.checks import check_shapes
from dsoftmax.data.containers import require_no_container
from dsoftmax.data.cures import sparse_column_line
from dsoftmax.data.kind import expression, is_stored, kind_of
from dsoftmax.data.memory import memory_source
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.errors import DataError


def open_source(table: Table[Any]) -> Source:
    """Return the source for the kinds of arrays of a table.

    Parameters
    ----------
    table : Table of arrays
        X is (n, p): an ndarray, SciPy sparse, zarr.Array, h5py.Dataset, dask array, or an
        xarray.DataArray of one of them. Columns are (n,), of the
        same kinds but not sparse. Weights may be one number, the weight of every row. Rows of one
        group fall into the same fold. One dask array makes the whole source a source of dask
        arrays.

    Raises
    ------
    DataError
        A value is not an array, or shapes or dtypes do not fit.
    """
    table = table.map_columns(admitted_column, admitted(table.X, table.names.X))
    kinds = {kind_of(values) for _, values in table.items()}
    if "dask" in kinds:
        from dsoftmax.data.dask.source import dask_source

        return dask_source(table)
    if is_stored(table.X):
        from dsoftmax.data.zarr.source import zarr_source

        return zarr_source(table)
    if kinds & {"zarr", "h5py"}:  # columns of rows that are in memory
        from dsoftmax.data.zarr.source import with_columns_read

        table = with_columns_read(table)
    return memory_source(table)


def admitted(values: Any, name: str) -> Any:
    """Return an array as dsoftmax reads it: an xarray.DataArray becomes the array that it holds.

    Raises
    ------
    DataError
        The values are a path, a group of arrays, or another container that is no array.
    """
    require_no_container(values, name, column=False)
    if kind_of(values) == "xarray" and len(values.dims) != 2:
        check_shapes(Table(tuple(values.shape), names=Names(name)), Table(values))
    return _inner(values, name)


def admitted_column(values: Any, name: str) -> Any:
    """Return labels, weights or groups as `admitted` does.

    Raises
    ------
    DataError
        As `admitted`, and if the values are sparse.
    """
    require_no_container(values, name, column=True)
    if scipy.sparse.issparse(values):
        raise DataError(
            f"{name} is sparse, of shape {values.shape}; expected one value per row. Pass "
            f"{sparse_column_line(name, values.shape)}."
        )
    if kind_of(values) == "xarray" and len(values.dims) != 1:
        raise DataError(
            f"{name} has the dimensions {values.dims}; expected one value per row. Pass "
            f"{expression(values, name)}.ravel()."
        )
    return _inner(values, name)


def _inner(values: Any, name: str) -> Any:
    kind = kind_of(values)
    if kind == "zarr":
        from dsoftmax.data.zarr.names import require_no_group

        require_no_group(values, name)
    if kind == "h5py":
        from dsoftmax.data.hdf5 import require_dataset

        require_dataset(values, name)
    if kind == "xarray":
        from dsoftmax.data.data_arrays import array_of

        return admitted(array_of(values), name)
    return values
