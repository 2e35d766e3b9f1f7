"""The reader of plain local chunks gives what Zarr gives, leaves what is not plain to Zarr, and takes no damaged file."""

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.storage import MemoryStore

from dsoftmax.sources.local_chunks import local_chunks

COMPRESSORS = {
    "none": None,
    "blosc": BloscCodec(cname="lz4"),
    "zstd": ZstdCodec(),
    "zstd with checksum": ZstdCodec(checksum=True),
    "gzip": GzipCodec(),
}


def stored(path, shape=(23, 5), chunks=(7, 3), dtype="f4", **options):
    options.setdefault("config", {"write_empty_chunks": True})
    array = zarr.create_array(path, shape=shape, chunks=chunks, dtype=dtype, **options)
    array[...] = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    return array


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("chunks", [(7, 3), (7, 5), (100, 100), (1, 1), (23, 5), (8, 2)])
def test_every_span_equals_what_zarr_reads(compressor, chunks, tmp_path):
    array = stored(tmp_path, chunks=chunks, compressors=COMPRESSORS[compressor])
    reader = local_chunks(array)
    for start, stop in [(0, 23), (0, 7), (7, 14), (3, 20), (22, 23), (5, 5), (21, 23)]:
        found = reader.read(start, stop)
        np.testing.assert_array_equal(found, array[start:stop])
        assert found.dtype == array.dtype
        assert found.shape == (stop - start, 5)


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("shape", "chunks"), [((23,), (7,)), ((23, 5), (7, 5))])
def test_every_dtype_in_both_formats(dtype, zarr_format, shape, chunks, tmp_path):
    array = stored(tmp_path, shape, chunks, dtype, zarr_format=zarr_format)
    np.testing.assert_array_equal(local_chunks(array).read(2, 21), array[2:21])


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (2, 5), "shards": (4, 5)},
        {"dtype": ">f4"},
        {"dtype": "<U3"},
        {"serializer": BytesCodec(endian="big")},
        {"filters": [TransposeCodec(order=(1, 0))]},
        {"order": "F", "zarr_format": 2},
        {"shape": (4, 4, 4), "chunks": (2, 2, 2)},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The data type")
def test_what_is_not_plain_is_left_to_zarr(options, tmp_path):
    options = {"shape": (8, 5), "chunks": (4, 5), "dtype": "f4"} | options
    assert local_chunks(zarr.create_array(tmp_path, **options)) is None


def test_what_is_not_local_is_left_to_zarr():
    assert local_chunks(zarr.create_array(MemoryStore(), shape=(8, 5), chunks=(4, 5), dtype="f4")) is None


def test_a_missing_file_is_none(tmp_path):
    array = stored(tmp_path)
    (tmp_path / "c/1/0").unlink()
    assert local_chunks(array).read(0, 7) is not None
    assert local_chunks(array).read(0, 8) is None


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    "change", [lambda file: file[:-3], lambda file: file[:5], lambda file: b"", lambda file: file + b"xyz"]
)
@pytest.mark.parametrize("chunks", [(7, 3), (7, 5)])
def test_a_file_that_is_not_one_whole_chunk_is_an_error(compressor, change, chunks, tmp_path):
    array = stored(tmp_path, chunks=chunks, compressors=COMPRESSORS[compressor])
    file = tmp_path / "c/1/0"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises((ValueError, RuntimeError, OSError, EOFError)):
        local_chunks(array).read(0, 14)
