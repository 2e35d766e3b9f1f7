"""Chunks and shards of a plain local Zarr array.

The thread that asks reads and decodes them straight into the block.

Zarr's own reader passes every chunk through one event loop, where threads queue. One thread may
also read encoded rows that another thread decodes while it works on them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.compat.zarr import chunk_key
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.zarr.local import blosc
from dsoftmax.data.zarr.local.codecs import Decode, copy_bytes, decoder_of
from dsoftmax.data.zarr.local.encoded import Damaged, EncodedRows, Stored
from dsoftmax.data.zarr.local.faults import DamagedChunkError, MissingChunkError, Span
from dsoftmax.data.zarr.local.grid import Place, overlaps
from dsoftmax.data.zarr.local.scratch import Scratch
from dsoftmax.data.zarr.local.shards import NOWHERE, ShardIndex
from dsoftmax.system.regular import open_regular
from dsoftmax.system.spans import read_into, read_spans

SMALL_BYTES = 256 * 2**10
"""Most encoded bytes of inner chunks that one read returns together, because a read has a cost."""

COPIED_BYTES = 2**20
"""Decoded bytes that are copied into the block at a time when rows of a Blosc chunk are read."""


class LocalChunks:
    """The files of a plain local Zarr array.

    Parameters
    ----------
    root : Path
        Directory of the array.
    array : zarr.Array
    decode : Decode
    index : ShardIndex, optional
        Form of the index, if files are shards.
    small_blocks : bool
        Whether chunks are of Blosc, in Blosc blocks of at most
        `dsoftmax.data.zarr.local.blosc.SMALL_BLOCK_BYTES`.

    Notes
    -----
    Each thread has scratch memory for its last reads: an encoded chunk, a decoded chunk
    if the block does not hold it whole, and the slices of encoded rows.
    """

    def __init__(
        self,
        root: Path,
        array: zarr.Array,
        decode: Decode,
        index: ShardIndex | None = None,
        small_blocks: bool = False,
    ) -> None:
        self.root, self.decode, self.index, self.small_blocks = root, decode, index, small_blocks
        self.dtype = np.dtype(array.dtype)
        self.width = array.shape[1] if array.ndim == 2 else 1
        self.stored, self.chunk = (
            (shape[0], shape[1] if len(shape) == 2 else 1)
            for shape in (array.shards or array.chunks, array.chunks)
        )
        self.chunk_bytes = self.chunk[0] * self.chunk[1] * self.dtype.itemsize
        self.ndim, self._key_of = array.ndim, chunk_key(array)
        self._scratch = Scratch()

    @property
    def compressed(self) -> bool:
        return self.decode is not copy_bytes

    @property
    def whole_rows(self) -> bool:
        """Whether no chunk or shard is cut along the columns."""
        return self.stored[1] == self.chunk[1] == self.width

    @property
    def by_rows(self) -> bool:
        """Whether some rows of a chunk can be read alone.

        Blosc decodes at most one more Blosc block at each end.
        """
        return not self.compressed or (
            self.small_blocks and self.ndim == 2 and self.index is None and self.whole_rows
        )

    def read(self, start: int, stop: int, out: NDArray) -> None:
        """Fill ``out`` with rows ``start:stop``.

        Chunks of whole rows are decoded in place, others by a copy. Only
        the requested rows of an uncompressed chunk are read.

        Parameters
        ----------
        start, stop : int
        out : (stop − start,) or (stop − start, p) ndarray, C-contiguous, in the array's dtype

        Raises
        ------
        MissingChunkError
        DamagedChunkError
        """
        flat = out.reshape(stop - start, self.width)
        for (number, column), rows, columns in overlaps(
            (start, stop), (0, self.width), self.stored
        ):
            key = self._key(number, column)
            part = flat[rows[0] - start : rows[1] - start, columns[0] : columns[1]]
            with self._opened(key, rows) as file:
                self._read_file(file, key, number, rows, part)

    def fetch(self, start: int, stop: int, buffer: Buffer, damaged: Damaged) -> EncodedRows | None:
        """Return rows ``start:stop`` encoded, read into ``buffer``, which decoding changes.

        None if they do not fit, are not compressed, or are not chunks of whole rows.

        Raises
        ------
        MissingChunkError
        DamagedChunkError
        """
        if (
            start == stop
            or not self.compressed
            or not self.whole_rows
            or (start % self.chunk[0] and not self.by_rows)
        ):
            return None
        found: list[Stored] = []
        allocate = _FromBuffer(buffer)
        for (number, column), rows, _ in overlaps((start, stop), (0, self.width), self.stored):
            key = self._key(number, column)
            with self._opened(key, rows) as file:
                some = self._fetch_file(file, key, number, rows, allocate)
            if some is None:
                return None
            found += some
        return EncodedRows((stop - start, self.width), self.dtype, found, self._scratch, damaged)

    def release(self) -> None:
        """Free this thread's scratch memory."""
        self._scratch.release()

    def _fetch_file(
        self, file: BinaryIO, key: str, number: int, rows: Span, allocate: blosc.Allocate
    ) -> list[Stored] | None:
        """Read the encoded chunks of some rows of a file; None if ``allocate`` has too little."""
        if self.by_rows and rows[1] - rows[0] < self.chunk[0]:
            return self._fetch_excerpt(file, key, number, rows, allocate)
        spans = [span for *_, span in self._spans(file, key, number, rows, self.width)]
        encoded = allocate(sum(length for _, length in spans))
        if encoded is None:
            return None
        read_spans(file, spans, encoded.data)
        ends = np.cumsum([length for _, length in spans])[:-1]
        return [
            Stored(decoder_of(one, self.chunk_bytes, self.decode), key, rows)
            for one in np.split(encoded, ends)
        ]

    def _fetch_excerpt(
        self, file: BinaryIO, key: str, number: int, rows: Span, allocate: blosc.Allocate
    ) -> list[Stored] | None:
        """Read the Blosc blocks of some rows of a file; None if ``allocate`` has too little."""
        start, stop = (
            (at - number * self.chunk[0]) * self.width * self.dtype.itemsize for at in rows
        )
        size = os.fstat(file.fileno()).st_size
        found = blosc.read_excerpt(file, size, self.chunk_bytes, start, stop, allocate)
        if found is None:
            return None
        decoder = blosc.BloscDecoder(found.encoded, found.n_bytes)
        return [Stored(decoder, key, rows, start - found.start)]

    def _key(self, number: int, column: int) -> str:
        return self._key_of((number, column)[: self.ndim])

    @contextmanager
    def _opened(self, key: str, rows: Span) -> Iterator[BinaryIO]:
        """Open a file; raise every error with it as the fault that it means."""
        try:
            with open_regular(self.root / key, buffering=0) as file:
                yield file
        except FileNotFoundError:
            raise MissingChunkError(f"the chunk {key}", rows) from None
        except MissingChunkError:
            raise
        except Exception as error:
            raise DamagedChunkError(key, rows) from error

    def _spans(
        self, file: BinaryIO, key: str, number: int, rows: Span, n_columns: int
    ) -> list[tuple[Place, Span, Span, Span]]:
        """Return the place, rows, columns and bytes of each chunk with some rows of a file.

        Rows and columns are counted from the first requested one.

        Parameters
        ----------
        file : unbuffered file
        key : str
        number : int
            Number of the file along the rows.
        rows : Span
            Requested rows of the file.
        n_columns : int

        Raises
        ------
        MissingChunkError
            One of them was not written.
        """
        first, size = rows[0] - number * self.stored[0], os.fstat(file.fileno()).st_size
        index = None if self.index is None else self.index.read(file, size)
        found = []
        for place, within, columns in overlaps(
            (first, first + rows[1] - rows[0]), (0, n_columns), self.chunk
        ):
            span = (0, size) if index is None else (int(index[place][0]), int(index[place][1]))
            if span == (NOWHERE, NOWHERE):
                raise MissingChunkError(
                    f"the inner chunk {place[: self.ndim]} of the shard {key}", rows
                )
            found.append((place, (within[0] - first, within[1] - first), columns, span))
        return found

    def _read_file(self, file: BinaryIO, key: str, number: int, rows: Span, part: NDArray) -> None:
        """Fill ``part`` with some rows of a file."""
        if self.compressed and self.by_rows and len(part) < self.chunk[0]:
            self._read_excerpt(file, key, number, rows, part)
            return
        found = self._spans(file, key, number, rows, part.shape[1])
        sizes = [length for *_, (_, length) in found]
        together = None
        if self.compressed and len(found) > 1 and sum(sizes) <= SMALL_BYTES * len(found):
            together = self._scratch.get("encoded", sum(sizes))
            read_spans(file, [span for *_, span in found], together.data)
        for k, (place, within, columns, (offset, length)) in enumerate(found):
            target = part[slice(*within), slice(*columns)]
            skipped = within[0] + rows[0] - number * self.stored[0] - place[0] * self.chunk[0]
            if not self.compressed:
                self._read_rows(file, offset, length, skipped, target)
                continue
            encoded = (
                self._scratch.get("encoded", length)
                if together is None
                else together[sum(sizes[:k]) :][:length]
            )
            if together is None:
                file.seek(offset)
                read_into(file, encoded.data)
            self._decode(encoded, skipped, target)

    def _read_excerpt(
        self, file: BinaryIO, key: str, number: int, rows: Span, part: NDArray
    ) -> None:
        """Fill ``part`` with some rows of a file that is one chunk of Blosc."""
        stored = self._fetch_excerpt(
            file, key, number, rows, lambda size: self._scratch.get("encoded", size)
        )
        assert stored is not None
        found, done = EncodedRows(part.shape, self.dtype, stored, self._scratch), 0
        for some in found.slices(max(COPIED_BYTES // found.row_bytes, 1)):
            part[done : done + len(some)] = some
            done += len(some)

    def _read_rows(
        self, file: BinaryIO, offset: int, length: int, first: int, target: NDArray
    ) -> None:
        """Fill ``target`` with rows, from ``first`` on, of an uncompressed chunk.

        The chunk begins at byte ``offset`` of the file.
        """
        if length != self.chunk_bytes:
            raise ValueError(f"the chunk has {length:,} bytes; expected {self.chunk_bytes:,}")
        in_place = target.shape[1] == self.chunk[1] and target.flags.c_contiguous
        rows = target if in_place else self._decoded(len(target))
        file.seek(offset + first * self.chunk[1] * self.dtype.itemsize)
        read_into(file, rows.reshape(-1).view(np.uint8).data)
        if not in_place:
            target[...] = rows[:, : target.shape[1]]

    def _decode(self, encoded: NDArray[np.uint8], first: int, target: NDArray) -> None:
        """Fill ``target`` with rows of a chunk from ``first`` on.

        A whole chunk is decoded in place.
        """
        if target.shape == self.chunk and target.flags.c_contiguous:
            self.decode(encoded, target)
            return
        rows = self._decoded(self.chunk[0])
        self.decode(encoded, rows)
        target[...] = rows[first : first + len(target), : target.shape[1]]

    def _decoded(self, n_rows: int) -> NDArray:
        """Return scratch memory for rows of a chunk."""
        n_bytes = n_rows * self.chunk[1] * self.dtype.itemsize
        return self._scratch.get("decoded", n_bytes).view(self.dtype).reshape(n_rows, self.chunk[1])


class _FromBuffer:
    """Allocates a buffer part by part; None if less is left than wanted."""

    def __init__(self, buffer: Buffer) -> None:
        self._left = buffer

    def __call__(self, size: int) -> NDArray[np.uint8] | None:
        if size > len(self._left):
            return None
        part, self._left = self._left[:size], self._left[size:]
        return part
