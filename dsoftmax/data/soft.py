"""Soft labels: a distribution over the classes for every row, as one value of a column.

Labels P (n, K) become a column (n,) whose dtype has a field "p" of K numbers. So they are cut,
cached, copied and sent as any other column. The dtype of sparse labels has a field "class" too:
each row names the classes of its numbers, and all others are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer
from dsoftmax.data.kind import kind_of
from dsoftmax.data.missing import is_masked
from dsoftmax.data.rows import Rows, Stored
from dsoftmax.errors import DataError

Float = NDArray[np.float64]


def is_soft(dtype: np.dtype | None) -> bool:
    """Return whether a column of this dtype has soft labels."""
    return dtype is not None and dtype.names is not None and "p" in dtype.names


def soft_codes(y: NDArray) -> NDArray[np.integer]:
    """Return the most probable class of each row, (rows,); the first one of equal ones."""
    best: NDArray[np.intp] = y["p"].argmax(axis=1)
    if "class" not in y.dtype.names:  # type: ignore[operator]
        return best
    found: NDArray[np.integer] = np.take_along_axis(y["class"], best[:, None], axis=1)[:, 0]
    return found


def soft_values(y: NDArray, n_classes: int) -> Float:
    """Return the numbers of each row as stored, (rows, K) float64."""
    p = y["p"].astype(np.float64)
    if "class" not in y.dtype.names:  # type: ignore[operator]
        return p
    found = np.zeros((len(y), n_classes))
    # Added, because empty places of a row repeat class 0 with the number 0.
    np.add.at(found, (np.arange(len(y))[:, None], y["class"]), p)
    return found


def as_column(values: Any, order: NDArray[np.intp] | None = None) -> NDArray:
    """Return (rows, K) numbers as a column (rows,), the columns in this order.

    A C-contiguous array is not copied if there is no order.
    """
    if order is not None:
        values = values[:, order]
    values = np.ascontiguousarray(values)
    dtype = _dense(values.shape[1], values.dtype)
    return values.view(dtype).reshape(len(values))


def _dense(n_classes: int, dtype: np.dtype) -> np.dtype:
    return np.dtype([("p", dtype, (n_classes,))])


def _sparse_column(values: Any, order: NDArray[np.intp] | None) -> NDArray:
    """Return sparse (rows, K) numbers as a column of as many numbers as the fullest row has."""
    rows = scipy.sparse.csr_array(values, copy=True)
    if order is not None:
        rows = rows[:, order]
    rows.sum_duplicates()  # and sorts the classes of each row
    stored = np.diff(rows.indptr)
    width = max(int(stored.max(initial=0)), 1)
    dtype = np.dtype([("class", np.int32, (width,)), ("p", rows.dtype, (width,))])
    found = np.zeros(rows.shape[0], dtype)
    row = np.repeat(np.arange(rows.shape[0]), stored)
    place = np.arange(len(rows.data)) - np.repeat(rows.indptr[:-1], stored)
    found["class"][row, place], found["p"][row, place] = rows.indices, rows.data
    return found


def soft_labels(P: Any, classes: Sequence[Any] | NDArray, name: str) -> Any:
    """Return labels (n, K) as a column of soft labels, in the order of the ascending classes.

    Parameters
    ----------
    P : (n, K) array-like, SciPy sparse, zarr.Array, h5py.Dataset or dask array
    classes : K labels
        The class of each column.
    name : str
        Name of the labels in messages.

    Raises
    ------
    DataError
        The number of classes is not that of the columns, or the values are not real numbers.
    """
    kind = kind_of(P)
    if kind == "memory" and not scipy.sparse.issparse(P):
        if is_masked(P):
            raise DataError(
                f"{name} has masked entries and two dimensions; expected soft labels for every "
                "row. Leave out rows without labels, or give them weight 0 and any labels."
            )
        P = np.asarray(P)
    if P.dtype.kind not in "biuf":
        raise DataError(
            f"{name} has shape {P.shape} and dtype {P.dtype}; expected real numbers, the "
            "probability of each class. Pass one label for each row, or probabilities."
        )
    if P.shape[1] != len(classes):
        raise DataError(
            f"{name} has {P.shape[1]} columns, and classes names {len(classes)}; expected one "
            "class for each column. Pass the classes in the order of the columns."
        )
    if len(set(np.asarray(classes).tolist())) < len(classes):
        raise DataError(
            f"classes={list(classes)} names a class twice, and {name} has a column for each; "
            "expected distinct labels. Add up the columns of one class."
        )
    ascending = np.argsort(np.asarray(classes), kind="stable")
    order = None if np.array_equal(ascending, np.arange(len(ascending))) else ascending
    if scipy.sparse.issparse(P):
        return _sparse_column(P, order)
    if kind == "dask":
        return lazy_column(P, order)
    return as_column(P, order) if kind == "memory" else StoredSoft(P, order)


def lazy_column(P: Any, order: NDArray[np.intp] | None) -> Any:
    """Return a dask array (n, K) as a lazy column; nothing is computed."""
    P = P if P.numblocks[1] == 1 else P.rechunk({1: -1})
    dtype = _dense(P.shape[1], P.dtype)
    return P.map_blocks(as_column, order, drop_axis=1, dtype=dtype, meta=np.empty(0, dtype))


@dataclass(frozen=True)
class StoredSoft(Stored):
    """Soft labels in a stored array of two dimensions.

    Attributes
    ----------
    array : zarr.Array or h5py.Dataset
    order : (K,) integers, or None
        Stored column of each class; None if they are in the order of the classes.
    """

    array: Any
    order: NDArray[np.intp] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.array.shape[0]),)

    @property
    def dtype(self) -> np.dtype:
        return _dense(int(self.array.shape[1]), np.dtype(self.array.dtype))

    @property
    def place(self) -> str:
        from dsoftmax.data.anndata.nodes import place_of

        return place_of(self.array)

    def rows(self, name: str, missing_chunks: str) -> Rows:
        from dsoftmax.data.readers import reader_of

        return SoftRows(reader_of(self.array, name, missing_chunks), self.order)


@dataclass(frozen=True)
class SoftRows(Rows):
    """A reader of soft labels.

    Attributes
    ----------
    inner : Rows
        Reader of the stored array, (n, K).
    order : (K,) integers, or None
        As in `StoredSoft`.
    """

    inner: Rows
    order: NDArray[np.intp] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape[:1]

    @property
    def dtype(self) -> np.dtype:
        return _dense(self.inner.shape[1], self.inner.dtype)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        return as_column(self.inner.read(start, stop), self.order)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "SoftRows":
        return replace(self, inner=self.inner.only(starts, stops))

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.inner.cached_bytes(starts)

    def smaller_chunks(self, rows: int) -> str:
        return self.inner.smaller_chunks(rows)

    def describe(self) -> dict[str, Any]:
        order = None if self.order is None else self.order.tolist()
        return {**self.inner.describe(), "soft": True, "order": order}
