"""Readers of the arrays of a table, whatever their storage."""

from dataclasses import replace
from typing import Any

import numpy as np

from dsoftmax.data.checks import check_shapes, every_row, require_numbers
from dsoftmax.data.kind import kind_of
from dsoftmax.data.memory import MemoryRows
from dsoftmax.data.rows import Rows, Stored, StoredRows
from dsoftmax.data.skipped import in_dtypes
from dsoftmax.data.table import Table


def readers_of(table: Table[Any], sparse: bool = False) -> Table[Rows]:
    """Return the readers of a table, with the missing values in the dtypes of its arrays.

    They are those that the user names and those that the storage declares.

    Parameters
    ----------
    table : Table of arrays
        Weights may be one number.
    sparse : bool
        Whether the rows of X are CSR.

    Raises
    ------
    OptionError
        A missing value cannot occur in its array.
    DataError
        Shapes do not fit, or X is not real numbers.
    """
    table = replace(table, weights=every_row(table.weights, table.X.shape[:1]))
    readers: Table[Rows] = table.map(
        lambda values, name: reader_of(values, name, table.missing_chunks)
    )
    check_shapes(readers.map(lambda rows, _: rows.shape), table)
    require_numbers(table.names.X, readers.X.dtype)
    missing = in_dtypes(table.missing, readers.map(lambda rows, _: rows.dtype), sparse)
    for part, rows in readers.items():
        missing = missing.adding(part, rows.declared) if rows.declared else missing
    return replace(readers, missing=missing)


def reader_of(values: Any, name: str, missing_chunks: str) -> Rows:
    """Return the reader of an array that is stored or in memory."""
    if kind_of(values) == "stored":
        encoded: Stored = values
        return encoded.rows(name, missing_chunks)
    stored = stored_rows(values, name, missing_chunks)
    return MemoryRows(np.asarray(values)) if stored is None else stored


def stored_rows(values: Any, name: str, missing_chunks: str) -> StoredRows | None:
    """Return the reader of a Zarr array or an HDF5 dataset, None for every other array."""
    kind = kind_of(values)
    if kind == "zarr":
        from dsoftmax.data.zarr.rows import ZarrRows

        return ZarrRows(values, name, missing_chunks)
    if kind == "h5py":
        from dsoftmax.data.hdf5.rows import hdf5_rows

        return hdf5_rows(values, name, missing_chunks)
    return None
