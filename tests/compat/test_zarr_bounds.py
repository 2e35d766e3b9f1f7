"""Chunks that Zarr's own reader decodes have at most the bytes that their metadata states."""

import bz2
import gzip
import lzma
import tracemalloc
import warnings
import zlib

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from dsoftmax.compat.zarr_bounds import bounded

X = np.arange(60, dtype="f8").reshape(20, 3)
BOMB = 32 * 2**20
"""Bytes that a chunk of 240 bytes decodes to."""


def streamed_zstd(n_blocks):
    """A frame without a size: blocks that each repeat one byte (RFC 8878, section 3.1.1.2)."""
    blocks = [((k == n_blocks - 1) | 2 | 2**17 << 3).to_bytes(3, "little") for k in range(n_blocks)]
    return bytes.fromhex("28b52ffd 00 58") + b"".join(block + b"\0" for block in blocks)


ZEROS = bytes(BOMB)
BOMBS = {
    "zlib": (numcodecs.Zlib(), zlib.compress(ZEROS)),
    "gzip": (numcodecs.GZip(), gzip.compress(ZEROS)),
    "gzip, empty member first": (numcodecs.GZip(), gzip.compress(b"") + gzip.compress(ZEROS)),
    "bz2": (numcodecs.BZ2(), bz2.compress(ZEROS)),
    "lzma": (numcodecs.LZMA(), lzma.compress(ZEROS, preset=0)),
    "zstd": (numcodecs.Zstd(), bytes(numcodecs.Zstd().encode(ZEROS))),
    "zstd, small frame first": (
        numcodecs.Zstd(),
        bytes(numcodecs.Zstd().encode(bytes(9))) + bytes(numcodecs.Zstd().encode(ZEROS)),
    ),
    "zstd, streamed": (numcodecs.Zstd(), streamed_zstd(BOMB // 2**17)),
    "lz4": (numcodecs.LZ4(), bytes(numcodecs.LZ4().encode(ZEROS))),
    "blosc": (numcodecs.Blosc(), bytes(numcodecs.Blosc().encode(ZEROS))),
}
V3 = {
    "gzip": GzipCodec(),
    "gzip, empty member first": GzipCodec(),
    "zstd": ZstdCodec(),
    "zstd, small frame first": ZstdCodec(),
    "zstd, streamed": ZstdCodec(),
    "blosc": BloscCodec(),
}


def peak_of_refusal(array):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"decode to .* expected at most"):
            bounded(array)[10:]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filters", [[], [numcodecs.Delta("f8")]], ids=["", "filter"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_zarr_2_is_refused_before_it_is_in_memory(name, filters, tmp_path):
    codec, bomb = BOMBS[name]
    array = zarr.create_array(
        tmp_path / "X", data=X, chunks=(10, 3), compressors=codec, filters=filters, zarr_format=2
    )
    assert_array_equal(bounded(array)[:], X)
    (tmp_path / "X" / "1.0").write_bytes(bomb)
    assert peak_of_refusal(array) < BOMB / 8


@pytest.mark.parametrize("name", V3)
def test_a_bomb_in_zarr_3_is_refused_before_it_is_in_memory(name, tmp_path):
    array = zarr.create_array(tmp_path / "X", data=X, chunks=(10, 3), compressors=V3[name])
    assert_array_equal(bounded(array)[:], X)
    (tmp_path / "X" / "c" / "1" / "0").write_bytes(BOMBS[name][1])
    assert peak_of_refusal(array) < BOMB / 8


def test_a_bomb_inside_a_shard_is_refused_before_it_is_in_memory(tmp_path):
    shards = {"chunks": (5, 3), "shards": (10, 3), "compressors": GzipCodec()}
    array = zarr.create_array(tmp_path / "X", data=X, **shards)
    wide = zarr.create_array(
        tmp_path / "Y",
        shape=(20, BOMB // 40),
        dtype="f8",
        **shards | {"chunks": (5, BOMB // 40), "shards": (10, BOMB // 40)},
        config={"write_empty_chunks": True},
    )
    wide[10:] = 0
    assert_array_equal(bounded(array)[:], X)
    # The shard of an array of wide rows has the same index.
    (tmp_path / "Y" / "c" / "1" / "0").rename(tmp_path / "X" / "c" / "1" / "0")
    assert peak_of_refusal(array) < BOMB / 8


@pytest.mark.parametrize(
    "stored",
    [
        {"filters": [numcodecs.FixedScaleOffset(0, 1, "<f8", "<i2")], "zarr_format": 2},
        {"filters": [numcodecs.Delta("f8"), numcodecs.Zlib()], "zarr_format": 2},
        {"filters": [numcodecs.Delta("<f8", "<f8")], "zarr_format": 2, "order": "F"},
        {"filters": [numcodecs.AsType("<i8", "<f8")], "zarr_format": 2},
        {"compressors": [GzipCodec(), ZstdCodec()]},
        {"compressors": [zarr.codecs.Crc32cCodec(), ZstdCodec()]},
        {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))], "compressors": ZstdCodec()},
        {"compressors": BloscCodec(), "dtype": ">f8"},
        {"compressors": None, "zarr_format": 2},
    ],
)
def test_chunks_of_all_codecs_are_read(stored, tmp_path):
    values = X.astype(stored.pop("dtype", X.dtype))
    array = zarr.create_array(tmp_path / "X", data=values, chunks=(7, 2), **stored)
    assert_array_equal(bounded(array)[:], X)


@pytest.mark.parametrize("name", ["Zlib", "LZMA", "BZ2", "LZ4", "Zstd", "Blosc", "GZip"])
def test_compressors_of_numcodecs_in_zarr_3_are_read_and_bounded(name, tmp_path):
    from zarr.codecs import numcodecs as in_zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        codec = getattr(in_zarr, name)()
        array = zarr.create_array(tmp_path / "X", data=X, chunks=(10, 3), compressors=codec)
    assert_array_equal(bounded(array)[:], X)
    (tmp_path / "X" / "c" / "1" / "0").write_bytes(BOMBS[name.lower()][1])
    assert peak_of_refusal(array) < BOMB / 8


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_text_is_read(zarr_format, tmp_path):
    words = np.array(["a", "bb" * 400, "", "c"] * 5, dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            tmp_path / "y", shape=(20,), dtype=str, chunks=(5,), zarr_format=zarr_format
        )
        array[:] = words
    assert bounded(array)[:].tolist() == words.tolist()
