"""xarray.DataArray: the dask array or the NumPy array that it holds.

xarray itself is not imported.
"""

from typing import Any

from dsoftmax.compat.xarray import is_loaded

PART_BYTES = 16 * 2**20
"""Approximate bytes of the blocks in which a file is read."""


def array_of(values: Any) -> Any:
    """Return the array behind a DataArray, which is never read as a whole.

    A DataArray of an open file becomes a dask array whose blocks are whole stored chunks of rows.
    """
    if values.chunks is not None or not values.dims or is_loaded(values):
        return values.data
    rows = values.dims[0]
    n, row_bytes = values.sizes[rows], values.nbytes // max(values.sizes[rows], 1)
    stored = min(values.encoding.get("preferred_chunks", {}).get(rows, 1), n)
    step = max(round(PART_BYTES / max(row_bytes * stored, 1)), 1) * stored
    return values.chunk({rows: max(step, 1)}).data
