"""Types of the arguments that users pass: features, columns and engines.

No type here imports dask, zarr or pandas: their arrays are known by their attributes.
"""

from typing import Any, Protocol, TypeAlias

from numpy.typing import ArrayLike

from dsoftmax.engines.base import Engine


class ChunkedArray(Protocol):
    """A Zarr or dask array."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def chunks(self) -> Any: ...


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


FeaturesLike: TypeAlias = ArrayLike | ChunkedArray | SparseArray
"""Features X, (n, p): ndarray, list, DataFrame, SciPy sparse, ``zarr.Array`` or dask array."""
ColumnLike: TypeAlias = ArrayLike | ChunkedArray
"""Labels, weights or groups, (n,): ndarray, list, Series, ``zarr.Array`` or dask array."""
EngineLike: TypeAlias = str | DaskClient | Engine
"""An engine: "auto", "serial", "threads", "cluster", a dask Client, or an `Engine`."""
