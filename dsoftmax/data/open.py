"""The door: from a table of arrays to a source.

A new storage is one file and one line in `open_source`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.checks import check_shapes
from dsoftmax.data.coding import Coding
from dsoftmax.data.containers import require_no_container
from dsoftmax.data.counts import Normalisation, Normalised
from dsoftmax.data.cures import sparse_column_line
from dsoftmax.data.kind import (
    expression,
    has_columns,
    is_cube,
    is_dask_series,
    is_frame,
    is_lazy_frame,
    is_stored,
    kind_of,
)
from dsoftmax.data.memory import memory_source
from dsoftmax.data.missing import missing_rows
from dsoftmax.data.readers import reader_of
from dsoftmax.data.skipped import with_known_rows
from dsoftmax.data.soft import StoredSoft
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.errors import DataError


def open_source(table: Table[Any]) -> Source:
    """Return the source for the kinds of arrays of a table.

    Parameters
    ----------
    table : Table of arrays
        X is (n, p): an ndarray, SciPy sparse, zarr.Array, h5py.Dataset, dask array, or a group in
        which AnnData stores a matrix, or an xarray.DataArray of an array. Columns are (n,), of the
        same kinds but not sparse. Weights may be one number, the weight of every row. Rows of one
        group fall into the same fold. One dask array makes the whole source a source of dask
        arrays, unless AnnData stores X. Masked entries, and the values that ``table.missing``
        names, skip their rows.

    Raises
    ------
    OptionError
        A missing value cannot occur in its array.
    DataError
        A value is not an array, or shapes or dtypes do not fit.
    """
    table = table.map_columns(admitted_column, admitted(table.X, table.names.X))
    if is_cube(table.X):
        from dsoftmax.data.cubes.source import cube_source

        return cube_source(table)
    if any(is_frame(values) for _, values in table.items()):
        from dsoftmax.data.frames.open import as_dask

        table = as_dask(table)
    if kind_of(table.X) == "stored":
        # No dask array is made of X. The columns need less memory.
        table = table.map_columns(lambda values, _: _computed(values), table.X)
        if is_frame(table.X):
            from dsoftmax.data.frames.source import frame_source

            return frame_source(with_known_rows(table))
        from dsoftmax.data.anndata.source import anndata_source

        return anndata_source(with_known_rows(table))
    kinds = {kind_of(values) for _, values in table.items()}
    if "dask" in kinds:
        from dsoftmax.data.dask.arrays import lazy_soft
        from dsoftmax.data.dask.source import dask_source

        if isinstance(table.y, StoredSoft):
            table = replace(table, y=lazy_soft(table.y))
        return dask_source(with_known_rows(_with_columns_read(table, ("stored",))))
    if is_stored(table.X):
        from dsoftmax.data.zarr.source import zarr_source

        return zarr_source(with_known_rows(table))
    return memory_source(with_known_rows(_with_columns_read(table, ("zarr", "h5py", "stored"))))


def _with_columns_read(table: Table[Any], kinds: tuple[str, ...]) -> Table[Any]:
    """Return a table whose columns of these kinds are in memory.

    Missing chunks are reported as always. Values that the storage declares as missing are masked.
    """

    def read(values: Any, name: str) -> Any:
        if kind_of(values) not in kinds:
            return values
        rows = reader_of(values, name, table.missing_chunks)
        found = rows.read(0, rows.shape[0])
        hits = missing_rows(found, rows.declared)
        return found if hits is None else np.ma.MaskedArray(found, hits)

    return table.map_columns(read, table.X)


def _computed(values: Any) -> Any:
    return np.asanyarray(values.compute()) if kind_of(values) == "dask" else values


def admitted(values: Any, name: str) -> Any:
    """Return an array as dsoftmax reads it. Opening reads metadata only.

    An xarray.DataArray becomes the array that it holds. A group in which AnnData stores one array
    becomes a `dsoftmax.data.rows.Stored`.

    Raises
    ------
    DataError
        The values are a path, a group of arrays, or another container that is no array.
    """
    values = _stored_by_anndata(values, name)
    require_no_container(values, name, column=False)
    if kind_of(values) == "xarray" and len(values.dims) > 2:
        raise DataError(
            f"{name} has the dimensions {', '.join(map(str, values.dims))}; expected to know which "
            f"of them holds the features. Pass feature_dim={str(values.dims[0])!r}, for example."
        )
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
    values = _stored_by_anndata(values, name)
    if is_dask_series(values):
        from dsoftmax.data.frames.open import series_column

        return series_column(values)
    require_no_container(values, name, column=True)
    if kind_of(values) == "xarray" and len(values.dims) != 1:
        raise DataError(
            f"{name} has the dimensions {values.dims}; expected one value per row. Pass "
            f"{expression(values, name)}.ravel()."
        )
    values = _inner(values, name)
    stored = kind_of(values) == "stored"
    if scipy.sparse.issparse(values) or (stored and values.sparse):
        cure = sparse_column_line(name, values.shape)
        raise DataError(
            f"{name} is sparse, of shape {values.shape}; expected one value per row. Pass "
            f"{'a column, such as one of obs' if stored else cure}."
        )
    return values


def _inner(values: Any, name: str) -> Any:
    kind = kind_of(values)
    if kind == "h5py":
        from dsoftmax.data.hdf5.rows import is_view, require_open

        require_open(values, name)
        if is_view(values):
            return values
    if kind in ("zarr", "h5py"):
        from dsoftmax.data.anndata.element import element_of

        element = element_of(values, name)
        if element is not None:
            return element
    if kind == "zarr":
        from dsoftmax.data.zarr.names import require_no_group

        require_no_group(values, name)
    if kind == "h5py":
        from dsoftmax.data.hdf5.rows import require_dataset

        require_dataset(values, name)
    if kind == "xarray":
        from dsoftmax.data.data_arrays import array_of

        return admitted(array_of(values), name)
    return values


def _stored_by_anndata(values: Any, name: str) -> Any:
    """Return the group of a stored matrix that AnnData has opened, and other values as they are.

    Raises
    ------
    DataError
        The values are an AnnData itself.
    """
    if type(values).__module__.partition(".")[0] != "anndata":
        return values
    if hasattr(values, "obs_names"):
        raise DataError(
            f"{name} is an AnnData; expected one array. Pass its matrix and a column, such as "
            "adata.X and adata.obs['cell_type']."
        )
    return getattr(values, "group", values)


def feature_names(X: Any) -> NDArray | None:
    """Return the names of the features of an opened array, (p,) objects; None if it has none.

    AnnData stores the names of genes. Names of a DataFrame are not looked for.
    """
    if is_cube(X):
        return np.array(X.names, dtype=object)
    if kind_of(X) != "stored" or is_frame(X):
        return None
    from dsoftmax.data.anndata.genes import gene_names

    return gene_names(X)


def normalised(X: Any, how: Normalisation, name: str) -> Any:
    """Return an opened array whose rows of counts are normalised when they are read.

    Arrays in memory are normalised at once.

    Raises
    ------
    DataError
        X is a dask array.
    """
    if not how:
        return X
    if is_cube(X):
        raise DataError(
            f"{name} is a cube, and counts are to be normalised; expected a matrix of counts. "
            "Leave out --normalize and --log1p."
        )
    kind = kind_of(X)
    if kind == "memory":
        return how.apply(X)
    if kind == "dask":
        raise DataError(
            f"{name} is a dask array, and its counts are to be normalised; expected an array in "
            "memory or a stored one. Pass the stored array itself, or compute it."
        )
    if kind in ("zarr", "h5py"):
        from dsoftmax.data.anndata.element import Element

        X = Element(X)
    return Normalised(X, how)


def with_features(X: Any, names: Iterable[str] | None, name: str, absent: str = "error") -> Any:
    """Return an opened array whose columns have these names, in this order.

    Arrays without names are returned as they are.

    Parameters
    ----------
    X : array
        As `admitted` returns it.
    names : p strings, or None
        None returns ``X``.
    name : str
        Name of the array in messages.
    absent : {"error", "zero"}
        Meaning of a name that X lacks: an error, or a feature that is 0 in every row.

    Raises
    ------
    DataError
    """
    if names is None or kind_of(X) != "stored" or is_frame(X):
        return X
    if is_cube(X):
        from dsoftmax.data.cubes.match import with_names

        return with_names(X, names, name)
    from dsoftmax.data.anndata.match import matched

    return matched(X, names, name, absent)


def columns_by_name(X: Any, columns: Iterable[Any], name: str) -> tuple[Any, list[Any]]:
    """Return X and the columns beside it. A name among the columns stands for a column of X.

    X loses the columns that are named. Nothing changes unless X is a frame.

    Raises
    ------
    DataError
        The frame has no such column.
    """
    columns = list(columns)
    if not (has_columns(X) and any(isinstance(one, str) for one in columns)):
        return X, columns
    from dsoftmax.data.frames.open import taken

    return taken(X, columns, name)


def newly_coded(X: Any, categorical: Any, unknown: str, name: str) -> tuple[Any, Coding | None]:
    """Return the features of a frame and their coding, to train with.

    Other arrays, and frames in memory for which no categories are asked, have none.

    Raises
    ------
    OptionError, DataError
    """
    if not (is_lazy_frame(X) or (categorical is not None and has_columns(X))):
        return X, None
    from dsoftmax.data.frames import open as frames

    return frames.newly_coded(X, categorical, unknown, name)


def coded(X: Any, coding: Coding | None, names: Iterable[str] | None, name: str) -> Any:
    """Return the features of a frame as they were coded in the training, by name.

    Parameters
    ----------
    X : array or frame
        Arrays are returned as they are.
    coding : Coding or None
        None if the training rows were no coded frame.
    names : p strings, or None
        Names of the features if there is no coding; None if they have none.
    name : str

    Raises
    ------
    DataError
    """
    if not (is_lazy_frame(X) or (coding is not None and has_columns(X))):
        return X
    from dsoftmax.data.frames import open as frames

    if coding is None and names is not None:
        coding = Coding.of_numbers(names)
    return (
        frames.newly_coded(X, None, "error", name)[0]
        if coding is None
        else frames.coded(X, coding, name)
    )


def dask_features(X: Any) -> tuple[Any, Any]:
    """Return a coded frame of dask as a dask array, and the reasons to skip its rows.

    Nothing is computed, so the sizes of the blocks are unknown. Other arrays are returned as they
    are, without reasons.
    """
    if not (is_frame(X) and X.lazy):
        return X, None
    from dsoftmax.data.dask.frames import features_of

    return features_of(X, known=False)
