"""Zarr still has the private APIs that dsoftmax/compat/zarr.py uses, and they behave as it relies
on.
"""

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from relied_on import parameters, relied_on
from zarr.codecs import BloscCodec, BytesCodec, ShardingCodec, ZstdCodec

X = np.arange(60, dtype="f4").reshape(20, 3)

KEYS = {
    (2, (10, 3), None): "1.0",
    (3, (10, 3), None): "c/1/0",
    (3, (5, 3), (10, 3)): "c/1/0",
}
"""Keys of the second stored object along the rows, as the specifications of Zarr v2 and v3 name
them.
"""


def stored(zarr_format, chunks, shards, store=None):
    where = zarr.storage.MemoryStore() if store is None else store
    return zarr.create_array(
        where, name="deep/X", data=X, chunks=chunks, shards=shards, zarr_format=zarr_format
    )


def compat(function):
    """A function of the compat file; the import is inside the test, so that its failure names the
    file too.
    """
    with relied_on("zarr", function):
        import dsoftmax.compat.zarr

        return getattr(dsoftmax.compat.zarr, function)


def test_private_functions_have_the_parameters_that_are_passed():
    with relied_on("zarr", "read_rows"):
        from zarr.core.buffer import NDBuffer, default_buffer_prototype

        assert parameters(default_buffer_prototype) == []
        assert parameters(NDBuffer.from_numpy_array) == ["array_like"]
        assert {"selection", "out"} <= set(parameters(zarr.Array.get_basic_selection))
    with relied_on("zarr", "with_store"):
        from zarr.core.array import AsyncArray

        assert {"metadata", "store_path", "config"} <= set(parameters(AsyncArray))


@pytest.mark.parametrize("stored_as", KEYS, ids=str)
def test_rows_are_read_into_the_memory_that_is_given(stored_as):
    read_rows = compat("read_rows")
    out = np.full((8, 3), -1, "f4")
    with relied_on("zarr", "read_rows"):
        read_rows(stored(*stored_as), 7, 15, out)
        assert_array_equal(out, X[7:15])


@pytest.mark.parametrize("stored_as", KEYS, ids=str)
def test_keys_of_chunks_are_those_of_the_store(stored_as, tmp_path):
    chunk_key = compat("chunk_key")
    array = stored(*stored_as, store=tmp_path)
    with relied_on("zarr", "chunk_key"):
        key = chunk_key(array)((1, 0))
        assert key == KEYS[stored_as]
        assert (tmp_path / "deep/X" / key).is_file()


@pytest.mark.parametrize("stored_as", KEYS, ids=str)
def test_an_array_is_read_through_another_store(stored_as):
    with_store = compat("with_store")
    first, second = stored(*stored_as), stored(*stored_as)
    second[:] = 7
    with relied_on("zarr", "with_store"):
        found = with_store(first, second.store_path.store)
        assert found.metadata == first.metadata
        assert_array_equal(found[:], np.full_like(X, 7))


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("compressors", [[], [ZstdCodec()]])
@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed`")
def test_the_codecs_of_the_index_of_shards_are_known(location, compressors):
    sharding_of, alone = compat("sharding_of"), compat("shards_stand_alone")
    codec = ShardingCodec(
        chunk_shape=(5, 3),
        codecs=[BytesCodec()],
        index_codecs=[BytesCodec(endian="little"), zarr.codecs.Crc32cCodec()],
        index_location=location,
    )
    array = zarr.create_array(
        {}, shape=(20, 3), dtype="f4", chunks=(10, 3), serializer=codec, compressors=compressors
    )
    with relied_on("zarr", "sharding_of"):
        found = sharding_of(array)
        assert (found is None) == bool(compressors)
        if found is not None:
            assert (found.checks, found.at_end) == (("crc32c",), location == "end")
            assert isinstance(found.serializer, BytesCodec)
    with relied_on("zarr", "shards_stand_alone"):
        assert alone(array) == (not compressors)


def test_an_array_without_shards_has_no_index():
    sharding_of = compat("sharding_of")
    with relied_on("zarr", "sharding_of"):
        assert sharding_of(stored(3, (10, 3), None)) is None


@pytest.mark.parametrize(
    ("zarr_format", "codec"),
    [
        (3, BloscCodec(cname="lz4", clevel=3, blocksize=2**14)),
        (2, numcodecs.Blosc(cname="lz4", clevel=3, blocksize=2**14)),
    ],
)
def test_a_codec_of_either_format_has_a_name_and_options(zarr_format, codec):
    codec_settings = compat("codec_settings")
    array = zarr.create_array({}, data=X, zarr_format=zarr_format, compressors=codec)
    with relied_on("zarr", "codec_settings"):
        name, options = codec_settings(array.compressors[0])
        assert name == "blosc"
        asked = {one: options[one] for one in ("cname", "clevel", "blocksize")}
        assert asked == {"cname": "lz4", "clevel": 3, "blocksize": 2**14}


def test_an_array_knows_its_store_and_its_path(tmp_path):
    array = stored(3, (10, 3), None, store=tmp_path)
    with relied_on("zarr", "the store_path of arrays"):
        assert array.store_path.store.root == tmp_path
        assert array.store_path.path == "deep/X"
        assert str(array.store_path) == f"file://{tmp_path}/deep/X"


def test_a_failure_names_the_file_to_mend():
    with (
        pytest.raises(AssertionError, match=r"zarr .* sync in dsoftmax/compat/zarr.py .*KeyError"),
        relied_on("zarr", "sync"),
    ):
        raise KeyError("gone")
