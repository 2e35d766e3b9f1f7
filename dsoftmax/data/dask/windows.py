"""A dask array of any number of dimensions, computed window by window."""

import itertools
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from dsoftmax.compat.dask import culled, dependencies_of, futures_of, optimized, tasks_of
from dsoftmax.errors import DataError, DsoftmaxError, ReadError

Window = tuple[slice, ...]


@dataclass(frozen=True)
class DaskWindows:
    """A dask array. The asking thread computes the blocks that a window meets.

    Attributes
    ----------
    array : dask array
    name : str
        Name of the array in messages.
    """

    array: da.Array
    name: str = "X"
    _lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskWindows, (self.array, self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        """Largest block along each dimension."""
        return tuple(max(sizes) for sizes in self.array.chunks)

    @property
    def fill_value(self) -> Any:
        return None

    def along(self, steps: tuple[int, ...], missing_chunks: str, absent: bool) -> "DaskWindows":
        return self

    def require_portable(self) -> None:
        """Raise if blocks are persisted on a cluster.

        Raises
        ------
        DataError
        """
        if self._futures:
            raise DataError(
                f"{self.name} is persisted on the cluster, and its tiles cannot be computed by the "
                "workers; expected a lazy cube. Pass it as it was before persist(), because "
                "workers cache its rows between passes themselves. Or pass engine='threads'."
            )

    def kept_bytes(self) -> int:
        return 0

    @cached_property
    def _futures(self) -> dict[Any, Any]:
        return futures_of([self.array])

    @cached_property
    def _optimized(self) -> tuple[str, dict[Any, Any]]:
        """Name and tasks of the array after dask's own optimisation, made once."""
        (array,) = optimized([self.array])
        return array.name, tasks_of([array])

    @cached_property
    def _bounds(self) -> list[NDArray[np.int64]]:
        """First entry of each block along each dimension, and the end."""
        return [np.concatenate([[0], np.cumsum(sizes)]) for sizes in self.array.chunks]

    def fill(self, window: Window, target: NDArray) -> None:
        """Write the values of a window into ``target``, an array of the window's shape.

        Raises
        ------
        ReadError
            A block cannot be computed.
        """
        with self._lock:
            name, tasks = self._optimized
        grid = [
            range(
                int(np.searchsorted(bounds, one.start, side="right")) - 1,
                int(np.searchsorted(bounds, one.stop)),
            )
            for bounds, one in zip(self._bounds, window, strict=True)
        ]
        for place in itertools.product(*grid):
            values = self._block((name, *place), tasks)
            into, inside = [], []
            for i, bounds, one in zip(place, self._bounds, window, strict=True):
                low, high = max(int(bounds[i]), one.start), min(int(bounds[i + 1]), one.stop)
                into.append(slice(low - one.start, high - one.start))
                inside.append(slice(low - int(bounds[i]), high - int(bounds[i])))
            target[tuple(into)] = values[tuple(inside)]

    def _block(self, key: tuple[Any, ...], tasks: dict[Any, Any]) -> NDArray:
        if key in self._futures:
            return np.asarray(self._futures[key].result())
        graph = culled(tasks, [key])
        needed = {one for one in dependencies_of(graph) if one in self._futures}
        graph |= {one: self._futures[one].result() for one in needed}
        try:
            return np.asarray(dask.get(graph, key))
        except DsoftmaxError:
            raise
        except Exception as error:
            raise ReadError(
                f"{self.name}: the dask graph behind the block {key[1:]} failed with "
                f"{type(error).__name__}: {error}. Compute it alone to see where: "
                f"{self.name}.data.blocks{list(key[1:])}.compute()."
            ) from error

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "dask",
            "store": str(self.array.name),
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": list(self.stored),
        }
