"""Our reader of plain local arrays reads the values that Zarr reads, and refuses damaged files."""

import itertools

import google_crc32c
import numpy as np
import pytest
import zarr
from local_arrays import COMPRESSORS, SPANS, read, stored
from zarr.codecs import (
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import MemoryStore

from dsoftmax.data.zarr.local.faults import DamagedChunkError, MissingChunkError
from dsoftmax.data.zarr.local.open import local_chunks


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("chunks", [(7, 3), (7, 5), (100, 100), (1, 1), (23, 5), (8, 2)])
def test_every_span_equals_zarr(compressor, chunks, tmp_path):
    array = stored(tmp_path, chunks=chunks, compressors=COMPRESSORS[compressor])
    for start, stop in SPANS:
        np.testing.assert_array_equal(read(array, start, stop), array[start:stop])


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    ("chunks", "shards"),
    [((2, 5), (6, 5)), ((2, 2), (4, 4)), ((3, 5), (30, 5)), ((4, 3), (4, 6)), ((1, 1), (23, 5))],
)
@pytest.mark.parametrize("location", ["start", "end"])
def test_every_span_of_shards_equals_zarr(compressor, chunks, shards, location, tmp_path):
    where = {"shape": shards, "index_location": location}
    array = stored(tmp_path, chunks=chunks, shards=where, compressors=COMPRESSORS[compressor])
    for start, stop in SPANS:
        np.testing.assert_array_equal(read(array, start, stop), array[start:stop])


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("shape", "chunks"), [((23,), (7,)), ((23, 5), (7, 5))])
def test_every_dtype_in_both_formats(dtype, zarr_format, shape, chunks, tmp_path):
    array = stored(tmp_path, shape, chunks, dtype, zarr_format=zarr_format)
    np.testing.assert_array_equal(read(array, 2, 21), array[2:21])


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "f8"])
@pytest.mark.parametrize(
    ("shape", "chunks", "shards"), [((23,), (3,), (9,)), ((23, 5), (3, 2), (9, 6))]
)
def test_every_dtype_in_shards(dtype, shape, chunks, shards, tmp_path):
    array = stored(tmp_path, shape, chunks, dtype, shards=shards)
    np.testing.assert_array_equal(read(array, 2, 21), array[2:21])


def sharding(**options):
    return ShardingCodec(**{"chunk_shape": (2, 5), "codecs": [BytesCodec()]} | options)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": ">f4"},
        {"dtype": "<U3"},
        {"serializer": BytesCodec(endian="big")},
        {"filters": [TransposeCodec(order=(1, 0))]},
        {"order": "F", "zarr_format": 2},
        {"shape": (4, 4, 4), "chunks": (2, 2, 2)},
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"shards": (4, 5), "chunks": (2, 5), "filters": [TransposeCodec(order=(1, 0))]},
        {"shards": (4, 5), "chunks": (2, 5), "compressors": [Crc32cCodec()]},
        {"serializer": sharding(codecs=[BytesCodec(endian="big")])},
        {"serializer": sharding(codecs=[sharding(chunk_shape=(1, 5))])},
        {"serializer": sharding(index_codecs=[BytesCodec(endian="big")])},
        {"serializer": sharding(), "compressors": [ZstdCodec()]},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The data type", "ignore:Combining a `sharding_indexed`")
def test_arrays_that_are_not_plain_are_left_to_zarr(options, tmp_path):
    options = {"shape": (8, 5), "chunks": (4, 5), "dtype": "f4", "compressors": None} | options
    assert local_chunks(zarr.create_array(tmp_path, **options)) is None


def test_an_index_without_checksum_is_read(tmp_path):
    array = stored(
        tmp_path, (8, 5), (4, 5), serializer=sharding(index_codecs=[BytesCodec()]), compressors=None
    )
    np.testing.assert_array_equal(read(array, 1, 8), array[1:8])


def test_arrays_that_are_not_local_are_left_to_zarr():
    assert (
        local_chunks(zarr.create_array(MemoryStore(), shape=(8, 5), chunks=(4, 5), dtype="f4"))
        is None
    )


def test_a_missing_file_is_named_with_its_rows(tmp_path):
    array = stored(tmp_path)
    (tmp_path / "c/1/0").unlink()
    assert read(array, 0, 7) is not None
    with pytest.raises(MissingChunkError) as lost:
        read(array, 0, 9)
    assert (lost.value.what, lost.value.rows) == ("the chunk c/1/0", (7, 9))


def test_an_inner_chunk_that_was_not_written_is_named_with_its_shard(tmp_path):
    array = zarr.create_array(tmp_path, shape=(40, 4), chunks=(5, 2), shards=(20, 4), dtype="f4")
    values = np.ones((40, 4), "f4")
    values[25:30, 2:] = 0  # the fill value: Zarr leaves it out
    array[...] = values
    np.testing.assert_array_equal(read(array, 0, 25), values[:25])
    np.testing.assert_array_equal(read(array, 30, 40), values[30:])
    with pytest.raises(MissingChunkError) as lost:
        read(array, 22, 40)
    assert (lost.value.what, lost.value.rows) == (
        "the inner chunk (1, 1) of the shard c/1/0",
        (22, 40),
    )


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    "change",
    [lambda file: file[:-3], lambda file: file[:5], lambda file: b"", lambda file: file + b"xyz"],
)
@pytest.mark.parametrize("chunks", [(7, 3), (7, 5)])
def test_a_file_that_is_not_one_whole_chunk_is_an_error(compressor, change, chunks, tmp_path):
    array = stored(tmp_path, chunks=chunks, compressors=COMPRESSORS[compressor])
    file = tmp_path / "c/1/0"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DamagedChunkError) as error:
        read(array, 0, 14)
    assert (error.value.key, error.value.rows) == ("c/1/0", (7, 14))
    assert error.value.__cause__ is not None


def rewritten(file, at_end, entry, value):
    """The shard's bytes with one number of its index changed and the checksum made right."""
    content, size = bytearray(file.read_bytes()), 16 * 3 + 4
    start = len(content) - size if at_end else 0
    index = np.frombuffer(bytes(content[start : start + size - 4]), "<u8").copy()
    index[entry] = value
    new = index.tobytes()
    content[start : start + size] = new + google_crc32c.value(new).to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("at_end", [True, False])
def test_a_shard_that_is_damaged_is_an_error(compressor, at_end, tmp_path):
    where = {"shape": (6, 5), "index_location": "end" if at_end else "start"}
    array = stored(tmp_path, chunks=(2, 5), shards=where, compressors=COMPRESSORS[compressor])
    file = tmp_path / "c/1/0"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-20 if at_end else 20] ^= 1  # in the index
    changes = [whole[:-3], whole[:30], b"", bytes(flipped)]
    outside = itertools.product(
        (0, 1), (2**40, 2**63, 2**64 - 1)
    )  # the first chunk's offset, and its length
    changes += [rewritten(file, at_end, entry, value) for entry, value in (*outside, (1, 3))]
    for change in changes:
        file.write_bytes(change)
        with pytest.raises(DamagedChunkError) as error:
            read(array, 0, 14)
        assert (error.value.key, error.value.rows) == ("c/1/0", (6, 12)), len(change)
    file.write_bytes(whole)
    np.testing.assert_array_equal(read(array, 0, 14), array[0:14])
