"""Dask arrays from arrays of other kinds, cut to the blocks of X."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import dense_or_csr
from dsoftmax.data.kind import is_stored
from dsoftmax.data.memory import row_bytes_and_step
from dsoftmax.data.missing import is_masked
from dsoftmax.data.rows import StoredRows
from dsoftmax.data.soft import StoredSoft, lazy_column


@dataclass(frozen=True)
class DaskColumn:
    """Labels, weights or groups as a dask array.

    Attributes
    ----------
    array : dask array
    stored : StoredRows or None
        Reader of the stored array behind it, if its owner passed one.
    """

    array: da.Array
    stored: StoredRows | None = None


def as_array(values: Any, name: str, missing_chunks: str) -> da.Array:
    """Return X as a dask array, possibly cut along the columns and in blocks of unknown sizes."""
    return _as_dask(values, ("auto", -1), name, _stored_rows(values, name, missing_chunks))


def as_column(values: Any, X: da.Array, name: str, missing_chunks: str) -> DaskColumn:
    """Return labels, weights or groups as a dask array.

    Arrays with as many rows as X are cut as X is.
    """
    stored = _stored_rows(values, name, missing_chunks)
    aligned = getattr(values, "shape", None) == X.shape[:1]
    column = _as_dask(values, (X.chunks[0] if aligned else "auto",), name, stored)
    return DaskColumn(with_known_chunks(column) if column.ndim == 1 else column, stored)


def lazy_soft(labels: StoredSoft) -> da.Array:
    """Return stored soft labels as a lazy column, cut by the stored chunks."""
    found: da.Array = lazy_column(da.from_array(labels.array), labels.order)
    return found


def one_column_of_blocks(X: da.Array) -> da.Array:
    """Return X in blocks of whole rows."""
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


def with_known_chunks(array: da.Array) -> da.Array:
    """Return the array with known sizes of its blocks.

    If dask does not know them, one computation counts them.
    """
    if not any(np.isnan(size) for sizes in array.chunks for size in sizes):
        return array
    counted = array.copy()
    counted.compute_chunk_sizes()
    return counted


def _as_dask(values: Any, chunks: Any, name: str, stored: StoredRows | None) -> da.Array:
    if isinstance(values, da.Array):
        return values
    if stored is not None:
        from dsoftmax.data.zarr.source import row_chunks

        if chunks[0] == "auto":  # whole shards or chunks of rows
            chunks = (tuple(row_chunks(stored).tolist()), *stored.shape[1:])
        return da.from_array(stored, chunks=chunks)
    if scipy.sparse.issparse(values):
        values = dense_or_csr(values)
        return da.from_array(values, chunks=(row_bytes_and_step(values)[1], -1), asarray=False)
    array = np.asarray(values)
    return da.from_array(array, chunks=chunks if array.ndim == len(chunks) else "auto")


def _stored_rows(values: Any, name: str, missing_chunks: str) -> StoredRows | None:
    """Return the reader of a stored array, None for every other array."""
    if not is_stored(values):
        return None
    from dsoftmax.data.readers import stored_rows

    return stored_rows(values, name, missing_chunks)


def map_rows(
    X: da.Array,
    function: Callable[..., NDArray],
    n_columns: int | None,
    dtype: np.dtype,
    skipped: da.Array | None = None,
) -> da.Array:
    """Return the lazy array of ``function`` on every block of rows; nothing is computed.

    Parameters
    ----------
    X : (n, p) dask array
        Its blocks are ndarray or SciPy sparse. Their sizes may be unknown.
    function : callable
        From rows of X, which stay masked, to (rows,) if ``n_columns`` is None, else to (rows,
        n_columns). Reasons to skip them, (rows,), follow if ``skipped`` is given.
    n_columns : int or None
    dtype : numpy dtype
        Dtype of the results of ``function``.
    skipped : (n,) dask array of uint8, optional
        In blocks as those of X.
    """

    def on_block(block: Any, *reasons: NDArray) -> NDArray:
        rows = block if is_masked(block) else dense_or_csr(block)
        return function(rows, *(one[:, 0] for one in reasons))

    X = one_column_of_blocks(X)
    arrays = [X] if skipped is None else [X, skipped[:, None]]
    if n_columns is None:
        return da.map_blocks(on_block, *arrays, drop_axis=1, dtype=dtype, meta=np.empty(0, dtype))
    return da.map_blocks(
        on_block,
        *arrays,
        chunks=(X.chunks[0], (n_columns,)),
        dtype=dtype,
        meta=np.empty((0, 0), dtype),
    )
