"""A Zarr array, v2 or v3, read by rows.

Our own readers read plain arrays, local and remote. Zarr reads all others.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from dsoftmax.compat.zarr import (
    chunk_key,
    codec_names,
    codec_settings,
    read_rows,
    shards_stand_alone,
)
from dsoftmax.compat.zarr_bounds import bounded
from dsoftmax.data.buffer import Buffer, array_in
from dsoftmax.data.columns import value_bytes
from dsoftmax.data.missing import is_among
from dsoftmax.data.rows import StoredRows
from dsoftmax.data.zarr.absent import AbsentChunkError, with_every_chunk
from dsoftmax.data.zarr.declared import declared_missing
from dsoftmax.data.zarr.local.encoded import EncodedRows
from dsoftmax.data.zarr.local.faults import DamagedChunkError, MissingChunkError
from dsoftmax.data.zarr.local.files import LocalChunks
from dsoftmax.data.zarr.local.open import local_chunks
from dsoftmax.data.zarr.rechunk import rechunk_command
from dsoftmax.data.zarr.remote.chunks import RemoteChunks, remote_chunks
from dsoftmax.data.zarr.remote.store import as_remote, is_remote
from dsoftmax.data.zarr.units import Units, read_span
from dsoftmax.errors import AccessError, ReadError

IN_FLIGHT = 8
"""Reads of remote storage that run at once for each computing thread. A request waits some 50 ms
for its first byte, while a thread visits a block in 5 to 50 ms."""

PICKLE = "pickle"
"""Codec whose chunks are programs."""


class ZarrRows(StoredRows):
    """A Zarr array.

    Parameters
    ----------
    array : zarr.Array
    name : str
        Name of the array in messages.
    missing_chunks : {"error", "fill"}
        Meaning of a stored chunk that is absent from the store: a loss, or the fill value. Zarr's
        writers leave out chunks that hold only the fill value, and its readers cannot tell the two
        apart. A chunk of a fill value that the array declares as missing is no loss.
    """

    def __init__(self, array: zarr.Array, name: str, missing_chunks: str = "error") -> None:
        _require_harmless(array, name)
        self.remote = is_remote(array.store_path.store)
        self.array = as_remote(array) if self.remote else array
        self.name, self.missing_chunks = name, missing_chunks
        self._declared = declared_missing(array)
        self._fill_is_missing = is_among(array.fill_value, self._declared)
        self._local: LocalChunks | RemoteChunks | None = local_chunks(self.array)
        self._local = self._local or remote_chunks(self.array, fills=not self._loses)
        # Zarr's own reader does not bound what a stored chunk decodes to.
        self._present = bounded(self.array)
        self._whole = bounded(with_every_chunk(self.array)) if self._loses else self._present
        self._units = Units(self.unit_bytes, shared=self.ndim == 1)

    def __reduce__(self) -> tuple[Any, ...]:
        return ZarrRows, (self.array, self.name, self.missing_chunks)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def in_flight(self) -> int:
        return IN_FLIGHT if self.remote else 1

    @property
    def declared(self) -> tuple[Any, ...]:
        return self._declared

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.array.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of one stored object: a shard, or a chunk."""
        return tuple(self.array.shards or self.array.chunks)

    @property
    def unit_rows(self) -> int:
        """Rows that can be read without reading others.

        They are those of a stored chunk, of an inner chunk of a shard, or 1.
        """
        if self.array.shards is not None:
            inner = shards_stand_alone(self.array)
            return int(self.array.chunks[0] if inner else self.array.shards[0])
        return 1 if self._local is not None and self._local.by_rows else int(self.array.chunks[0])

    @property
    def unit_bytes(self) -> int:
        """Bytes of these rows, decoded, if each row is one value."""
        return min(self.unit_rows, self.shape[0]) * value_bytes(self.dtype)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray:
        """Read a span of rows, as dask asks for it."""
        start, stop, _ = index[0].indices(self.shape[0])
        return self.read(start, stop)[(slice(None), *index[1:])]

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        if self.ndim > 1:
            return self._read(start, stop, buffer)
        span = (start, stop, self.shape[0])
        out = array_in(buffer, (stop - start,), self.dtype) if self._numbers else None
        return read_span(self._units, self.unit_rows, span, self._read, self._decoded, out)

    def fetch(self, start: int, stop: int, buffer: Buffer) -> NDArray | EncodedRows:
        """Return rows encoded in ``buffer`` if they can be decoded by slices, else as `read`."""
        if self._local is not None:
            try:
                found = self._local.fetch(start, stop, buffer, self._damaged)
            except MissingChunkError:  # `read` knows what that means
                found = None
            except AccessError as error:
                raise self._refused(start, stop, error) from None
            except DamagedChunkError as fault:
                raise self._damaged(fault.key, fault.rows, fault.__cause__) from fault.__cause__
            if found is not None:
                return found
        return self.read(start, stop, buffer)

    def _decoded(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        """Return rows that stay in memory. The buffers of stored bytes are released."""
        values = self._read(start, stop, buffer)
        if self._local is not None:
            self._local.release()
        return values

    @property
    def _numbers(self) -> bool:
        return self.dtype.kind in "biuf"

    def _read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        out = array_in(buffer, (stop - start if self._numbers else 0, *self.shape[1:]), self.dtype)
        if self._local is not None:
            try:
                self._local.read(start, stop, out)
                return out
            except MissingChunkError as fault:
                if self._loses:
                    raise self._lost(fault.what, fault.rows) from None
            except AccessError as error:
                raise self._refused(start, stop, error) from None
            except DamagedChunkError as fault:
                raise self._damaged(fault.key, fault.rows, fault.__cause__) from fault.__cause__
        try:
            if not self._numbers or start == stop:
                return np.asarray(self._whole[start:stop])
            read_rows(self._whole, start, stop, out)
        except AbsentChunkError as absent:
            key, rows = self._place_of(absent.key, start, stop)
            raise self._lost(f"the chunk {key}", rows) from None
        except AccessError as error:
            raise self._refused(start, stop, error) from None
        except Exception as error:
            raise self._narrowed(start, stop, error) from error
        return out

    @property
    def _loses(self) -> bool:
        """Whether a chunk that is absent from the store was lost."""
        return self.missing_chunks == "error" and not self._fill_is_missing

    def _place_of(self, path: str, start: int, stop: int) -> tuple[str, tuple[int, int]]:
        """Return the key below the array, and the rows, of the chunk at a path of the store."""
        key, key_of = path.removeprefix(f"{self.array.store_path.path}/"), chunk_key(self.array)
        places = (place for place in self._places(start, stop) if key_of(place) == key)
        return key, self._rows_of(next(places, (start // self.stored[0],)), start, stop)

    def _lost(self, what: str, rows: tuple[int, int]) -> ReadError:
        return ReadError(
            f"{self.name} rows {rows[0]:,}–{rows[1] - 1:,}: {what} is not in "
            f"{self.array.store_path}. Either it was lost, or never written because it holds only "
            f"the fill value {self.array.fill_value!r}. If it was lost, write it again. If the "
            "fill value is meant, pass missing_chunks='fill' (--missing-chunks fill)."
        )

    def _refused(self, start: int, stop: int, error: AccessError) -> AccessError:
        return AccessError(f"{self.name} rows {start:,}–{stop - 1:,}: {error}")

    def _damaged(self, key: str, rows: tuple[int, int], error: BaseException | None) -> ReadError:
        return ReadError(
            f"{self.name} rows {rows[0]:,}–{rows[1] - 1:,} cannot be read ({type(error).__name__}: "
            f"{error}). The stored chunk {key} is truncated, damaged or out of reach. Write it "
            "again from its origin, then run the same command."
        )

    def _narrowed(self, start: int, stop: int, error: Exception) -> ReadError:
        """Name the first stored chunk that cannot be read alone.

        If each can be read now, as after a lost connection, name all of them.
        """
        key_of = chunk_key(self.array)
        for place in self._places(start, stop):
            rows = self._rows_of(place, start, stop)
            columns = [
                slice(i * step, (i + 1) * step)
                for i, step in zip(place[1:], self.stored[1:], strict=True)
            ]
            try:
                self._present[(slice(*rows), *columns)]
            except AccessError as refused:
                return refused
            except Exception as alone:
                return self._damaged(key_of(place), rows, alone)
        keys = (key_of(place) for place in self._places(start, stop))
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

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        if not (starts % self.unit_rows).any():
            return 0
        n_units = -(-self.shape[0] // self.unit_rows)
        return min(len(self._units), n_units) * self.unit_bytes

    def smaller_chunks(self, rows: int) -> str:
        return rechunk_command(self.array, rows) if self.stored[0] > rows else ""

    def describe(self) -> dict[str, Any]:
        return {
            **describe_array(self.array),
            **({"missing": [str(value) for value in self.declared]} if self.declared else {}),
            **self._absent(),
        }

    def _absent(self) -> dict[str, Any]:
        """Return the number of local stored chunks that are absent, if they mean the fill value."""
        store = self.array.store_path.store
        if self.missing_chunks == "error" or not isinstance(store, LocalStore):
            return {}
        folder, key_of = store.root / self.array.store_path.path, chunk_key(self.array)
        stored = [(folder / key_of(place)).exists() for place in self._places(0, self.shape[0])]
        absent = {
            "absent": len(stored) - sum(stored),
            "objects": len(stored),
            "fill": str(self.array.fill_value),
        }
        return absent if not all(stored) else {}


def _require_harmless(array: zarr.Array, name: str) -> None:
    """Raise if a codec of the array would run code that the store holds."""
    if any(codec.removeprefix("numcodecs.") == PICKLE for codec in codec_names(array)):
        raise ReadError(
            f"{name} is encoded with the codec {PICKLE!r}, which runs code from the store when it "
            "is read; expected numbers, or text encoded as vlen-utf8. Nothing of it was read. If "
            "you trust its origin, write the values again without pickle."
        )


def describe_array(array: zarr.Array) -> dict[str, Any]:
    """Return a description of a stored array in JSON types."""
    return {
        "kind": "zarr",
        "store": str(array.store_path),
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "chunks": list(array.chunks),
        "shards": list(array.shards) if array.shards else None,
        "format": int(array.metadata.zarr_format),
        "compressors": [_settings(codec) for codec in array.compressors],
    }


def _settings(codec: Any) -> str:
    """Return a codec's name and options, alike for v2 and v3: "blosc(cname=lz4, clevel=5, …)"."""
    name, options = codec_settings(codec)
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"
