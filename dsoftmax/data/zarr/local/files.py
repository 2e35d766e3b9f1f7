"""Chunks and shards of a Zarr array in local files, read and decoded by the thread that asks, straight into the block, or read by
one thread and decoded by another while it works on the rows.

Zarr's own reader passes every chunk through one event loop, where threads queue. Most arrays are plain, and for them a
file is one compressed C-ordered array, or a shard of such with an index; all others are left to Zarr.
"""

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from dsoftmax.data.block import Buffer
from dsoftmax.data.zarr.local import blosc
from dsoftmax.data.zarr.local.codecs import (
    Decode,
    copy_bytes,
    is_little_endian,
    known_decoder,
    name_and_options,
    parts_of,
)
from dsoftmax.data.zarr.local.encoded import Damaged, EncodedRows, Stored
from dsoftmax.data.zarr.local.shards import NOWHERE, ShardIndex, shard_index
from dsoftmax.system.spans import read_into, read_spans

SMALL_BYTES = 256 * 2**10
"""Inner chunks of no more than this, encoded, are read together where they lie so (bytes)."""

COPIED_BYTES = 2**20
"""Rows of a part of a chunk are decoded beside the block and copied, about so much at a time (bytes)."""

Span = tuple[int, int]
"""First and last + 1, of rows or columns; of bytes in a file, the first and how many."""
Place = tuple[int, int]
"""The number of a file or chunk along the rows and along the columns."""


class MissingChunkError(Exception):
    """A stored chunk is not there.

    Attributes
    ----------
    what : str
        "the chunk c/3/0", or "the inner chunk (2, 0) of the shard c/3/0".
    rows : Span
        Those asked for that the file should hold.
    """

    def __init__(self, what: str, rows: Span) -> None:
        super().__init__(f"{what} is missing")
        self.what, self.rows = what, rows


class DamagedChunkError(Exception):
    """A file cannot be read or is not what it should be; its cause says why.

    Attributes
    ----------
    key : str
        Of the chunk or shard.
    rows : Span
        Those asked for that the file should hold.
    """

    def __init__(self, key: str, rows: Span) -> None:
        super().__init__(f"{key} is damaged")
        self.key, self.rows = key, rows


class LocalChunks:
    """The files of a plain local Zarr array.

    Parameters
    ----------
    root : Path
        Of the array.
    array : zarr.Array
    decode : Decode
    index : ShardIndex, optional
        Where files are shards.
    small_blocks : bool
        Whether chunks are of Blosc, in blocks of no more than `dsoftmax.data.zarr.local.blosc.SMALL_BLOCK`.

    Notes
    -----
    Each thread keeps the scratch memory of its last reads: an encoded chunk, a decoded one where a chunk does not hold whole rows
    of the block, and the pieces of rows that come encoded.
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
        self.ndim, self.key = array.ndim, array.metadata.encode_chunk_key
        self._kept = threading.local()

    @property
    def compressed(self) -> bool:
        return self.decode is not copy_bytes

    @property
    def whole_rows(self) -> bool:
        """Whether chunks and shards are not cut along the columns."""
        return self.stored[1] == self.chunk[1] == self.width

    @property
    def by_rows(self) -> bool:
        """Whether some rows of a chunk can be read and decoded without the others: of Blosc, with a block more at each end at most."""
        return not self.compressed or (
            self.small_blocks and self.ndim == 2 and self.index is None and self.whole_rows
        )

    def read(self, start: int, stop: int, out: NDArray) -> None:
        """Fill ``out`` with rows ``start:stop``.

        Chunks of whole rows are decoded in place, others by a copy; of chunks that are not compressed only the rows that are
        asked for are read.

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
        for (number, column), rows, columns in _overlaps(
            (start, stop), (0, self.width), self.stored
        ):
            key = self._key(number, column)
            part = flat[rows[0] - start : rows[1] - start, columns[0] : columns[1]]
            with self._opened(key, rows) as file:
                self._read_file(file, key, number, rows, part)

    def fetch(self, start: int, stop: int, buffer: Buffer, damaged: Damaged) -> EncodedRows | None:
        """Return rows ``start:stop`` as they are stored, read into ``buffer``, which is changed as they are decoded.

        None where they do not fit, are not compressed, or are not chunks of whole rows.

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
        taking = _Taking(buffer)
        for (number, column), rows, _ in _overlaps((start, stop), (0, self.width), self.stored):
            key = self._key(number, column)
            with self._opened(key, rows) as file:
                some = self._fetch_file(file, key, number, rows, taking)
            if some is None:
                return None
            found += some
        return EncodedRows((stop - start, self.width), self.dtype, found, self._room, damaged)

    def _fetch_file(
        self, file: BinaryIO, key: str, number: int, rows: Span, room: blosc.Room
    ) -> list[Stored] | None:
        """Read the encoded chunks of some rows of a file; None where there is no room for them."""
        if self.by_rows and rows[1] - rows[0] < self.chunk[0]:
            return self._fetch_blocks(file, key, number, rows, room)
        spans = [span for *_, span in self._spans(file, key, number, rows, self.width)]
        encoded = room(sum(length for _, length in spans))
        if encoded is None:
            return None
        read_spans(file, spans, encoded.data)
        ends = np.cumsum([length for _, length in spans])[:-1]
        return [
            Stored(parts_of(one, self.chunk_bytes, self.decode), key, rows)
            for one in np.split(encoded, ends)
        ]

    def _fetch_blocks(
        self, file: BinaryIO, key: str, number: int, rows: Span, room: blosc.Room
    ) -> list[Stored] | None:
        """Read the encoded blocks of some rows of a file that is one chunk of Blosc; None where there is no room for them."""
        start, stop = (
            (at - number * self.chunk[0]) * self.width * self.dtype.itemsize for at in rows
        )
        size = os.fstat(file.fileno()).st_size
        found = blosc.read_blocks(file, size, self.chunk_bytes, start, stop, room)
        return (
            None
            if found is None
            else [
                Stored(blosc.Blocks(found.encoded, found.n_bytes), key, rows, start - found.start)
            ]
        )

    def forget(self) -> None:
        """Let go of this thread's scratch memory."""
        vars(self._kept).clear()

    def _key(self, number: int, column: int) -> str:
        return self.key((number, column)[: self.ndim])

    @contextmanager
    def _opened(self, key: str, rows: Span) -> Iterator[BinaryIO]:
        """Open a file; what goes wrong with it is raised as what it means."""
        try:
            with (self.root / key).open("rb", buffering=0) as file:
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
        """Return the places of the chunks in a file that hold some rows, those rows and columns, from the first on, and their bytes.

        Parameters
        ----------
        file : unbuffered file
        key : str
        number : int
            Of the file, along the rows.
        rows : tuple of int
            Wanted of it.
        n_columns : int

        Raises
        ------
        MissingChunkError
            One of them was not written.
        """
        first, size = rows[0] - number * self.stored[0], os.fstat(file.fileno()).st_size
        index = None if self.index is None else self.index.read(file, size)
        found = []
        for place, within, columns in _overlaps(
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
            self._read_blocks(file, key, number, rows, part)
            return
        found = self._spans(file, key, number, rows, part.shape[1])
        sizes = [length for *_, (_, length) in found]
        together = None
        if self.compressed and len(found) > 1 and sum(sizes) <= SMALL_BYTES * len(found):
            together = self._room("encoded", sum(sizes))  # one read costs less than one for each
            read_spans(file, [span for *_, span in found], together.data)
        for k, (place, within, columns, (offset, length)) in enumerate(found):
            target = part[slice(*within), slice(*columns)]
            skipped = within[0] + rows[0] - number * self.stored[0] - place[0] * self.chunk[0]
            if not self.compressed:
                self._read_rows(file, offset, length, skipped, target)
                continue
            encoded = (
                self._room("encoded", length)
                if together is None
                else together[sum(sizes[:k]) :][:length]
            )
            if together is None:
                file.seek(offset)
                read_into(file, encoded.data)
            self._decode(encoded, skipped, target)

    def _read_blocks(
        self, file: BinaryIO, key: str, number: int, rows: Span, part: NDArray
    ) -> None:
        """Fill ``part`` with some rows of a file that is one chunk of Blosc."""
        stored = self._fetch_blocks(
            file, key, number, rows, lambda size: self._room("encoded", size)
        )
        assert stored is not None
        found, done = EncodedRows(part.shape, self.dtype, stored, self._room), 0
        for piece in found.pieces(max(COPIED_BYTES // found.row_bytes, 1)):
            part[done : done + len(piece)] = piece
            done += len(piece)

    def _read_rows(
        self, file: BinaryIO, offset: int, length: int, first: int, target: NDArray
    ) -> None:
        """Fill ``target`` with rows, from ``first`` on, of a chunk that is not compressed and begins at ``offset``."""
        if length != self.chunk_bytes:
            raise ValueError(f"the chunk takes {length:,} bytes; needed are {self.chunk_bytes:,}")
        in_place = target.shape[1] == self.chunk[1] and target.flags.c_contiguous
        rows = target if in_place else self._scratch("decoded", len(target))
        file.seek(offset + first * self.chunk[1] * self.dtype.itemsize)
        read_into(file, rows.reshape(-1).view(np.uint8).data)
        if not in_place:
            target[...] = rows[:, : target.shape[1]]

    def _decode(self, encoded: NDArray[np.uint8], first: int, target: NDArray) -> None:
        """Fill ``target`` with rows of a chunk from ``first`` on: in place where it is the whole chunk."""
        if target.shape == self.chunk and target.flags.c_contiguous:
            self.decode(encoded, target)
            return
        rows = self._scratch("decoded", self.chunk[0])
        self.decode(encoded, rows)
        target[...] = rows[first : first + len(target), : target.shape[1]]

    def _scratch(self, name: str, n_rows: int) -> NDArray:
        shape = (n_rows, self.chunk[1])
        return (
            self._room(name, n_rows * shape[1] * self.dtype.itemsize)
            .view(self.dtype)
            .reshape(shape)
        )

    def _room(self, name: str, n_bytes: int) -> NDArray[np.uint8]:
        """Return this thread's scratch memory of that name: fresh pages cost more than decoding into used ones."""
        room: NDArray[np.uint8] | None = getattr(self._kept, name, None)
        if room is None or room.nbytes < n_bytes:
            room = np.empty(n_bytes, np.uint8)
            setattr(self._kept, name, room)
        return room[:n_bytes]


class _Taking:
    """Hands out a buffer part by part; None when it has less than is wanted."""

    def __init__(self, buffer: Buffer) -> None:
        self._left = buffer

    def __call__(self, size: int) -> NDArray[np.uint8] | None:
        if size > len(self._left):
            return None
        part, self._left = self._left[:size], self._left[size:]
        return part


def _overlaps(
    rows: Span, columns: Span, step: tuple[int, int]
) -> Iterator[tuple[Place, Span, Span]]:
    """Yield the places of a grid that a rectangle meets, and the rows and columns of it that lie in each."""
    across = [
        range(low // by, -(-high // by))
        for (low, high), by in zip((rows, columns), step, strict=True)
    ]
    for i, j in itertools.product(*across):
        yield (
            (i, j),
            (max(i * step[0], rows[0]), min((i + 1) * step[0], rows[1])),
            (max(j * step[1], columns[0]), min((j + 1) * step[1], columns[1])),
        )


def local_chunks(array: zarr.Array) -> LocalChunks | None:
    """Return the reader of a plain local array: not filtered, C-ordered native numbers, at most one compressor of Blosc,
    Zstandard or gzip, in files of a chunk each or in shards with an index as Zarr writes it. None for every other array.
    """
    store = array.store_path.store
    plain = (
        isinstance(store, LocalStore)
        and array.ndim in (1, 2)
        and not array.filters
        and (array.metadata.zarr_format == 3 or array.order == "C")
        and array.dtype.kind in "biuf"
        and array.dtype.isnative
        and is_little_endian(array.serializer)
    )
    if not plain:
        return None
    decode = known_decoder(array.compressors)
    index = None if array.shards is None else shard_index(array)
    if decode is None or (index is None) != (array.shards is None):
        return None
    small = (
        decode is blosc.decode
        and name_and_options(array.compressors[0])[1].get("blocksize", 0) <= blosc.SMALL_BLOCK
    )
    return LocalChunks(store.root / array.store_path.path, array, decode, index, small)
