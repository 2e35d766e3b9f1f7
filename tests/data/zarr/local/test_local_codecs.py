"""Zstandard and gzip are decoded into given memory if the size is right."""

import gzip
import tracemalloc

import numcodecs
import numpy as np
import pytest

from dsoftmax.compat.bounded import zstd_content_bytes
from dsoftmax.data.zarr.local.codecs import DECODERS, copy_bytes


@pytest.mark.parametrize("n_bytes", [1, 200, 255, 256, 257, 65_791, 65_792, 300_000])
@pytest.mark.parametrize("checksum", [True, False])
def test_the_header_of_zstandard_states_the_size(n_bytes, checksum, rng):
    values = rng.integers(0, 256, n_bytes).astype(np.uint8)
    encoded = numcodecs.Zstd(checksum=checksum).encode(values)
    assert zstd_content_bytes(encoded[:18]) == n_bytes
    assert zstd_content_bytes(encoded[:4]) is None
    assert zstd_content_bytes(b"xxxx" + encoded[4:18]) is None
    out = np.empty_like(values)
    DECODERS["zstd"](np.frombuffer(encoded, np.uint8), out)
    np.testing.assert_array_equal(out, values)


def test_streams_and_members_are_decoded_if_the_size_is_right(rng):
    values = rng.integers(0, 4, 1000).astype(np.uint8)
    members = gzip.compress(values[:400].tobytes()) + gzip.compress(values[400:].tobytes())
    # One frame by hand, a raw block without a size (RFC 8878): descriptor 0, a window, and the
    # block's header.
    frame = (
        bytes.fromhex("28b52ffd 00 58") + (1 | 1000 << 3).to_bytes(3, "little") + values.tobytes()
    )
    for name, encoded in (("gzip", members), ("zstd", frame)):
        out = np.empty_like(values)
        DECODERS[name](np.frombuffer(encoded, np.uint8), out)
        np.testing.assert_array_equal(out, values)
        for wrong in (999, 1001):
            with pytest.raises((ValueError, RuntimeError)):
                DECODERS[name](np.frombuffer(encoded, np.uint8), np.empty(wrong, np.uint8))


@pytest.mark.parametrize("name", ["gzip", "members", "zstd", "streamed"])
def test_a_chunk_that_decodes_to_more_takes_no_memory(name):
    zeros = bytes(32 * 2**20)
    block = (2 | 2**17 << 3).to_bytes(3, "little") + b"\0"  # a byte that is repeated
    encoded = {
        "gzip": gzip.compress(zeros),
        "members": gzip.compress(b"") + gzip.compress(zeros),
        "zstd": bytes(numcodecs.Zstd().encode(zeros)),
        "streamed": bytes.fromhex("28b52ffd 00 58") + 256 * block + b"\1\0\0",
    }[name]
    decode = DECODERS["gzip" if name == "members" else "zstd" if name == "streamed" else name]
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, RuntimeError)):
            decode(np.frombuffer(encoded, np.uint8), np.empty(1000, np.uint8))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 9])
def test_an_uncompressed_chunk_of_another_size_is_refused(n_bytes):
    with pytest.raises(ValueError, match="expected"):
        copy_bytes(np.zeros(n_bytes, np.uint8), np.empty(8, np.uint8))
