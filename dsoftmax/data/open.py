"""The door: from a table of arrays to a source.

A new storage is one file and one line in `open_source`.
"""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.counts import Normalisation, Normalised
from dsoftmax.data.kind import kind_of
from dsoftmax.data.memory import memory_source
from dsoftmax.data.missing import missing_rows
from dsoftmax.data.skipped import with_known_rows
from dsoftmax.data.source import Source
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError


def open_source(table: Table[Any]) -> Source:
    """Return the source for the kinds of arrays of a table.

    Parameters
    ----------
    table : Table of arrays
        X is (n, p): an ndarray, SciPy sparse, zarr.Array or dask array, or a Zarr group in which
        AnnData stores a matrix. Columns are (n,), of the same kinds but not sparse. Weights may be
        one number. Rows of one group fall into the same fold. One dask array makes the whole
        source a source of dask arrays, unless AnnData stores X. Masked entries, and the values
        that ``table.missing`` names, skip their rows.

    Raises
    ------
    OptionError
        A missing value cannot occur in its array.
    DataError
        A value is not an array, or shapes or dtypes do not fit.
    """
    table = table.map_columns(opened_column, opened_array(table.X, table.names.X))
    if kind_of(table.X) == "stored":
        # No dask array is made of X. The columns need less memory.
        table = table.map_columns(lambda values, _: _computed(values), table.X)
        from dsoftmax.data.anndata.source import anndata_source

        return anndata_source(with_known_rows(table))
    kinds = {kind_of(values) for _, values in table.items()}
    if "dask" in kinds:
        from dsoftmax.data.dask.source import dask_source

        if "stored" in kinds:
            table = _with_columns_read(table, ("stored",))
        return dask_source(with_known_rows(table))
    if kind_of(table.X) == "zarr":
        from dsoftmax.data.zarr.source import zarr_source

        return zarr_source(with_known_rows(table))
    return memory_source(with_known_rows(_with_columns_read(table, ("zarr", "stored"))))


def _with_columns_read(table: Table[Any], kinds: tuple[str, ...]) -> Table[Any]:
    """Return a table whose columns of these kinds are in memory.

    Missing chunks are reported as always. Values that the storage declares as missing are masked.
    """

    def read(values: Any, name: str) -> Any:
        if kind_of(values) not in kinds:
            return values
        from dsoftmax.data.zarr.source import reader_of

        rows = reader_of(values, name, table.missing_chunks)
        found = rows.read(0, rows.shape[0])
        hits = missing_rows(found, rows.declared)
        return found if hits is None else np.ma.MaskedArray(found, hits)

    return table.map_columns(read, table.X)


def _computed(values: Any) -> Any:
    return np.asanyarray(values.compute()) if kind_of(values) == "dask" else values


def opened_array(values: Any, name: str) -> Any:
    """Return an array as it is, and a group or array that AnnData stores as one array of rows.

    Opening reads metadata only.

    Raises
    ------
    DataError
        The value is a path, or a Zarr group that is not one array.
    """
    if isinstance(values, (str, bytes, os.PathLike)):
        path = os.fsdecode(values)
        raise DataError(
            f"{name} is {values!r}; expected an array. If this is the path of one, open it: "
            f"zarr.open_array({path!r}, mode='r')."
        )
    if type(values).__module__.startswith("anndata."):
        values = _inside_anndata(values, name)
    if kind_of(values) == "h5py":
        from dsoftmax.data.anndata.element import array_of_hdf5

        return array_of_hdf5(values, name)
    if kind_of(values) == "zarr":
        from dsoftmax.data.anndata.element import element_of
        from dsoftmax.data.zarr.names import require_no_group

        element = element_of(values, name)
        if element is not None:
            return element
        require_no_group(values, name)
    return values


def _inside_anndata(values: Any, name: str) -> Any:
    """Return the group of a stored matrix that AnnData has opened; refuse an AnnData itself."""
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
    if kind_of(X) != "stored":
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
    kind = kind_of(X)
    if kind == "memory":
        return how.apply(X)
    if kind == "dask":
        raise DataError(
            f"{name} is a dask array, and its counts are to be normalised; expected an array in "
            "memory or a stored one. Pass the stored array itself, or compute it."
        )
    if kind == "zarr":
        from dsoftmax.data.anndata.element import Element

        X = Element(X)
    return Normalised(X, how)


def with_features(X: Any, names: Iterable[str] | None, name: str, absent: str = "error") -> Any:
    """Return an opened array whose columns have these names, in this order.

    Arrays without names are returned as they are.

    Parameters
    ----------
    X : array
        As `opened_array` returns it.
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
    if names is None or kind_of(X) != "stored":
        return X
    from dsoftmax.data.anndata.match import matched

    return matched(X, names, name, absent)


def opened_column(values: Any, name: str) -> Any:
    """Return labels, weights or groups as `opened_array` does.

    Raises
    ------
    DataError
        As `opened_array`, or the column is sparse.
    """
    values = opened_array(values, name)
    if scipy.sparse.issparse(values) or (kind_of(values) == "stored" and values.sparse):
        cure = (
            "Pass a column, such as one of obs"
            if kind_of(values) == "stored"
            else f"Pass {name}.toarray().ravel()"
        )
        raise DataError(
            f"{name} is sparse, of shape {values.shape}; expected one value per row. {cure}."
        )
    return values
