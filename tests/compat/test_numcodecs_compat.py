"""Numcodecs still decodes into given memory, and still believes the headers that we write."""

import struct

import numcodecs
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from relied_on import relied_on

HEADER = struct.Struct("<BBBBIII")
"""Versions of format and codec, flags, bytes of an item; bytes of content, of a Blosc block, of the
chunk.
"""


def compat(function):
    with relied_on("numcodecs", function):
        import dsoftmax.compat.numcodecs

        return getattr(dsoftmax.compat.numcodecs, function)


@pytest.fixture
def content(rng):
    return rng.integers(0, 9, 400_000).astype("u2")


BLOCK = 2**16


def chunk_of_blosc(content):
    """A Blosc chunk, its header and its table of offsets."""
    codec = numcodecs.Blosc("zstd", blocksize=BLOCK)
    encoded = np.frombuffer(bytearray(codec.encode(content)), "u1")
    header = HEADER.unpack_from(encoded.data)
    n_blocks = -(-header[4] // header[5])
    return encoded, header, encoded[16 : 16 + 4 * n_blocks].view("<i4")


def test_a_chunk_of_blosc_has_the_header_and_table_of_its_specification(content):
    with relied_on("numcodecs", "blosc_decompress"):
        encoded, header, offsets = chunk_of_blosc(content)
        assert header[3:] == (2, content.nbytes, BLOCK, len(encoded))
        assert len(offsets) == -(-content.nbytes // BLOCK)
        assert offsets.min() == 16 + 4 * len(offsets)
        assert offsets.max() < len(encoded)


def test_blosc_decodes_into_the_memory_that_is_given(content):
    blosc_decompress = compat("blosc_decompress")
    encoded, _, _ = chunk_of_blosc(content)
    target = np.empty_like(content)
    with relied_on("numcodecs", "blosc_decompress"):
        blosc_decompress(encoded, target)
        assert_array_equal(target, content)


def test_blosc_believes_a_header_and_a_table_of_fewer_blocks(content):
    """The third and fourth Blosc blocks are decoded alone, although the chunk still holds all."""
    blosc_decompress = compat("blosc_decompress")
    encoded, header, offsets = chunk_of_blosc(content)
    offsets[:2] = offsets[2:4]
    HEADER.pack_into(encoded.data, 0, *header[:4], 2 * BLOCK, *header[5:])
    target = np.empty(2 * BLOCK, "u1")
    with relied_on("numcodecs", "blosc_decompress"):
        blosc_decompress(encoded, target)
        assert_array_equal(target, content.view("u1")[2 * BLOCK : 4 * BLOCK])


def test_blosc_takes_its_blocks_in_any_order_and_ignores_bytes_between_them(content):
    blosc_decompress = compat("blosc_decompress")
    encoded, header, offsets = chunk_of_blosc(content)
    order = np.argsort(offsets)
    ends = np.append(offsets[order][1:], len(encoded))
    parts = {int(k): encoded[offsets[k] : end].copy() for k, end in zip(order, ends, strict=True)}
    found, at = [encoded[: 16 + 4 * len(offsets)].copy()], 16 + 4 * len(offsets)
    places = np.empty_like(offsets)
    for k in reversed(range(len(offsets))):
        found += [parts[k], np.full(5, 0xA5, "u1")]
        places[k], at = at, at + len(parts[k]) + 5
    turned = np.concatenate(found)
    turned[16 : 16 + 4 * len(offsets)] = places.view("u1")
    HEADER.pack_into(turned.data, 0, *header[:6], len(turned))
    target = np.empty_like(content)
    with relied_on("numcodecs", "blosc_decompress"):
        blosc_decompress(turned, target)
        assert_array_equal(target, content)


def test_blosc_refuses_memory_of_another_size_and_offsets_outside_the_chunk(content):
    blosc_decompress = compat("blosc_decompress")
    encoded, _, offsets = chunk_of_blosc(content)
    with (
        relied_on("numcodecs", "blosc_decompress"),
        pytest.raises((ValueError, RuntimeError)),
    ):
        blosc_decompress(encoded, np.empty(content.nbytes - 1, "u1"))
    offsets[1] = len(encoded) + 1000
    with relied_on("numcodecs", "blosc_decompress"), pytest.raises(RuntimeError):
        blosc_decompress(encoded, np.empty_like(content))


@pytest.mark.parametrize("checksum", [False, True])
def test_zstandard_decodes_into_the_memory_that_is_given(content, checksum):
    zstd_decompress = compat("zstd_decompress")
    encoded = np.frombuffer(numcodecs.Zstd(checksum=checksum).encode(content), "u1")
    target = np.empty_like(content)
    with relied_on("numcodecs", "zstd_decompress"):
        zstd_decompress(encoded, target)
        assert_array_equal(target, content)
    for damaged, memory in ((encoded[:-9], target), (encoded, target[:-1]), (encoded, target[:9])):
        with relied_on("numcodecs", "zstd_decompress"), pytest.raises((RuntimeError, ValueError)):
            zstd_decompress(damaged, memory)
