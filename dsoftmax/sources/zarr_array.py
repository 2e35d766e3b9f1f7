"""Zarr arrays, v2 and v3: one for X, one for y, optionally one for weights; read by whole chunks or shards."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarr.storage import LocalStore

from dsoftmax.blocks import Buffer, Names
from dsoftmax.errors import ReadError, unknown_option
from dsoftmax.sources.local_chunks import local_chunks
from dsoftmax.sources.memory import MemoryRows
from dsoftmax.sources.rows import MISSING_CHUNKS, Rows, RowSource, check_shapes, cut, require_numbers

GROUP_BYTES = 2**20
"""Small stored chunks are read together until they make about this much (bytes)."""
KEPT_UNITS = 4
"""Decoded chunks of y or weights that are kept, where they are longer than those of X."""


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
        self._units: OrderedDict[int, NDArray] = OrderedDict()
        self._lock = threading.Lock()
        self._local = local_chunks(array)

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
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray:
        """Read a span of rows, as dask asks for it."""
        start, stop, _ = index[0].indices(self.shape[0])
        return self.read(start, stop)[(slice(None), *index[1:])]

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        unit = self.stored[0]
        if len(self.shape) > 1 or (start % unit == 0 and (stop % unit == 0 or stop == self.shape[0])):
            return self._read(start, stop)
        parts = []
        for number in range(start // unit, -(-stop // unit)):
            low, high = number * unit, min((number + 1) * unit, self.shape[0])
            parts.append(self._unit(number, low, high)[max(start - low, 0) : stop - low])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _unit(self, number: int, start: int, stop: int) -> NDArray:
        """Read one stored chunk, or take it from the few that are kept."""
        with self._lock:
            if number in self._units:
                self._units.move_to_end(number)
                return self._units[number]
        values = self._read(start, stop)
        with self._lock:
            self._units[number] = values
            while len(self._units) > KEPT_UNITS:
                self._units.popitem(last=False)
        return values

    def _read(self, start: int, stop: int) -> NDArray:
        if self.missing == "error":
            self._require_chunks(start, stop)
        try:
            values = None if self._local is None else self._local.read(start, stop)
            if values is None:
                values = np.asarray(self.array[start:stop])
        except Exception as error:
            raise self._damaged(start, stop, error) from error
        return values

    def _damaged(self, start: int, stop: int, error: Exception) -> ReadError:
        """Name the first stored chunk that cannot be read alone; all of them where each can, as after a lost connection."""
        keys = "among " + ", ".join(itertools.islice(self._keys(start, stop), 3))
        for place in self._places(start, stop):
            low, high = place[0] * self.stored[0], min((place[0] + 1) * self.stored[0], self.shape[0])
            columns = [slice(i * step, (i + 1) * step) for i, step in zip(place[1:], self.stored[1:], strict=True)]
            try:
                self.array[(slice(low, high), *columns)]
            except Exception as alone:
                start, stop, error, keys = low, high, alone, self.array.metadata.encode_chunk_key(place)
                break
        return ReadError(
            f"{self.name} rows {start:,}–{stop - 1:,} cannot be read ({type(error).__name__}: {error}). The stored chunk {keys} "
            "is truncated, damaged or out of reach. Write it again from its origin, then run the same command."
        )

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, ...]]:
        grid = [range(start // self.stored[0], -(-stop // self.stored[0]))]
        grid += [range(-(-size // step)) for size, step in zip(self.shape[1:], self.stored[1:], strict=True)]
        return itertools.product(*grid)

    def _keys(self, start: int, stop: int) -> Iterator[str]:
        return (self.array.metadata.encode_chunk_key(place) for place in self._places(start, stop))

    def _require_chunks(self, start: int, stop: int) -> None:
        path = self.array.store_path
        for key in self._keys(start, stop):
            if isinstance(path.store, LocalStore):
                exists = (path.store.root / path.path / key).exists()
            else:
                exists = sync((path / key).exists())
            if not exists:
                raise ReadError(
                    f"{self.name} rows {start:,}–{stop - 1:,}: the chunk {key} is not in {path}. Either it was lost, or never "
                    f"written because it holds nothing but the fill value {self.array.fill_value!r}. If it was lost, write it "
                    "again; if the fill value is meant, say missing_chunks='fill' (--missing-chunks fill)."
                )

    def only(self, spans: Sequence[tuple[int, int]]) -> Rows:
        return self

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


def read_whole(array: zarr.Array, name: str, missing_chunks: str = "error") -> NDArray:
    """Return all values of an array, as labels or weights of rows that are in memory."""
    rows = ZarrRows(array, name, missing_chunks)
    return rows.read(0, rows.shape[0])


def _settings(codec: Any) -> str:
    """Return a codec's name and options: "blosc(cname=lz4, clevel=5, …)", alike in v2 and v3."""
    if hasattr(codec, "to_dict"):
        stored = codec.to_dict()
        name, options = stored["name"], stored.get("configuration", {})
    else:
        options = codec.get_config()
        name = options.pop("id")
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"


def zarr_source(
    X: zarr.Array,
    y: Any = None,
    weights: Any = None,
    names: Names | None = None,
    missing_chunks: str = "error",
) -> RowSource:
    """Return a source that reads a Zarr array by whole chunks or shards; opening it reads metadata only.

    Parameters
    ----------
    X : (n, p) zarr.Array
        Its chunks or shards cut the rows; small ones are read several at a time.
    y, weights : (n,) zarr.Array or array-like, optional
        Read by the rows of X, whatever their own chunks.
    names : Names, optional
    missing_chunks : {"error", "fill"}
        What a chunk that is not in the store means.

    Raises
    ------
    DataError
        Shapes that do not fit, or X without real numbers.
    OptionError
        ``missing_chunks`` is unknown.
    """
    names = names or Names()

    def rows(values: Any, name: str) -> Rows | None:
        if values is None:
            return None
        if isinstance(values, zarr.Array):
            return ZarrRows(values, name, missing_chunks)
        return MemoryRows(np.asarray(values))

    features = ZarrRows(X, names.X, missing_chunks)
    labels, sample_weights = rows(y, names.y), rows(weights, names.weights)
    check_shapes(
        names,
        features.shape,
        None if labels is None else labels.shape,
        None if sample_weights is None else sample_weights.shape,
    )
    require_numbers(names.X, features.dtype)
    n, p = features.shape
    row_bytes = p * features.dtype.itemsize
    stored = min(features.stored[0], n)
    step = stored * max(GROUP_BYTES // (stored * row_bytes), 1)
    chunk_rows = cut(n, step)
    return RowSource(features, labels, sample_weights, chunk_rows, chunk_rows * row_bytes, False, names)
