"""Chunks of Blosc.

A chunk is a sequence of Blosc blocks, each compressed alone, so that some can be read and decoded
alone.

The library decodes whole chunks only. Its header is therefore replaced by that of a chunk which
consists of the wanted Blosc blocks alone. A table after the header states the offset of each Blosc
block, so that no compressed byte moves. `dsoftmax.compat.numcodecs` lists the properties of the
library on which this relies.

References
----------
c-blosc 1.21, ``README_CHUNK_FORMAT.rst``.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dsoftmax.compat.numcodecs import blosc_decompress
from dsoftmax.system.spans import read_into, read_spans

FIELDS = struct.Struct("<BBBBIII")
COPIED = 0x2
"""Flag of a chunk whose content follows uncompressed, without a table."""
ONE_STREAM = 0x10
"""Flag of a chunk whose bytes are not split by their place in an item.

A shorter last Blosc block never is split.
"""
SMALL_BLOCK_BYTES = 4 * 2**20
"""Most bytes of a Blosc block for which rows of a chunk are read alone.

The library's own choice is about 256 KiB, and at most this. A writer may ask for larger Blosc
blocks.
"""

Allocate = Callable[[int], NDArray[np.uint8] | None]
"""Returns memory of a number of bytes; None if it has less."""


@dataclass(frozen=True)
class Header:
    """The first bytes of a chunk.

    Attributes
    ----------
    version, codec_version, flags, item : int
    n_bytes : int
        Bytes of the content.
    block_bytes : int
        Bytes of the content of one Blosc block.
    encoded_bytes : int
        Bytes of the whole chunk, this header included.
    """

    version: int
    codec_version: int
    flags: int
    item: int
    n_bytes: int
    block_bytes: int
    encoded_bytes: int

    @property
    def copied(self) -> bool:
        return bool(self.flags & COPIED)

    @property
    def n_blocks(self) -> int:
        return -(-self.n_bytes // self.block_bytes)

    @property
    def table_bytes(self) -> int:
        return 0 if self.copied else 4 * self.n_blocks

    def of_part(self, n_bytes: int, encoded_bytes: int) -> "Header":
        """Return the header of a chunk that consists of some of the Blosc blocks."""
        part = replace(self, n_bytes=n_bytes, encoded_bytes=encoded_bytes)
        if n_bytes >= self.block_bytes:
            return part
        return replace(part, block_bytes=n_bytes, flags=self.flags | ONE_STREAM)

    def write(self, encoded: NDArray[np.uint8]) -> None:
        """Write the header at the beginning of a chunk."""
        FIELDS.pack_into(encoded.data, 0, *vars(self).values())


def read_header(begin: NDArray[np.uint8], encoded_bytes: int, n_bytes: int) -> Header:
    """Return the header of a chunk that has ``encoded_bytes`` and decodes to ``n_bytes``.

    Raises
    ------
    ValueError
        The header states other sizes.
    """
    if len(begin) < FIELDS.size:
        raise ValueError(f"{len(begin)} bytes are stored; expected a header of {FIELDS.size}")
    header = Header(*FIELDS.unpack_from(begin.data))
    if (header.n_bytes, header.encoded_bytes) != (n_bytes, encoded_bytes):
        raise ValueError(
            f"the header states {header.encoded_bytes:,} bytes that decode to {header.n_bytes:,}; "
            f"stored are {encoded_bytes:,}, expected {n_bytes:,} decoded"
        )
    least = FIELDS.size + (n_bytes if header.copied else 0)
    if not 0 < header.block_bytes <= n_bytes or least + header.table_bytes > encoded_bytes:
        raise ValueError(
            f"the header states Blosc blocks of {header.block_bytes:,} bytes, which "
            f"{encoded_bytes:,} bytes cannot hold"
        )
    return header


def decode(encoded: NDArray[np.uint8], target: NDArray) -> None:
    """Decode a whole chunk."""
    read_header(encoded, len(encoded), target.nbytes)
    blosc_decompress(encoded, target)


class BloscDecoder:
    """A `dsoftmax.data.zarr.local.codecs.Decoder` that decodes some Blosc blocks at a time.

    Parameters
    ----------
    encoded : (m,) uint8
        The chunk. Its header and table are changed.
    n_bytes : int
        Bytes of the content.

    Raises
    ------
    ValueError
        The header states other sizes.
    """

    def __init__(self, encoded: NDArray[np.uint8], n_bytes: int) -> None:
        self._header = read_header(encoded, len(encoded), n_bytes)
        self.n_bytes, self.step = n_bytes, self._header.block_bytes
        self._encoded = encoded
        self._table = encoded[FIELDS.size : FIELDS.size + self._header.table_bytes].reshape(-1, 4)
        self._offsets = self._table.copy()

    def decode(self, start: int, target: NDArray[np.uint8]) -> None:
        if self._header.copied:
            target[:] = self._encoded[FIELDS.size + start :][: len(target)]
            return
        part = self._header.of_part(len(target), len(self._encoded))
        first = start // self.step
        self._table[: part.n_blocks] = self._offsets[first : first + part.n_blocks]
        part.write(self._encoded)
        blosc_decompress(self._encoded, target)


@dataclass(frozen=True)
class Excerpt:
    """Some Blosc blocks of a chunk, as a chunk of their own.

    Attributes
    ----------
    encoded : (m,) uint8
    start : int
        First byte of their content in the content of the whole chunk.
    n_bytes : int
        Bytes of their content.
    """

    encoded: NDArray[np.uint8]
    start: int
    n_bytes: int


def read_excerpt(
    file: BinaryIO, encoded_bytes: int, n_bytes: int, start: int, stop: int, allocate: Allocate
) -> Excerpt | None:
    """Read the Blosc blocks that hold bytes ``start:stop`` of the content.

    Return None if ``allocate`` has no memory for them.

    Parameters
    ----------
    file : unbuffered file
        A file that begins with a chunk.
    encoded_bytes, n_bytes : int
        Bytes of the whole chunk and of its content.
    start, stop : int
        Bytes of the content.
    allocate : Allocate

    Raises
    ------
    ValueError
        The header or the table cannot be true.
    """
    begin = np.empty(min(FIELDS.size, encoded_bytes), np.uint8)
    file.seek(0)
    read_into(file, begin.data)
    header = read_header(begin, encoded_bytes, n_bytes)
    if header.copied:
        return _read_copied(file, header, start, stop, allocate)
    offsets, sizes = _read_table(file, header)
    first, last = start // header.block_bytes, -(-stop // header.block_bytes)
    offsets, sizes = offsets[first:last], sizes[first:last]
    before = FIELDS.size + 4 * len(offsets)
    ends = before + np.cumsum(sizes)
    encoded = allocate(int(ends[-1]))
    if encoded is None:
        return None
    begins, spans = first * header.block_bytes, zip(offsets.tolist(), sizes.tolist(), strict=True)
    content = min(last * header.block_bytes, n_bytes) - begins
    header.of_part(content, len(encoded)).write(encoded)
    encoded[FIELDS.size : before] = (ends - sizes).astype("<i4").view(np.uint8)
    # Threads that compressed Blosc blocks side by side may have written them in any order.
    read_spans(file, list(spans), encoded[before:].data)
    return Excerpt(encoded, begins, content)


def _read_copied(
    file: BinaryIO, header: Header, start: int, stop: int, allocate: Allocate
) -> Excerpt | None:
    """Read bytes of a chunk whose content is not compressed."""
    part = header.of_part(stop - start, FIELDS.size + stop - start)
    encoded = allocate(part.encoded_bytes)
    if encoded is None:
        return None
    part.write(encoded)
    file.seek(FIELDS.size + start)
    read_into(file, encoded[FIELDS.size :].data)
    return Excerpt(encoded, start, stop - start)


def _read_table(file: BinaryIO, header: Header) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offset of each Blosc block in the file and its encoded bytes."""
    table = np.empty(header.n_blocks, "<i4")
    read_into(file, table.view(np.uint8).data)
    offsets = table.astype(np.int64)
    order = np.argsort(offsets)
    sizes = np.empty_like(offsets)
    sizes[order] = np.diff(offsets[order], append=header.encoded_bytes)
    if offsets.min() < FIELDS.size + header.table_bytes or sizes.min() <= 0:
        raise ValueError(f"the table of {header.n_blocks:,} Blosc blocks holds impossible offsets")
    return offsets, sizes
