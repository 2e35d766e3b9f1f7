"""Chunks of a Zarr array in local files, read and decoded by the thread that asks, straight into the block.

Zarr's own reader passes every chunk through one event loop, where threads queue. Most arrays are plain, and for them a
chunk is a file with one compressed C-ordered array in it; all others are left to Zarr.
"""

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc, GZip, Zstd  # Zarr's own dependency
from numpy.typing import NDArray
from zarr.storage import LocalStore

Decode = Callable[[bytes, NDArray], None]
"""Decode a file's bytes into a contiguous array of the chunk's shape."""

BLOSC_HEADER = struct.Struct("<4xIxxxxI")  # sizes of the content, decoded and encoded


class LocalChunks:
    """The files of a plain local Zarr array.

    Parameters
    ----------
    root : Path
        Of the array.
    array : zarr.Array
    decode : Decode, optional
        None where chunks are not compressed.
    """

    def __init__(self, root: Path, array: zarr.Array, decode: Decode | None) -> None:
        self.root, self.decode = root, decode
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)
        self.width = array.shape[1] if array.ndim == 2 else 1
        self.chunk = (array.chunks[0], array.chunks[1] if array.ndim == 2 else 1)
        self.key = array.metadata.encode_chunk_key

    def read(self, start: int, stop: int) -> NDArray | None:
        """Return rows ``start:stop``; None if a file is missing. A chunk of whole rows is decoded in place, others by a copy.

        Raises
        ------
        ValueError, RuntimeError, OSError
            A file that is not one whole chunk.
        """
        out = np.empty((stop - start, self.width), self.dtype)
        step, width = self.chunk
        buffer: NDArray | None = None
        for number, column in itertools.product(range(start // step, -(-stop // step)), range(-(-self.width // width))):
            low, high = max(number * step, start), min((number + 1) * step, stop)
            left, right = column * width, min((column + 1) * width, self.width)
            part = out[low - start : high - start, left:right]
            place = (number, column)[: len(self.shape)]
            if part.shape == (step, self.width):
                if not self._load(self.root / self.key(place), part):
                    return None
                continue
            buffer = np.empty(self.chunk, self.dtype) if buffer is None else buffer
            if not self._load(self.root / self.key(place), buffer):
                return None
            part[...] = buffer[low - number * step : high - number * step, : right - left]
        return out.reshape(stop - start, *self.shape[1:])

    def _load(self, path: Path, target: NDArray) -> bool:
        """Fill ``target`` from a file; False if there is none."""
        try:
            with path.open("rb", buffering=0) as file:
                if self.decode is not None:
                    self.decode(file.read(), target)
                    return True
                found = path.stat().st_size
                if found != target.nbytes:
                    raise ValueError(f"the file holds {found:,} bytes; needed are {target.nbytes:,}")
                view, done = target.reshape(-1).view(np.uint8).data, 0
                while done < len(view):
                    count = file.readinto(view[done:])
                    if not count:
                        raise ValueError(f"the file ended after {done:,} of {len(view):,} bytes")
                    done += count
        except FileNotFoundError:
            return False
        return True


def local_chunks(array: zarr.Array) -> LocalChunks | None:
    """Return the reader of a plain local array: not sharded, not filtered, C-ordered native numbers, at most one compressor
    of Blosc, Zstandard or gzip. None for every other array.
    """
    store = array.store_path.store
    plain = (
        isinstance(store, LocalStore)
        and len(array.shape) in (1, 2)
        and array.shards is None
        and not array.filters
        and array.order == "C"
        and array.dtype.kind in "biuf"
        and array.dtype.isnative
        and _little_endian(array.serializer)
        and len(array.compressors) <= 1
    )
    if not plain:
        return None
    decode: Decode | None = None
    if array.compressors:
        decode = DECODERS.get(_name(array.compressors[0]))
        if decode is None:
            return None
    return LocalChunks(store.root / array.store_path.path, array, decode)


def _name(codec: Any) -> str:
    return str(codec.to_dict()["name"] if hasattr(codec, "to_dict") else codec.get_config()["id"])


def _little_endian(serializer: Any) -> bool:
    """Whether values lie in the file as they do in memory; v2 has no serializer, and says so by its dtype."""
    if np.little_endian is False:
        return False
    if serializer is None:
        return True
    about = serializer.to_dict()
    return about["name"] == "bytes" and about.get("configuration", {}).get("endian", "little") == "little"


def _blosc(encoded: bytes, target: NDArray) -> None:
    if len(encoded) < BLOSC_HEADER.size:
        raise ValueError(f"the file holds {len(encoded)} bytes, less than a header")
    decoded_bytes, encoded_bytes = BLOSC_HEADER.unpack_from(encoded)
    if (decoded_bytes, encoded_bytes) != (target.nbytes, len(encoded)):
        raise ValueError(
            f"the file's header tells of {encoded_bytes:,} bytes that make {decoded_bytes:,}; it holds {len(encoded):,}, and "
            f"needed are {target.nbytes:,}"
        )
    Blosc().decode(encoded, target)


def _by_copy(codec: Any) -> Decode:
    def decode(encoded: bytes, target: NDArray) -> None:
        decoded = np.frombuffer(codec.decode(encoded), target.dtype)
        if decoded.size != target.size:
            raise ValueError(f"the file decodes to {decoded.nbytes:,} bytes; needed are {target.nbytes:,}")
        target[...] = decoded.reshape(target.shape)

    return decode


DECODERS: dict[str, Decode] = {"blosc": _blosc, "zstd": _by_copy(Zstd()), "gzip": _by_copy(GZip())}
