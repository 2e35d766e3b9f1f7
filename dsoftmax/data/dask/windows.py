"""A dask array of any number of dimensions, computed window by window."""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from dsoftmax.compat.dask import futures_of
from dsoftmax.errors import DataError

Window = tuple[slice, ...]


@dataclass(frozen=True)
class DaskWindows:
    """A dask array. The asking thread computes the blocks that a window meets.

    Attributes
    ----------
    array : dask array
    """

    array: da.Array

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
        if futures_of([self.array]):
            raise DataError(
                "The cube is persisted on the cluster, and its tiles cannot be computed by the "
                "workers; expected a lazy cube. Pass it as it was before persist(), because "
                "workers cache its rows between passes themselves. Or pass engine='threads'."
            )

    def kept_bytes(self) -> int:
        return 0

    def fill(self, window: Window, target: NDArray) -> None:
        """Write the values of a window into ``target``, an array of the window's shape."""
        part = self.array[window]
        on_cluster = bool(futures_of([part]))
        target[...] = part.compute() if on_cluster else part.compute(scheduler="synchronous")

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "dask",
            "store": str(self.array.name),
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": list(self.stored),
        }
