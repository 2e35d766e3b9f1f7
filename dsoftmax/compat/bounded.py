"""Decoders of numcodecs' compressors that give at most a number of bytes.

A few stored bytes may decode to gigabytes. These decoders look at the sizes that are claimed before
they take memory, and stop where no size is claimed.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

import numpy as np
from numcodecs import blosc, lz4, zstd
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

ZSTD_MAGIC = 0xFD2FB528
ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
"""Magic numbers of frames that hold no content."""
ZSTD_BLOCK_BYTES = 128 * 2**10
"""Most content of a compressed block of Zstandard."""


def require_bytes(found: int, limit: int) -> None:
    """Raise ValueError if more bytes were found or claimed than the limit."""
    if found > limit:
        raise ValueError(
            f"the stored bytes decode to {found:,} bytes or more; expected at most {limit:,}"
        )


def read_bounded(stream: BinaryIO, limit: int) -> bytes:
    """Return all bytes of a stream of decoded bytes.

    Raises
    ------
    ValueError
        They are more than ``limit``.
    """
    found = stream.read(limit + 1)
    require_bytes(len(found), limit)
    return found


def gzip_members(encoded: Bytes) -> BinaryIO:
    """Return the stream of the decoded members of a gzip file."""
    return cast(BinaryIO, gzip.GzipFile(fileobj=io.BytesIO(encoded.data)))


def zstd_content_bytes(header: bytes) -> int | None:
    """Return the decoded bytes that a Zstandard frame's header states; None if it states none.

    Parameters
    ----------
    header : bytes
        The first 18 bytes of the frame, or all if there are fewer.

    References
    ----------
    RFC 8878, section 3.1.1.1.
    """
    if len(header) < 5 or int.from_bytes(header[:4], "little") != ZSTD_MAGIC:
        return None
    descriptor = header[4]
    size_bytes = _size_bytes(descriptor)
    start = _header_bytes(descriptor) - size_bytes
    field = header[start : start + size_bytes]
    if not size_bytes or len(field) < size_bytes:
        return None
    return int.from_bytes(field, "little") + (256 if size_bytes == 2 else 0)


def _size_bytes(descriptor: int) -> int:
    """Return the bytes of the field with the size of the content."""
    return (descriptor >> 5 & 1, 2, 4, 8)[descriptor >> 6]


def _header_bytes(descriptor: int) -> int:
    single_segment = descriptor >> 5 & 1
    return 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3] + _size_bytes(descriptor)


def most_zstd_bytes(encoded: Bytes, limit: int) -> int:
    """Return the most bytes that Zstandard frames decode to; any larger number if over ``limit``.

    A frame that states no size has the sizes of its blocks. A compressed block states only its
    encoded bytes.

    References
    ----------
    RFC 8878, section 3.1.1.
    """
    data, at, total = encoded.data, 0, 0
    while at + 4 < len(data) and total <= limit:
        magic = int.from_bytes(data[at : at + 4], "little")
        if magic in ZSTD_SKIPPABLE:
            at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
            continue
        if magic != ZSTD_MAGIC:  # damaged, as the decoder will say
            break
        content, descriptor = zstd_content_bytes(bytes(data[at : at + 18])), data[at + 4]
        total += content or 0
        at += _header_bytes(descriptor)
        last = False
        while not last and at + 3 <= len(data):
            block = int.from_bytes(data[at : at + 3], "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            if content is None:
                total += ZSTD_BLOCK_BYTES if kind == 2 else size
            at += 3 + (1 if kind == 1 else size)
        at += 4 * (descriptor >> 2 & 1)
    return total


def _zstd(encoded: Bytes, options: Mapping[str, Any], limit: int) -> Any:
    require_bytes(most_zstd_bytes(encoded, limit), limit)
    return zstd.decompress(encoded)


def _blosc(encoded: Bytes, options: Mapping[str, Any], limit: int) -> Any:
    require_bytes(int.from_bytes(encoded[4:8].tobytes(), "little"), limit)
    return blosc.decompress(encoded)


def _lz4(encoded: Bytes, options: Mapping[str, Any], limit: int) -> Any:
    require_bytes(int.from_bytes(encoded[:4].tobytes(), "little"), limit)
    return lz4.decompress(encoded)


def _zlib(encoded: Bytes, options: Mapping[str, Any], limit: int) -> bytes:
    stream = zlib.decompressobj()
    found = stream.decompress(encoded.data, limit + 1)
    require_bytes(len(found), limit)
    if not stream.eof:
        raise ValueError("the stored bytes end within a stream of zlib")
    return found


def _gzip(encoded: Bytes, options: Mapping[str, Any], limit: int) -> bytes:
    return read_bounded(gzip_members(encoded), limit)


def _bz2(encoded: Bytes, options: Mapping[str, Any], limit: int) -> bytes:
    return read_bounded(cast(BinaryIO, bz2.BZ2File(io.BytesIO(encoded.data))), limit)


def _lzma(encoded: Bytes, options: Mapping[str, Any], limit: int) -> bytes:
    form, filters = options.get("format", lzma.FORMAT_XZ), options.get("filters")
    raw = filters if form == lzma.FORMAT_RAW else None
    with lzma.LZMAFile(io.BytesIO(encoded.data), format=form, filters=raw) as stream:
        return read_bounded(cast(BinaryIO, stream), limit)


BOUNDED: dict[str, Callable[[Bytes, Mapping[str, Any], int], Any]] = {
    "blosc": _blosc,
    "bz2": _bz2,
    "gzip": _gzip,
    "lz4": _lz4,
    "lzma": _lzma,
    "zlib": _zlib,
    "zstd": _zstd,
}
"""Decoders of (encoded bytes, options of the codec, most decoded bytes), by numcodecs' names."""
