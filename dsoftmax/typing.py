"""Types of what users pass and get: features, columns, labels, engines and predictions.

No type here imports dask, zarr or pandas: their arrays are known by their attributes.
"""

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsoftmax.engines.base import Engine


class ChunkedArray(Protocol):
    """A Zarr or dask array."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def chunks(self) -> Any: ...


class LazyArray(ChunkedArray, Protocol):
    """A dask array: its values are computed when they are asked for."""

    @property
    def ndim(self) -> int: ...
    def astype(self, dtype: Any, **kwargs: Any) -> Any: ...
    def compute(self, **kwargs: Any) -> Any: ...
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray: ...
    def __getitem__(self, index: Any) -> Any: ...
    def __len__(self) -> int: ...


class SparseArray(Protocol):
    """A SciPy sparse array or matrix."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    def tocsr(self) -> Any: ...


class DaskClient(Protocol):
    """A connection to a dask cluster, as ``distributed.Client`` is."""

    def submit(self, *args: Any, **kwargs: Any) -> Any: ...
    def scheduler_info(self) -> Any: ...


class StoredGroup(Protocol):
    """A group of Zarr or HDF5 in which AnnData stores a matrix or a column."""

    @property
    def attrs(self) -> Any: ...
    def keys(self) -> Any: ...


class FrameLike(Protocol):
    """Rows with columns by name: `dsoftmax.parquet`, or a frame of pandas, polars or Arrow."""

    @property
    def columns(self) -> Any: ...


FeaturesLike: TypeAlias = ArrayLike | ChunkedArray | SparseArray | StoredGroup | FrameLike
"""Features X, (n, p): ndarray, list, DataFrame, SciPy sparse, ``zarr.Array``, ``h5py.Dataset`` or
dask array, a frame, or a group in which AnnData stores a matrix."""
ColumnLike: TypeAlias = ArrayLike | ChunkedArray | StoredGroup
"""Labels, weights or groups, (n,): ndarray, list, Series, ``zarr.Array``, ``h5py.Dataset`` or dask
array, a group in which AnnData stores a column, or the name of a column of the frame X."""
EngineLike: TypeAlias = str | DaskClient | Engine
"""An engine: "auto", "serial", "threads", "cluster", a dask Client, or an `Engine`."""
Label: TypeAlias = bool | int | float | str | bytes | np.generic
"""A label: one entry of ``classes_``."""
Predictions: TypeAlias = NDArray | LazyArray
"""One entry or row per row of X: a lazy dask array if X is a dask array, else an ndarray."""
