"""Chunks of a plain remote Zarr array, decoded by the thread that asks or by the one that computes.

Zarr's own reader decodes each chunk on a thread pool of its own, and copies it. That costs about
twice the CPU time of decoding into the block.
"""

from collections.abc import Sequence

import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.compat.zarr import chunk_key, read_objects
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.zarr.local.codecs import (
    Decode,
    Decoder,
    copy_bytes,
    decoder_of,
    known_decoder,
)
from dsoftmax.data.zarr.local.encoded import Damaged, EncodedRows, Stored
from dsoftmax.data.zarr.local.faults import DamagedChunkError, MissingChunkError, Span
from dsoftmax.data.zarr.local.grid import Place, overlaps
from dsoftmax.data.zarr.local.open import is_plain
from dsoftmax.data.zarr.local.scratch import Scratch
from dsoftmax.data.zarr.remote.store import is_remote

Overlap = tuple[Place, Span, Span]


def remote_chunks(array: zarr.Array, fills: bool) -> "RemoteChunks | None":
    """Return the reader of a plain remote array without shards; None for every other array.

    Parameters
    ----------
    array : zarr.Array
    fills : bool
        Whether an absent chunk holds the fill value. Otherwise it is missing.
    """
    if not (is_remote(array.store_path.store) and is_plain(array) and array.shards is None):
        return None
    decode = known_decoder(array.compressors)
    return None if decode is None else RemoteChunks(array, decode, fills)


class RemoteChunks:
    """The objects of a plain remote Zarr array.

    Parameters
    ----------
    array : zarr.Array
        Array whose store repeats failed requests.
    decode : Decode
    fills : bool
        See `remote_chunks`.

    Attributes
    ----------
    by_rows : bool
        Whether some rows of a chunk can be read alone: they cannot.
    """

    by_rows = False

    def __init__(self, array: zarr.Array, decode: Decode, fills: bool) -> None:
        self.store, self.path = array.store_path.store, array.store_path.path
        self.decode, self.fills = decode, fills
        self.dtype, self.fill = np.dtype(array.dtype), array.fill_value or 0
        self.ndim, self._key_of = array.ndim, chunk_key(array)
        self.width = array.shape[1] if array.ndim == 2 else 1
        self.chunk = (array.chunks[0], array.chunks[1] if array.ndim == 2 else 1)
        self.chunk_bytes = self.chunk[0] * self.chunk[1] * self.dtype.itemsize
        self._scratch = Scratch()

    def read(self, start: int, stop: int, out: NDArray) -> None:
        """Fill ``out`` with rows ``start:stop``. All their chunks are requested at once.

        Parameters
        ----------
        start, stop : int
        out : (stop − start,) or (stop − start, p) ndarray, C-contiguous, in the array's dtype

        Raises
        ------
        AccessError
        MissingChunkError
        DamagedChunkError
        """
        flat = out.reshape(stop - start, self.width)
        places = list(overlaps((start, stop), (0, self.width), self.chunk))
        for (place, rows, columns), encoded in zip(places, self._objects(places), strict=True):
            part = flat[rows[0] - start : rows[1] - start, columns[0] : columns[1]]
            if encoded is None:
                part[...] = self.fill
                continue
            try:
                self._decode(encoded, rows[0] - place[0] * self.chunk[0], part)
            except Exception as error:
                raise DamagedChunkError(self._key(place), rows) from error

    def fetch(self, start: int, stop: int, buffer: Buffer, damaged: Damaged) -> EncodedRows | None:
        """Return rows ``start:stop`` encoded, in ``buffer``, which decoding changes.

        None if they are not compressed chunks of whole rows. Chunks that do not fit the buffer
        have memory of their own.

        Raises
        ------
        AccessError
        MissingChunkError
        """
        whole = self.decode is not copy_bytes and self.chunk[1] == self.width
        if start == stop or not whole or start % self.chunk[0]:
            return None
        places = list(overlaps((start, stop), (0, self.width), self.chunk))
        found, left = [], buffer
        for (place, rows, _), encoded in zip(places, self._objects(places), strict=True):
            decoder: Decoder
            if encoded is None:
                decoder = FillDecoder(self.chunk_bytes, self.dtype, self.fill)
            else:
                size = encoded.size
                own = left[:size] if size <= len(left) else np.empty(size, np.uint8)
                left = left[size:] if size <= len(left) else left
                own[...] = encoded
                try:
                    decoder = decoder_of(own, self.chunk_bytes, self.decode)
                except ValueError as error:
                    raise DamagedChunkError(self._key(place), rows) from error
            found.append(Stored(decoder, self._key(place), rows))
        return EncodedRows((stop - start, self.width), self.dtype, found, self._scratch, damaged)

    def release(self) -> None:
        """Free this thread's scratch memory."""
        self._scratch.release()

    def _key(self, place: Place) -> str:
        return self._key_of(place[: self.ndim])

    def _objects(self, places: Sequence[Overlap]) -> list[NDArray[np.uint8] | None]:
        """Return the bytes of stored chunks; None for one that holds the fill value."""
        prefix = f"{self.path}/" if self.path else ""
        keys = [f"{prefix}{self._key(place)}" for place, *_ in places]
        found = read_objects(self.store, keys)
        if not self.fills:
            for (place, rows, _), encoded in zip(places, found, strict=True):
                if encoded is None:
                    raise MissingChunkError(f"the chunk {self._key(place)}", rows)
        return found

    def _decode(self, encoded: NDArray[np.uint8], first: int, target: NDArray) -> None:
        """Fill ``target`` with rows of a chunk from ``first`` on."""
        if target.shape == self.chunk and target.flags.c_contiguous:
            self.decode(encoded, target)
            return
        whole = self._scratch.get("decoded", self.chunk_bytes).view(self.dtype).reshape(self.chunk)
        self.decode(encoded, whole)
        target[...] = whole[first : first + len(target), : target.shape[1]]


class FillDecoder:
    """A chunk that was not stored, because it holds only the fill value."""

    def __init__(self, n_bytes: int, dtype: np.dtype, fill: object) -> None:
        self.n_bytes, self.step = n_bytes, dtype.itemsize
        self._dtype, self._fill = dtype, fill

    def decode(self, start: int, target: NDArray[np.uint8]) -> None:
        target.view(self._dtype)[...] = self._fill
