"""Zarr's own reader with decoders that give at most the bytes of a chunk.

`tests/compat/test_zarr_bounds.py` says when Zarr changed.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import zarr
from numcodecs.abc import Codec as Numcodec
from numcodecs.compat import ensure_contiguous_ndarray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.codecs._v2 import V2Codec
from zarr.core.array import AsyncArray
from zarr.core.buffer.cpu import as_numpy_array_wrapper
from zarr.core.codec_pipeline import BatchedCodecPipeline

from dsoftmax.compat.bounded import BOUNDED
from dsoftmax.compat.zarr import codec_settings

TEXT_BYTES = 1024
"""Most bytes of an entry that has no fixed size, on average over a chunk."""
ENCODED_BYTES = 64 * 2**10
"""Bytes by which a codec may make a chunk larger, beside a sixteenth of it."""
CHECKS = ("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3")
"""Codecs that add `CHECK_BYTES`."""
CHECK_BYTES = 4
SAME_SIZE = ("shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "bytes", "transpose")
"""Codecs that store as many bytes as they are given, unless an option states another dtype."""


def bounded(array: zarr.Array) -> zarr.Array:
    """Return the same array, whose chunks decode to at most the bytes that its metadata states.

    A chunk of more bytes raises ValueError before they are in memory. Codecs that cannot decode to
    many more bytes than they are given stay as they are.

    Stands for: a limit of Zarr's codecs.
    """
    found, metadata = array.async_array, array.metadata
    codecs = [_bounded_v2(array)] if metadata.zarr_format == 2 else _bounded_v3(metadata.codecs)
    twin = AsyncArray(metadata, found.store_path, found.config)
    object.__setattr__(twin, "codec_pipeline", BatchedCodecPipeline.from_codecs(codecs))
    return zarr.Array(twin)


def _bounded_v2(array: zarr.Array) -> V2Codec:
    """Return the codecs of an array of Zarr v2 with bounds, each by what the ones before it give.

    Filters may be compressors, too.
    """
    size, codecs = Size.of(math.prod(array.chunks), np.dtype(array.dtype)), []
    compressor = array.metadata.compressor
    for codec in (*(array.metadata.filters or ()), *([] if compressor is None else [compressor])):
        name, options = codec_settings(codec)
        codecs.append(BoundedNumcodec(codec, size.most) if name in BOUNDED else codec)
        size = size.after(name, options)
    if compressor is None:
        return V2Codec(filters=tuple(codecs) or None, compressor=None)
    return V2Codec(filters=tuple(codecs[:-1]) or None, compressor=codecs[-1])


def _bounded_v3(codecs: Iterable[Any]) -> list[Any]:
    """Return the codecs of Zarr v3 with bounds, also those inside shards."""
    found: list[Any] = []
    before: list[tuple[str, dict[str, Any]]] = []  # the codecs of bytes up to this one
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            found.append(replace(codec, codecs=tuple(_bounded_v3(codec.codecs))))
        elif not isinstance(codec, BytesBytesCodec):
            found.append(codec)
        else:
            name, options = codec_settings(codec)
            name = name.removeprefix("numcodecs.")
            known = name in BOUNDED
            found.append(BoundedCodec(codec, name, tuple(before)) if known else codec)
            before.append((name, options))
    return found


@dataclass(frozen=True)
class Size:
    """The size of a chunk between two codecs.

    Attributes
    ----------
    entries : int
        Number of values of the chunk.
    most : int
        Most bytes.
    """

    entries: int
    most: int

    @classmethod
    def of(cls, entries: int, dtype: np.dtype) -> "Size":
        """Return the size of a chunk of values."""
        return cls(entries, entries * (TEXT_BYTES if dtype.hasobject else dtype.itemsize))

    def after(self, name: str, options: Mapping[str, Any]) -> "Size":
        """Return the size of what a codec makes of the chunk."""
        if name in CHECKS:
            return replace(self, most=self.most + CHECK_BYTES)
        stored = options.get("encode_dtype") if name == "astype" else options.get("astype")
        if stored is not None:
            return Size.of(self.entries, np.dtype(stored))
        if name in SAME_SIZE:
            return self
        if name in BOUNDED or name == "packbits":
            return replace(self, most=self.most + self.most // 16 + ENCODED_BYTES)
        # Text, and codecs that are not known here, may store a value in any number of bytes.
        return replace(self, most=max(self.most, self.entries * TEXT_BYTES) + ENCODED_BYTES)


class BoundedNumcodec(Numcodec):  # type: ignore[misc]
    """A compressor of numcodecs that decodes to at most ``most`` bytes."""

    def __init__(self, codec: Numcodec, most: int) -> None:
        self.codec_id, self.codec, self.most = codec.codec_id, codec, most

    def get_config(self) -> dict[str, Any]:
        return dict(self.codec.get_config())

    def encode(self, buf: Any) -> Any:
        return self.codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        name, options = codec_settings(self.codec)
        return _decoded(name, options, self.most, buf)


@dataclass(frozen=True)
class BoundedCodec(BytesBytesCodec):  # type: ignore[misc]
    """A compressor of Zarr v3 that decodes to at most the bytes of a chunk.

    Attributes
    ----------
    codec : zarr.abc.codec.BytesBytesCodec
    name : str
        Its name in numcodecs.
    before : tuple of (name, options)
        Codecs of bytes between the values and this codec.
    """

    codec: BytesBytesCodec
    name: str
    before: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    is_fixed_size = False

    def to_dict(self) -> dict[str, Any]:
        return dict(self.codec.to_dict())

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return int(self.codec.compute_encoded_size(input_byte_length, chunk_spec))

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await self.codec._encode_single(chunk_bytes, chunk_spec)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        size = Size.of(math.prod(chunk_spec.shape), chunk_spec.dtype.to_native_dtype())
        for name, options in self.before:
            size = size.after(name, options)
        decode = partial(_decoded, self.name, codec_settings(self.codec)[1], size.most)
        prototype = chunk_spec.prototype
        return await asyncio.to_thread(as_numpy_array_wrapper, decode, chunk_bytes, prototype)


def _decoded(name: str, options: Mapping[str, Any], most: int, encoded: Any) -> Any:
    return BOUNDED[name](ensure_contiguous_ndarray(encoded).view(np.uint8), options, most)
