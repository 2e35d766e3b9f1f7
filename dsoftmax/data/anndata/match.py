"""Columns of a matrix by the names of another one: the genes that a model knows, in its order."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.anndata.genes import gene_names
from dsoftmax.data.anndata.sparse import SparseRows
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.features import Features
from dsoftmax.data.rows import Rows, Stored
from dsoftmax.data.zarr.source import row_chunks
from dsoftmax.errors import DataError

SHOWN = 5
"""Most names that a message lists."""


def matched(X: Stored, wanted: Iterable[str], name: str, absent: str = "error") -> Stored:
    """Return a matrix whose columns have these names, in this order.

    Parameters
    ----------
    X : Stored
        Returned as it is if its columns have these names already, or none at all.
    wanted : p strings
    name : str
        Name of the matrix in messages.
    absent : {"error", "zero"}
        What a name that the matrix lacks means: an error, or a column of zeros.

    Raises
    ------
    DataError
        A column is absent, or a name stands twice.
    """
    found = gene_names(X)
    wanted = [str(one) for one in wanted]
    if found is None or found.tolist() == wanted:
        return X
    places = {one: place for place, one in enumerate(found.tolist())}
    for which, names in (("its columns", found.tolist()), ("the model", wanted)):
        if len(set(names)) < len(names):
            twice = next(one for one in names if names.count(one) > 1)
            raise DataError(
                f"{name}: the name {twice!r} stands twice among the names of {which}, so columns "
                "cannot be matched by name; expected distinct names. Train and predict with "
                "distinct names: adata.var_names_make_unique()."
            )
    missing = [one for one in wanted if one not in places]
    if missing and absent == "error":
        near = get_close_matches(missing[0], places, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]}?" if near else ""
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise DataError(
            f"{name} lacks {len(missing):,} of the {len(wanted):,} features of the model: "
            f"{', '.join(missing[:SHOWN])}{more}.{hint} Expected all of them, by name. Pass rows "
            "that have them."
        )
    columns = np.array([places.get(one, -1) for one in wanted], np.int64)
    return Matched(X, columns)


@dataclass(frozen=True)
class Matched(Stored):
    """A matrix with some columns of another one.

    Attributes
    ----------
    whole : Stored
    columns : (p,) int64
        Column of ``whole`` for each column; −1 for one of zeros.
    """

    whole: Stored
    columns: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.whole.shape[0], len(self.columns))

    @property
    def dtype(self) -> np.dtype:
        return self.whole.dtype

    @property
    def sparse(self) -> bool:
        return self.whole.sparse

    @property
    def place(self) -> str:
        return self.whole.place

    def rows(self, name: str, missing_chunks: str) -> Rows:
        return MatchedRows(self.whole.rows(name, missing_chunks), self.columns)


@dataclass(frozen=True)
class MatchedRows(Rows):
    """A reader of some columns. Each block is read whole, and its columns are then chosen.

    Attributes
    ----------
    whole : Rows
    columns : (p,) int64
        See `Matched`.
    """

    whole: Rows
    columns: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.whole.shape[0], len(self.columns))

    @property
    def dtype(self) -> np.dtype:
        return self.whole.dtype

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        X = self.whole.read(start, stop)
        if scipy.sparse.issparse(X):
            return _sparse_columns(X, self.columns)
        found = X[:, np.maximum(self.columns, 0)]
        found[:, self.columns < 0] = 0
        return found

    @property
    def in_flight(self) -> int:
        return self.whole.in_flight

    @property
    def declared(self) -> tuple[Any, ...]:
        return self.whole.declared

    @property
    def masked(self) -> bool:
        return self.whole.masked

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        return MatchedRows(self.whole.only(starts, stops), self.columns)

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.whole.cached_bytes(starts)

    def smaller_chunks(self, rows: int) -> str:
        return self.whole.smaller_chunks(rows)

    def describe(self) -> dict[str, Any]:
        return {**self.whole.describe(), "shape": list(self.shape)}


def _sparse_columns(X: Features, columns: NDArray[np.int64]) -> Features:
    """Return the columns of CSR without a product: every row keeps the order of its values."""
    new = np.full(X.shape[1], -1, np.int32)
    present = np.flatnonzero(columns >= 0)
    new[columns[present]] = present
    indices = new[X.indices]
    kept = indices >= 0
    counts = np.concatenate([[0], np.cumsum(kept)])
    found = scipy.sparse.csr_array((X.shape[0], len(columns)), dtype=X.dtype)
    found.data, found.indices = X.data[kept], indices[kept]
    found.indptr = counts[X.indptr].astype(X.indptr.dtype)
    return found


def chunks_of(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and the bytes of the chunks of a matrix of AnnData.

    They follow from the stored matrix, whatever becomes of its rows and columns.
    """
    whole: Any = rows
    while hasattr(whole, "whole"):
        whole = whole.whole
    if isinstance(whole, SparseRows):
        chunk_rows, n_bytes = whole.chunks()
        wider = (rows.dtype.itemsize + 8) / (whole.dtype.itemsize + 8)
        return chunk_rows, np.ceil(n_bytes * max(wider, 1.0)).astype(np.int64)
    chunk_rows = row_chunks(whole)
    return chunk_rows, chunk_rows * rows.shape[1] * rows.dtype.itemsize
