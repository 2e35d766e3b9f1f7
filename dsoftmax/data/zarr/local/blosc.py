"""Chunks of Blosc. They are cut into blocks that are compressed one by one, so that some of them can be read and decoded alone.

The library decodes whole chunks only. So the header is replaced by that of a chunk which holds no other blocks; where each lies is
said by a table after the header, and nothing is moved.

References
----------
c-blosc 1.21, ``README_CHUNK_FORMAT.rst``.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numcodecs import blosc  # Zarr's own dependency
from numpy.typing import NDArray

from dsoftmax.system.spans import read_into, read_spans

FIELDS = struct.Struct("<BBBBIII")
COPIED = 0x2
"""Among the flags: the content follows as it is, without a table."""
ONE_STREAM = 0x10
"""Among the flags: the bytes of a block are not split by their place in an item. A last block that is shorter never is."""
SMALL_BLOCK = 4 * 2**20
"""Blocks that the library cuts by itself take some 256 KiB, and no more than this; a writer may ask for larger ones (bytes)."""


@dataclass(frozen=True)
class Header:
    """The first bytes of a chunk.

    Attributes
    ----------
    version, codec_version, flags, item : int
    n_bytes : int
        Of the content.
    block : int
        Bytes of the content that are compressed as one.
    encoded_bytes : int
        Of all, this header included.
    """

    version: int
    codec_version: int
    flags: int
    item: int
    n_bytes: int
    block: int
    encoded_bytes: int

    @property
    def copied(self) -> bool:
        return bool(self.flags & COPIED)

    @property
    def n_blocks(self) -> int:
        return -(-self.n_bytes // self.block)

    @property
    def table_bytes(self) -> int:
        return 0 if self.copied else 4 * self.n_blocks

    def of_part(self, n_bytes: int, encoded_bytes: int) -> "Header":
        """Return the header of a chunk that holds some of the blocks."""
        part = replace(self, n_bytes=n_bytes, encoded_bytes=encoded_bytes)
        return (
            part
            if n_bytes >= self.block
            else replace(part, block=n_bytes, flags=self.flags | ONE_STREAM)
        )

    def put(self, encoded: NDArray[np.uint8]) -> None:
        """Write it where a chunk begins."""
        FIELDS.pack_into(encoded.data, 0, *vars(self).values())


def read_header(begin: NDArray[np.uint8], encoded_bytes: int, n_bytes: int) -> Header:
    """Return the header of a chunk that takes ``encoded_bytes`` and holds ``n_bytes``.

    Raises
    ------
    ValueError
        It tells of other sizes.
    """
    if len(begin) < FIELDS.size:
        raise ValueError(f"{len(begin)} bytes were stored, less than a header")
    header = Header(*FIELDS.unpack_from(begin.data))
    if (header.n_bytes, header.encoded_bytes) != (n_bytes, encoded_bytes):
        raise ValueError(
            f"the header tells of {header.encoded_bytes:,} bytes that make {header.n_bytes:,}; stored are {encoded_bytes:,}, and "
            f"needed are {n_bytes:,}"
        )
    least = FIELDS.size + (n_bytes if header.copied else 0)
    if not 0 < header.block <= n_bytes or least + header.table_bytes > encoded_bytes:
        raise ValueError(
            f"the header tells of blocks of {header.block:,} bytes, which {encoded_bytes:,} bytes cannot hold"
        )
    return header


def decode(encoded: NDArray[np.uint8], target: NDArray) -> None:
    """Decode a whole chunk."""
    read_header(encoded, len(encoded), target.nbytes)
    blosc.decompress(encoded, target)


class Blocks:
    """A chunk that is decoded some blocks at a time: see `dsoftmax.data.zarr.local.codecs.Parts`.

    Parameters
    ----------
    encoded : (m,) uint8
        Its header and table are changed.
    n_bytes : int
        Of the content.

    Raises
    ------
    ValueError
        The header tells of other sizes.
    """

    def __init__(self, encoded: NDArray[np.uint8], n_bytes: int) -> None:
        self._header = read_header(encoded, len(encoded), n_bytes)
        self.n_bytes, self.step = n_bytes, self._header.block
        self._encoded = encoded
        self._table = encoded[FIELDS.size : FIELDS.size + self._header.table_bytes].reshape(-1, 4)
        self._places = self._table.copy()

    def decode(self, start: int, target: NDArray[np.uint8]) -> None:
        if self._header.copied:
            target[:] = self._encoded[FIELDS.size + start :][: len(target)]
            return
        part = self._header.of_part(len(target), len(self._encoded))
        first = start // self.step
        self._table[: part.n_blocks] = self._places[first : first + part.n_blocks]
        part.put(self._encoded)
        blosc.decompress(self._encoded, target)


Room = Callable[[int], NDArray[np.uint8] | None]
"""Returns memory of so many bytes; None where it has less."""


@dataclass(frozen=True)
class Part:
    """Some blocks of a chunk, as a chunk of their own.

    Attributes
    ----------
    encoded : (m,) uint8
    start : int
        Where their content begins in that of the whole chunk (bytes).
    n_bytes : int
        Of their content.
    """

    encoded: NDArray[np.uint8]
    start: int
    n_bytes: int


def read_blocks(
    file: BinaryIO, encoded_bytes: int, n_bytes: int, start: int, stop: int, room: Room
) -> Part | None:
    """Read the blocks that hold the content from ``start`` to ``stop``, as a chunk of their own; None where there is no room for it.

    Parameters
    ----------
    file : unbuffered file
        That begins with a chunk.
    encoded_bytes, n_bytes : int
        Of the whole chunk.
    start, stop : int
        Bytes.
    room : Room

    Raises
    ------
    ValueError
        The header or the table tell of what cannot be.
    """
    begin = np.empty(min(FIELDS.size, encoded_bytes), np.uint8)
    file.seek(0)
    read_into(file, begin.data)
    header = read_header(begin, encoded_bytes, n_bytes)
    if header.copied:
        part = header.of_part(stop - start, FIELDS.size + stop - start)
        encoded = room(part.encoded_bytes)
        if encoded is None:
            return None
        part.put(encoded)
        file.seek(FIELDS.size + start)
        read_into(file, encoded[FIELDS.size :].data)
        return Part(encoded, start, stop - start)
    places, sizes = _read_table(file, header)
    first, last = start // header.block, -(-stop // header.block)
    places, sizes = places[first:last], sizes[first:last]
    before = FIELDS.size + 4 * len(places)
    ends = before + np.cumsum(sizes)
    encoded = room(int(ends[-1]))
    if encoded is None:
        return None
    content = min(last * header.block, n_bytes) - first * header.block
    header.of_part(content, len(encoded)).put(encoded)
    encoded[FIELDS.size : before] = (ends - sizes).astype("<i4").view(np.uint8)
    # Threads that compressed blocks side by side may have written them in any order.
    read_spans(file, list(zip(places.tolist(), sizes.tolist(), strict=True)), encoded[before:].data)
    return Part(encoded, first * header.block, content)


def _read_table(file: BinaryIO, header: Header) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the blocks of a chunk lie in its file, and how long they are (bytes)."""
    table = np.empty(header.n_blocks, "<i4")
    read_into(file, table.view(np.uint8).data)
    places = table.astype(np.int64)
    order = np.argsort(places)
    sizes = np.empty_like(places)
    sizes[order] = np.diff(places[order], append=header.encoded_bytes)
    if places.min() < FIELDS.size + header.table_bytes or sizes.min() <= 0:
        raise ValueError(
            f"the table of the {header.n_blocks:,} blocks tells of places that cannot be"
        )
    return places, sizes
