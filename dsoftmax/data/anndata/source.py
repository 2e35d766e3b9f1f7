"""Sources of CSR matrices that are stored in the encoding of AnnData."""

from dataclasses import replace
from typing import Any

from dsoftmax.data.anndata.sparse import SparseRows
from dsoftmax.data.checks import check_shapes, every_row, require_numbers
from dsoftmax.data.rows import Rows, RowSource
from dsoftmax.data.table import Table
from dsoftmax.data.zarr.source import reader_of


def anndata_source(table: Table[Any]) -> RowSource:
    """Return a source of a CSR matrix of AnnData.

    Opening it reads metadata and the row pointers.

    The rows are cut as those of CSR in memory are, whatever the stored chunks, so both give the
    same bits.

    Parameters
    ----------
    table : Table of arrays
        X is a `dsoftmax.data.rows.Stored` whose rows are CSR. Weights may be one number.

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
    assert isinstance(X, SparseRows)
    require_numbers(table.names.X, X.dtype)
    return RowSource(readers, *X.chunks(), sparse=True)
