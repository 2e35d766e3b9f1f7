"""Decoders of one stored chunk into given memory: of the whole chunk, or of a part at a time."""

import zlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.compat.bounded import (
    gzip_members,
    read_bounded,
    require_bytes,
    zstd_content_bytes,
)
from dsoftmax.compat.numcodecs import zstd_decompress
from dsoftmax.compat.zarr import codec_settings
from dsoftmax.data.zarr.local import blosc

Decode = Callable[[NDArray[np.uint8], NDArray], None]
"""Decodes the bytes of exactly one chunk into a contiguous array of its shape."""


def known_decoder(compressors: Sequence[Any]) -> Decode | None:
    """Return the decoder for these compressors of Zarr v2 or v3; None if Zarr must decode."""
    if not compressors:
        return copy_bytes
    return DECODERS.get(codec_settings(compressors[0])[0]) if len(compressors) == 1 else None


def is_little_endian(serializer: Any) -> bool:
    """Return whether values are stored as they lie in memory.

    Zarr v2 has no serializer; its dtype states the order.
    """
    if not np.little_endian:
        return False
    if serializer is None:
        return True
    name, options = codec_settings(serializer)
    return name == "bytes" and options.get("endian", "little") == "little"


def copy_bytes(encoded: NDArray[np.uint8], target: NDArray) -> None:
    """Decode an uncompressed chunk.

    Readers recognise this function and read straight into the block instead.
    """
    _fill(target, encoded)


class Decoder(Protocol):
    """An encoded chunk that is decoded a part at a time.

    Attributes
    ----------
    n_bytes : int
        Bytes of the decoded chunk.
    step : int
        Stride of the parts in bytes. A part begins at a multiple of it, and ends at a multiple or
        with the chunk.
    """

    @property
    def n_bytes(self) -> int: ...
    @property
    def step(self) -> int: ...

    @abstractmethod
    def decode(self, start: int, target: NDArray[np.uint8]) -> None:
        """Decode the bytes from ``start`` on into ``target``, which is as long as the part."""


class OneStreamDecoder:
    """A chunk of a compressor whose streams must be decoded from end to end."""

    def __init__(self, encoded: NDArray[np.uint8], n_bytes: int, decode: Decode) -> None:
        self.n_bytes = self.step = n_bytes
        self._encoded, self._decode = encoded, decode

    def decode(self, start: int, target: NDArray[np.uint8]) -> None:
        self._decode(self._encoded, target)


def decoder_of(encoded: NDArray[np.uint8], n_bytes: int, decode: Decode) -> Decoder:
    """Return the decoder of an encoded chunk of ``n_bytes``, which it may change.

    Raises
    ------
    ValueError
        The header of the chunk states other sizes.
    """
    if decode is blosc.decode:
        return blosc.BloscDecoder(encoded, n_bytes)
    return OneStreamDecoder(encoded, n_bytes, decode)


def _zstd(encoded: NDArray[np.uint8], target: NDArray) -> None:
    stated = zstd_content_bytes(encoded[:18].tobytes())
    if stated is not None:
        require_bytes(stated, target.nbytes)
    zstd_decompress(encoded, target)


def _gzip(encoded: NDArray[np.uint8], target: NDArray) -> None:
    stream = zlib.decompressobj(31)  # 31: with gzip's header
    decoded = stream.decompress(encoded.data, target.nbytes + 1)
    if not stream.eof or stream.unused_data:  # several members, padding, or damage
        del decoded
        decoded = read_bounded(gzip_members(encoded), target.nbytes)
    _fill(target, decoded)


def _fill(target: NDArray, decoded: bytes | NDArray[np.uint8]) -> None:
    found = np.frombuffer(decoded, np.uint8)
    require_bytes(found.size, target.nbytes)
    if found.size != target.nbytes:
        raise ValueError(
            f"the stored bytes decode to {found.size:,} bytes; expected {target.nbytes:,}"
        )
    np.copyto(target.reshape(-1).view(np.uint8), found)


DECODERS: dict[str, Decode] = {"blosc": blosc.decode, "zstd": _zstd, "gzip": _gzip}
"""Decoders by the name of the compressor in Zarr's metadata."""
