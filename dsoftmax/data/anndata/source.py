"""Sources of matrices that AnnData stores."""

from dataclasses import replace
from typing import Any

from dsoftmax.data.anndata.match import chunks_of
from dsoftmax.data.checks import check_shapes, every_row, require_numbers
from dsoftmax.data.rows import Rows, RowSource
from dsoftmax.data.table import Table
from dsoftmax.data.zarr.source import reader_of


def anndata_source(table: Table[Any]) -> RowSource:
    """Return a source of a matrix of AnnData.

    Opening it reads metadata, and the row pointers of CSR.

    CSR is cut as CSR in memory is, whatever the stored chunks, so both give the same bits. Dense
    arrays are cut as other Zarr arrays are.

    Parameters
    ----------
    table : Table of arrays
        X is a `dsoftmax.data.rows.Stored`. Weights may be one number.

    Raises
    ------
    DataError
        Shapes do not fit, or X is not real numbers.
    """
    table = replace(table, weights=every_row(table.weights, table.X.shape[:1]))
    readers: Table[Rows] = table.map(
        lambda values, name: reader_of(values, name, table.missing_chunks)
    )
    check_shapes(readers.map(lambda rows, _: rows.shape))
    X = readers.X
    require_numbers(table.names.X, X.dtype)
    return RowSource(readers, *chunks_of(X), sparse=table.X.sparse)
