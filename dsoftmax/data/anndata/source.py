"""Sources of matrices that AnnData stores."""

from typing import Any

from dsoftmax.data.anndata.match import chunks_of
from dsoftmax.data.readers import readers_of
from dsoftmax.data.rows import RowSource
from dsoftmax.data.table import Table


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
    OptionError
        A missing value cannot occur in its array.
    DataError
        Shapes do not fit, or X is not real numbers.
    """
    readers = readers_of(table, sparse=table.X.sparse)
    return RowSource(readers, *chunks_of(readers.X), sparse=table.X.sparse)
