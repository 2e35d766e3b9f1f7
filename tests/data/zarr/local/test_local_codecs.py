"""Zstandard and gzip are decoded into given memory if the size is right."""

import gzip

import numcodecs
import numpy as np
import pytest

from dsoftmax.data.zarr.local.codecs import DECODERS, zstd_content_bytes


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
            with pytest.raises(ValueError, match="decode to 1,000 bytes"):
                DECODERS[name](np.frombuffer(encoded, np.uint8), np.empty(wrong, np.uint8))
