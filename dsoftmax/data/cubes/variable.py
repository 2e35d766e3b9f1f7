"""A variable of a cube: an array with named dimensions, read by windows."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.cubes.tiling import Window
from dsoftmax.data.missing import Missing, in_dtype


class Windows(Protocol):
    """An array that is read by windows; thread-safe and picklable.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    stored : tuple of int
        Shape of one stored chunk, or shard.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abstractmethod
    def dtype(self) -> np.dtype: ...

    @property
    @abstractmethod
    def stored(self) -> tuple[int, ...]: ...

    @abstractmethod
    def fill(self, window: Window, target: NDArray) -> None:
        """Write the values of a window into ``target``, an array of the window's shape."""
        ...

    def along(self, steps: tuple[int, ...], missing_chunks: str, absent: bool) -> "Windows":
        """Return a reader for windows of these lengths.

        Parameters
        ----------
        steps : tuple of int
        missing_chunks : {"error", "fill"}
            See `dsoftmax.data.table.Table`.
        absent : bool
            Whether the fill value is missing, so that a chunk that is not stored is no loss.

        The default is the reader itself.
        """
        return self

    @property
    def fill_value(self) -> Any:
        """Value of chunks that are not stored; None by default."""
        return None

    def require_portable(self) -> None:
        """Raise if workers cannot read the array.

        Raises
        ------
        DataError
        """
        return

    def kept_bytes(self) -> int:
        """Return the bytes of decoded chunks that stay between reads. The default is 0."""
        return 0

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return a description of the stored array in JSON types."""
        ...


@dataclass(frozen=True)
class InMemory(Windows):
    """An array in memory."""

    array: NDArray

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        return (1,) * max(len(self.shape) - 2, 0) + (512,) * min(len(self.shape), 2)

    def fill(self, window: Window, target: NDArray) -> None:
        target[...] = self.array[window]

    def describe(self) -> dict[str, Any]:
        from dsoftmax.data.memory import MemoryRows

        return MemoryRows(self.array).describe()


@dataclass(frozen=True)
class Squeezed(Windows):
    """An array without some of its dimensions, each of which has one entry.

    Attributes
    ----------
    whole : Windows
    kept : tuple of int
        Numbers of the dimensions that stay.
    """

    whole: Windows
    kept: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.whole.shape[i] for i in self.kept)

    @property
    def dtype(self) -> np.dtype:
        return self.whole.dtype

    @property
    def stored(self) -> tuple[int, ...]:
        return tuple(self.whole.stored[i] for i in self.kept)

    def fill(self, window: Window, target: NDArray) -> None:
        places = dict(zip(self.kept, window, strict=True))
        all_dims = range(len(self.whole.shape))
        others = tuple(i for i in all_dims if i not in places)
        wide = tuple(places.get(i, slice(0, 1)) for i in all_dims)
        self.whole.fill(wide, np.expand_dims(target, others))

    def along(self, steps: tuple[int, ...], missing_chunks: str, absent: bool) -> Windows:
        places = dict(zip(self.kept, steps, strict=True))
        wide = tuple(places.get(i, 1) for i in range(len(self.whole.shape)))
        return replace(self, whole=self.whole.along(wide, missing_chunks, absent))

    @property
    def fill_value(self) -> Any:
        return self.whole.fill_value

    def require_portable(self) -> None:
        self.whole.require_portable()

    def kept_bytes(self) -> int:
        return self.whole.kept_bytes()

    def describe(self) -> dict[str, Any]:
        return self.whole.describe()


@dataclass(frozen=True)
class Variable:
    """An array with named dimensions.

    Attributes
    ----------
    name : str
    values : Windows
    dims : tuple of str
    place : str
        Path or name in messages.
    missing : tuple
        Values that the storage declares as missing, in the dtype of ``values``.
    scale, offset : float
        The value is ``scale · stored + offset``: the CF attributes scale_factor and add_offset.
    coords : dict
        Coordinates by dimension, 1-D arrays, as far as there are any.
    attributes : dict
    """

    name: str
    values: Windows
    dims: tuple[str, ...]
    place: str
    missing: tuple[Any, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    coords: Mapping[str, NDArray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.dims, self.shape, strict=True))

    @property
    def steps(self) -> dict[str, int]:
        return dict(zip(self.dims, self.values.stored, strict=True))

    def squeezed(self, dims: Collection[str]) -> "Variable":
        """Return the variable without dimensions of one entry, except those in ``dims``."""
        kept = tuple(i for i, d in enumerate(self.dims) if d in dims or self.shape[i] != 1)
        if len(kept) == len(self.dims):
            return self
        left = tuple(self.dims[i] for i in kept)
        coords = {d: values for d, values in self.coords.items() if d in left}
        return replace(self, values=Squeezed(self.values, kept), dims=left, coords=coords)

    @property
    def packed(self) -> bool:
        """Whether stored values are not the values that they mean."""
        return self.scale != 1.0 or self.offset != 0.0


def packing(attributes: Mapping[str, Any]) -> tuple[float, float]:
    """Return scale and offset of the attributes of a stored array."""

    def number(name: str, usual: float) -> float:
        found = np.asarray(attributes.get(name, usual), float)
        return float(found.reshape(-1)[0]) if found.size == 1 else usual

    return number("scale_factor", 1.0), number("add_offset", 0.0)


def marks_in(values: tuple[Any, ...], dtype: np.dtype) -> tuple[Any, ...]:
    """Return the values that an array of this dtype can hold, in its dtype, each once."""
    found = (in_dtype(value, dtype) for value in values)
    return Missing().adding("X", (one for one in found if one is not None)).X
