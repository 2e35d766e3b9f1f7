"""A Zarr array, v2 or v3, read by rows: past Zarr where it is plain and local, else by Zarr."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from dsoftmax.data.block import Buffer, room
from dsoftmax.data.checks import MISSING_CHUNKS
from dsoftmax.data.columns import value_bytes
from dsoftmax.data.rows import Rows
from dsoftmax.data.zarr.local.codecs import name_and_options
from dsoftmax.data.zarr.local.encoded import EncodedRows
from dsoftmax.data.zarr.local.files import DamagedChunkError, MissingChunkError, local_chunks
from dsoftmax.data.zarr.rechunk import rechunk_command
from dsoftmax.errors import ReadError, unknown_option

KEPT_UNITS, KEPT_BYTES = 4, 8 * 2**20
"""Decoded chunks of y, weights or groups that are kept, where the rows of X begin or end within them: so many, and fewer where they
take more than so many bytes; one always."""


class Place:
    """Where a decoded unit is kept, and another one in its place later; whoever holds the lock may read or change it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.number = -1
        self.values: NDArray | None = None
        self.buffer: Buffer | None = None


class ZarrRows:
    """A Zarr array.

    Parameters
    ----------
    array : zarr.Array
    missing : {"error", "fill"}
        What a chunk that is not in the store means: a loss, or the fill value. Zarr's writers leave out chunks that hold
        nothing but the fill value, and its readers cannot tell the two apart.
    """

    resident = False

    def __init__(self, array: zarr.Array, name: str, missing: str = "error") -> None:
        if missing not in MISSING_CHUNKS:
            raise unknown_option("missing_chunks", missing, MISSING_CHUNKS)
        self.array, self.name, self.missing = array, name, missing
        self._local = local_chunks(array)
        fit = min(KEPT_BYTES // max(self.unit_bytes, 1), KEPT_UNITS) if self.ndim == 1 else 0
        self._kept = [Place() for _ in range(max(fit, 1))]

    def __reduce__(self) -> tuple[Any, ...]:
        return ZarrRows, (self.array, self.name, self.missing)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of what is stored as one object: a shard, or a chunk."""
        return tuple(self.array.shards or self.array.chunks)

    @property
    def unit_rows(self) -> int:
        """The rows that can be read without reading others: a stored chunk's, an inner chunk's of a shard, or 1."""
        if self.array.shards is not None:
            # Any codec beside that of the shards must have the whole shard before it.
            return int(
                self.array.chunks[0]
                if len(self.array.metadata.codecs) == 1
                else self.array.shards[0]
            )
        return 1 if self._local is not None and self._local.by_rows else int(self.array.chunks[0])

    @property
    def unit_bytes(self) -> int:
        """What these rows take, decoded, where there is one value in each."""
        return min(self.unit_rows, self.shape[0]) * value_bytes(self.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray:
        """Read a span of rows, as dask asks for it."""
        start, stop, _ = index[0].indices(self.shape[0])
        return self.read(start, stop)[(slice(None), *index[1:])]

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        unit, end = self.unit_rows, self.shape[0]
        first, last = -(-start // unit) * unit, stop if stop == end else stop // unit * unit
        if self.ndim > 1 or (first, last) == (start, stop):
            return self._read(start, stop, buffer)
        # Labels whose chunks are cut otherwise than those of X: neighbours ask for the two ends too.
        if first > last:
            return self._within(start // unit, start, stop)
        parts = [self._within(start // unit, start, first)] if start < first else []
        parts += [self._read(first, last)] if first < last else []
        parts += [self._within(stop // unit, last, stop)] if last < stop else []
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def fetch(self, start: int, stop: int, buffer: Buffer) -> NDArray | EncodedRows:
        """Return rows to visit a piece at a time: encoded in ``buffer`` where they can be decoded so, else as `read` does."""
        if self._local is not None:
            try:
                found = self._local.fetch(start, stop, buffer, self._damaged)
            except MissingChunkError:  # `read` knows what that means
                found = None
            except DamagedChunkError as damaged:
                raise self._damaged(
                    damaged.key, damaged.rows, damaged.__cause__
                ) from damaged.__cause__
            if found is not None:
                return found
        return self.read(start, stop, buffer)

    def _within(self, number: int, start: int, stop: int) -> NDArray:
        """Return a copy of rows of one unit, which is read by one thread, or taken from the few that are kept."""
        low, high = number * self.unit_rows, min((number + 1) * self.unit_rows, self.shape[0])
        place = self._kept[number % len(self._kept)]
        with place.lock:
            if place.number != number or place.values is None:
                place.values = None
                if place.buffer is None and self._numbers:
                    place.buffer = np.empty(self.unit_bytes, np.uint8)
                place.values, place.number = self._read(low, high, place.buffer), number
                if self._local is not None:
                    self._local.forget()
            return place.values[start - low : stop - low].copy()

    @property
    def _numbers(self) -> bool:
        return self.dtype.kind in "biuf"

    def _read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        out = room(buffer, (stop - start if self._numbers else 0, *self.shape[1:]), self.dtype)
        if self._local is not None:
            try:
                self._local.read(start, stop, out)
                return out
            except MissingChunkError as lost:
                if self.missing == "error":
                    raise self._lost(lost.what, lost.rows) from None
            except DamagedChunkError as damaged:
                raise self._damaged(
                    damaged.key, damaged.rows, damaged.__cause__
                ) from damaged.__cause__
        elif self.missing == "error":
            self._require_chunks(start, stop)
        try:
            if not self._numbers or start == stop:
                return np.asarray(self.array[start:stop])
            into = default_buffer_prototype().nd_buffer.from_numpy_array(out)
            self.array.get_basic_selection((slice(start, stop),), out=into)
        except Exception as error:
            raise self._narrowed(start, stop, error) from error
        return out

    def _require_chunks(self, start: int, stop: int) -> None:
        path = self.array.store_path
        for place in self._places(start, stop):
            key = self.array.metadata.encode_chunk_key(place)
            if isinstance(path.store, LocalStore):
                exists = (path.store.root / path.path / key).exists()
            else:
                exists = sync((path / key).exists())
            if not exists:
                raise self._lost(f"the chunk {key}", self._rows_of(place, start, stop))

    def _lost(self, what: str, rows: tuple[int, int]) -> ReadError:
        return ReadError(
            f"{self.name} rows {rows[0]:,}–{rows[1] - 1:,}: {what} is not in {self.array.store_path}. Either it was lost, or "
            f"never written because it holds nothing but the fill value {self.array.fill_value!r}. If it was lost, write it "
            "again; if the fill value is meant, say missing_chunks='fill' (--missing-chunks fill)."
        )

    def _damaged(self, key: str, rows: tuple[int, int], error: BaseException | None) -> ReadError:
        return ReadError(
            f"{self.name} rows {rows[0]:,}–{rows[1] - 1:,} cannot be read ({type(error).__name__}: {error}). The stored chunk "
            f"{key} is truncated, damaged or out of reach. Write it again from its origin, then run the same command."
        )

    def _narrowed(self, start: int, stop: int, error: Exception) -> ReadError:
        """Name the first stored chunk that cannot be read alone; all of them where each can, as after a lost connection."""
        for place in self._places(start, stop):
            rows = self._rows_of(place, start, stop)
            columns = [
                slice(i * step, (i + 1) * step)
                for i, step in zip(place[1:], self.stored[1:], strict=True)
            ]
            try:
                self.array[(slice(*rows), *columns)]
            except Exception as alone:
                return self._damaged(self.array.metadata.encode_chunk_key(place), rows, alone)
        keys = (self.array.metadata.encode_chunk_key(place) for place in self._places(start, stop))
        return self._damaged("among " + ", ".join(itertools.islice(keys, 3)), (start, stop), error)

    def _rows_of(self, place: tuple[int, ...], start: int, stop: int) -> tuple[int, int]:
        return max(place[0] * self.stored[0], start), min((place[0] + 1) * self.stored[0], stop)

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, ...]]:
        grid = [range(start // self.stored[0], -(-stop // self.stored[0]))]
        grid += [
            range(-(-size // step))
            for size, step in zip(self.shape[1:], self.stored[1:], strict=True)
        ]
        return itertools.product(*grid)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        return self

    def kept_bytes(self, starts: NDArray[np.int64]) -> int:
        whole = not (starts % self.unit_rows).any()
        return (
            0
            if whole
            else min(len(self._kept), -(-self.shape[0] // self.unit_rows)) * self.unit_bytes
        )

    def smaller_chunks(self, rows: int) -> str:
        return rechunk_command(self.array, rows) if self.stored[0] > rows else ""

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "zarr",
            "store": str(self.array.store_path),
            "shape": list(self.shape),
            "dtype": str(self.array.dtype),
            "chunks": list(self.array.chunks),
            "shards": list(self.array.shards) if self.array.shards else None,
            "format": int(self.array.metadata.zarr_format),
            "compressors": [_settings(codec) for codec in self.array.compressors],
        }


def _settings(codec: Any) -> str:
    """Return a codec's name and options: "blosc(cname=lz4, clevel=5, …)", alike in v2 and v3."""
    name, options = name_and_options(codec)
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"
