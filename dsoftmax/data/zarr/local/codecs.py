"""What undoes the compression of one stored chunk, into memory that is there already: of all of it, or a part at a time."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numcodecs import GZip, zstd  # Zarr's own dependency
from numpy.typing import NDArray

from dsoftmax.data.zarr.local import blosc

Decode = Callable[[NDArray[np.uint8], NDArray], None]
"""Decode the bytes of a chunk into a contiguous array of its shape; raises where they are not exactly that chunk."""

ZSTD_MAGIC = 0xFD2FB528


def known_decoder(compressors: Sequence[Any]) -> Decode | None:
    """Return what decodes chunks of these compressors, of Zarr v2 or v3; None where that is left to Zarr."""
    if not compressors:
        return copy_bytes
    return DECODERS.get(name_and_options(compressors[0])[0]) if len(compressors) == 1 else None


def is_little_endian(serializer: Any) -> bool:
    """Return whether values lie in the chunk as they do in memory; v2 has no serializer, and says so by its dtype."""
    if not np.little_endian:
        return False
    if serializer is None:
        return True
    about = serializer.to_dict()
    return (
        about["name"] == "bytes"
        and about.get("configuration", {}).get("endian", "little") == "little"
    )


def copy_bytes(encoded: NDArray[np.uint8], target: NDArray) -> None:
    """Decode what is not compressed. Readers know it by its name and read straight into the block in its place."""
    np.copyto(target.reshape(-1).view(np.uint8), encoded)


def name_and_options(codec: Any) -> tuple[str, dict[str, Any]]:
    """Return what a codec of Zarr v2 or v3 is called, and its options."""
    if hasattr(codec, "to_dict"):
        stored = codec.to_dict()
        return str(stored["name"]), dict(stored.get("configuration", {}))
    options = codec.get_config()
    return str(options.pop("id")), options


class Parts(Protocol):
    """An encoded chunk that is decoded a part at a time.

    Attributes
    ----------
    n_bytes : int
        Of the decoded chunk.
    step : int
        Parts begin at multiples of it, and end at such or with the chunk.
    """

    @property
    def n_bytes(self) -> int: ...
    @property
    def step(self) -> int: ...
    def decode(self, start: int, target: NDArray[np.uint8]) -> None:
        """Decode the bytes from ``start`` on into ``target``, which is as long as the part."""


class Whole:
    """A chunk of a compressor whose streams are decoded from end to end."""

    def __init__(self, encoded: NDArray[np.uint8], n_bytes: int, decode: Decode) -> None:
        self.n_bytes = self.step = n_bytes
        self._encoded, self._decode = encoded, decode

    def decode(self, start: int, target: NDArray[np.uint8]) -> None:
        self._decode(self._encoded, target)


def parts_of(encoded: NDArray[np.uint8], n_bytes: int, decode: Decode) -> Parts:
    """Return what decodes an encoded chunk of ``n_bytes``, which it may change, a part at a time.

    Raises
    ------
    ValueError
        It is not such a chunk, as far as can be told without decoding it.
    """
    return (
        blosc.Blocks(encoded, n_bytes)
        if decode is blosc.decode
        else Whole(encoded, n_bytes, decode)
    )


def _zstd(encoded: NDArray[np.uint8], target: NDArray) -> None:
    if zstd_content_bytes(encoded[:18].tobytes()) == target.nbytes:
        zstd.decompress(encoded, target)
    else:  # streamed, so that the size is not in the header, or damaged
        _fill(target, zstd.decompress(encoded))


def zstd_content_bytes(header: bytes) -> int | None:
    """Return the decoded size that a Zstandard frame's header tells (bytes); None if it tells none.

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
    single_segment = descriptor >> 5 & 1
    size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    field = header[start : start + size_bytes]
    if not size_bytes or len(field) < size_bytes:
        return None
    return int.from_bytes(field, "little") + (256 if size_bytes == 2 else 0)


def _gzip(encoded: NDArray[np.uint8], target: NDArray) -> None:
    stream = zlib.decompressobj(31)  # 31: with gzip's header
    decoded = stream.decompress(encoded.data, max(target.nbytes, 1))
    if stream.eof and not stream.unused_data:
        _fill(target, decoded)
    else:  # several members, padding, or damage
        _fill(target, GZip().decode(encoded))


def _fill(target: NDArray, decoded: Any) -> None:
    found = np.frombuffer(decoded, np.uint8)
    if found.size != target.nbytes:
        raise ValueError(
            f"the stored bytes decode to {found.size:,} bytes; needed are {target.nbytes:,}"
        )
    np.copyto(target.reshape(-1).view(np.uint8), found)


DECODERS: dict[str, Decode] = {"blosc": blosc.decode, "zstd": _zstd, "gzip": _gzip}
