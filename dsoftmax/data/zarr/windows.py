"""A Zarr array of any number of dimensions, read by windows.

The asking thread decodes plain local chunks, and copies each into its place. Zarr reads others.
"""

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from dsoftmax.compat.zarr import chunk_key, has_key
from dsoftmax.data.columns import value_bytes
from dsoftmax.data.zarr.local.codecs import Decode, is_little_endian, known_decoder
from dsoftmax.data.zarr.local.scratch import Scratch
from dsoftmax.data.zarr.rows import describe_array
from dsoftmax.errors import ReadError

KEPT_BYTES = 32 * 2**20
"""Most bytes of decoded chunks that stay between reads, unless one chunk is larger."""

Window = tuple[slice, ...]
Place = tuple[int, ...]


class ZarrWindows:
    """A Zarr array, read by windows.

    Parameters
    ----------
    array : zarr.Array
    name : str
        Name of the array in messages.
    steps : tuple of int, optional
        Lengths of the windows, which lie at multiples of them. If they are not multiples of the
        stored chunks, some decoded chunks stay in memory between reads.
    missing_chunks : {"error", "fill"}
        Meaning of a chunk that is absent from the store.
    absent : bool
        Whether the fill value is missing, so that an absent chunk is no loss.
    """

    def __init__(
        self,
        array: zarr.Array,
        name: str,
        steps: tuple[int, ...] | None = None,
        missing_chunks: str = "error",
        absent: bool = False,
    ) -> None:
        self.array, self.name, self.steps = array, name, steps
        self.missing_chunks, self.absent = missing_chunks, absent
        self._decode = _decoder(array)
        self._key_of = chunk_key(array)
        self._scratch = Scratch()
        self._kept = KeptChunks(self._n_kept())

    def __reduce__(self) -> tuple[Any, ...]:
        options = (self.steps, self.missing_chunks, self.absent)
        return ZarrWindows, (self.array, self.name, *options)

    def along(self, steps: tuple[int, ...], missing_chunks: str, absent: bool) -> "ZarrWindows":
        return ZarrWindows(self.array, self.name, steps, missing_chunks, absent)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        return tuple(self.array.shards or self.array.chunks)

    @property
    def fill_value(self) -> Any:
        return self.array.fill_value

    def fill(self, window: Window, target: NDArray) -> None:
        """Write the values of a window into ``target``, an array of the window's shape.

        Raises
        ------
        ReadError
            A chunk is absent or damaged.
        """
        if self._decode is None and not self._kept.most:
            target[...] = self._by_zarr(window)
            return
        for place, box in self._boxes(window):
            into = tuple(
                slice(low - whole.start, high - whole.start)
                for (low, high), whole in zip(box, window, strict=True)
            )
            inside = tuple(
                slice(low - i * step, high - i * step)
                for (low, high), i, step in zip(box, place, self.stored, strict=True)
            )
            if self._kept.most:
                values = self._kept.get(place, self._chunk_alone)
            else:
                values = self._chunk(place, self._scratch.get("decoded", self.chunk_bytes))
            target[into] = values if values.ndim == 0 else values[inside]

    def require_portable(self) -> None:
        """Do nothing, because workers open the array again."""

    def kept_bytes(self) -> int:
        return self._kept.most * self.chunk_bytes

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a stored chunk, decoded."""
        return math.prod(self.stored) * value_bytes(self.dtype)

    def _n_kept(self) -> int:
        """Return the number of chunks that stay decoded; 0 if no window cuts a chunk."""
        if self.steps is None:
            return 0
        cut = [
            step % stored and step < n
            for step, stored, n in zip(self.steps, self.stored, self.shape, strict=True)
        ]
        if not any(cut):
            return 0
        # Windows of one line along the later dimensions meet the same chunks as the next line.
        first = next(i for i, one in enumerate(cut) if one)
        line = 2 * math.prod(
            -(-n // stored)
            for n, stored in zip(self.shape[first + 1 :], self.stored[first + 1 :], strict=True)
        )
        grid = math.prod(-(-n // by) for n, by in zip(self.shape, self.stored, strict=True))
        return max(min(line, grid, KEPT_BYTES // max(self.chunk_bytes, 1)), 1)

    def _boxes(self, window: Window) -> Iterator[tuple[Place, list[tuple[int, int]]]]:
        """Yield the chunks that a window meets, and the part of the window in each."""
        grid = [
            range(one.start // step, -(-one.stop // step))
            for one, step in zip(window, self.stored, strict=True)
        ]
        for place in itertools.product(*grid):
            yield (
                place,
                [
                    (max(i * step, one.start), min((i + 1) * step, one.stop))
                    for i, step, one in zip(place, self.stored, window, strict=True)
                ],
            )

    def _chunk_alone(self, place: Place) -> NDArray:
        return self._chunk(place, np.empty(self.chunk_bytes if self._decode else 0, np.uint8))

    def _chunk(self, place: Place, memory: NDArray[np.uint8]) -> NDArray:
        """Return a whole stored chunk; one value without dimensions if it is not stored."""
        if self._decode is None:
            return self._by_zarr(
                tuple(
                    slice(i * step, min((i + 1) * step, n))
                    for i, step, n in zip(place, self.stored, self.shape, strict=True)
                )
            )
        file = Path(self.array.store_path.store.root) / self.array.store_path.path
        file /= self._key_of(place)
        values = memory.view(self.dtype).reshape(self.stored)
        try:
            encoded = np.fromfile(file, np.uint8)
            self._decode(encoded, values)
        except FileNotFoundError:
            if self._loses:
                raise self._lost(place) from None
            return np.asarray(self.array.fill_value, self.dtype)
        except Exception as error:
            raise self._damaged(self._key_of(place), error) from error
        return values

    def _by_zarr(self, window: Window) -> NDArray:
        if self._loses:
            self._require_chunks(window)
        try:
            return np.asarray(self.array[window])
        except Exception as error:
            keys = ", ".join(self._key_of(place) for place, _ in self._boxes(window))
            raise self._damaged(keys, error) from error

    @property
    def _loses(self) -> bool:
        """Whether a chunk that is absent from the store was lost."""
        return self.missing_chunks == "error" and not self.absent

    def _require_chunks(self, window: Window) -> None:
        path = self.array.store_path
        for place, _ in self._boxes(window):
            key = self._key_of(place)
            if isinstance(path.store, LocalStore):
                exists = (path.store.root / path.path / key).exists()
            else:
                exists = has_key(self.array, key)
            if not exists:
                raise self._lost(place)

    def _lost(self, place: Place) -> ReadError:
        return ReadError(
            f"{self.name}: the chunk {self._key_of(place)} is not in {self.array.store_path}. "
            "Either it was lost, or never written because it holds only the fill value "
            f"{self.array.fill_value!r}. If it was lost, write it again. If the fill value is "
            "meant, pass missing_chunks='fill' (--missing-chunks fill)."
        )

    def _damaged(self, key: str, error: BaseException) -> ReadError:
        return ReadError(
            f"{self.name}: the stored chunk {key} cannot be read ({type(error).__name__}: "
            f"{error}). It is truncated, damaged or out of reach. Write it again from its origin, "
            "then run the same command."
        )

    def describe(self) -> dict[str, Any]:
        return {**describe_array(self.array), **self._absent()}

    def _absent(self) -> dict[str, Any]:
        """Return the number of local stored chunks that are absent, if they mean the fill value."""
        store = self.array.store_path.store
        if self._loses or not isinstance(store, LocalStore):
            return {}
        folder = store.root / self.array.store_path.path
        whole = tuple(slice(0, n) for n in self.shape)
        stored = [(folder / self._key_of(place)).exists() for place, _ in self._boxes(whole)]
        absent = {
            "absent": len(stored) - sum(stored),
            "objects": len(stored),
            "fill": str(self.array.fill_value),
        }
        return absent if not all(stored) else {}


class KeptChunks:
    """A few decoded chunks. Each is decoded by one thread, while others that need it wait.

    Parameters
    ----------
    most : int
        Number of chunks that stay.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._chunks: OrderedDict[Place, _Kept] = OrderedDict()

    def get(self, place: Place, decode: Callable[[Place], NDArray]) -> NDArray:
        """Return a chunk, which nobody may change."""
        with self._lock:
            kept = self._chunks.setdefault(place, _Kept())
            self._chunks.move_to_end(place)
            while len(self._chunks) > self.most:
                self._chunks.popitem(last=False)
        with kept.lock:
            if kept.values is None:
                kept.values = decode(place)
            return kept.values


class _Kept:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: NDArray | None = None


def _decoder(array: zarr.Array) -> Decode | None:
    """Return the decoder of the chunks of a plain local array; None for every other array."""
    plain = (
        isinstance(array.store_path.store, LocalStore)
        and array.shards is None
        and not array.filters
        and (array.metadata.zarr_format == 3 or array.order == "C")
        and array.dtype.kind in "biuf"
        and array.dtype.isnative
        and is_little_endian(array.serializer)
    )
    return known_decoder(array.compressors) if plain else None
