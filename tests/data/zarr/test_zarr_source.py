"""Zarr arrays are cut into chunks by their storage, and no chunk is read before it is loaded."""

import tracemalloc

import numpy as np
import pytest
import stored
import zarr
from numpy.testing import assert_array_equal
from opening import opened
from zarr.codecs import BloscCodec, ZstdCodec

from dsoftmax.data.leaves import leaf_rows
from dsoftmax.data.table import Names
from dsoftmax.data.zarr.source import PART_BYTES, cut_stored
from dsoftmax.errors import ReadError
from dsoftmax.testing.sources import check_source

NAMES = Names("store/X", "store/y", "store/w", "store/g")


def chunk_files(path):
    return [
        file
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    ]


@pytest.mark.parametrize(
    "kind", [kind for kind in stored.KINDS if kind.startswith("zarr") and "dask" not in kind]
)
def test_opening_a_zarr_array_reads_no_chunk(kind, tmp_path):
    data = stored.KINDS[kind](tmp_path)
    files = chunk_files(tmp_path)
    assert files
    for file in files:
        file.write_bytes(b"poison")
    source = opened(*data, names=NAMES)
    source.describe()
    source.share([0])
    with pytest.raises(ReadError, match="store/X rows 0–"):
        source.load(0)


def test_a_buffer_is_used_if_it_is_large_enough_and_aligned(rng, tmp_path):
    X = rng.normal(size=(20, 3))
    source = opened(stored.array(tmp_path, "X", X, (20, 3)))
    for buffer, used in (
        (np.zeros(480, np.uint8), True),
        (np.zeros(479, np.uint8), False),
        (np.zeros(489, np.uint8)[1:], False),
    ):
        block = source.load(0, buffer)
        assert_array_equal(block.X, X)
        assert np.shares_memory(block.X, buffer) == used


@pytest.mark.parametrize("n", [64 * 1024, 100_000, 65_536 * 3 + 1])
@pytest.mark.parametrize("stored_rows", [5_000, 65_536, 90_000, 10**6])
@pytest.mark.parametrize("unit", [1, 1_000, None])
@pytest.mark.parametrize("p", [3, 200, 5_000])
def test_cuts_lie_at_stored_chunks_units_and_leaves(n, stored_rows, unit, p):
    unit = stored_rows if unit is None else unit
    stored_rows += -stored_rows % unit
    rows = cut_stored(n, p, 4 * p, stored_rows, unit)
    starts = np.concatenate([[0], np.cumsum(rows)])
    assert starts[-1] == n
    assert (rows > 0).all()
    if unit == stored_rows:
        assert (starts[:-1] % stored_rows == 0).all()
        return
    within = starts[:-1] % stored_rows
    assert (within % (leaf_rows(p) if unit == 1 else unit) == 0).all()
    if stored_rows * 4 * p > 2**20:
        assert set(range(0, n, stored_rows)) <= set(starts.tolist())
    # Whole leaves of one chunk, read in parts, are those of the chunk read at once.
    if unit == 1:
        leaves = {
            start + k
            for start, size in zip(starts, rows, strict=False)
            for k in range(0, size, leaf_rows(p))
        }
        whole = cut_stored(n, p, 4 * p, stored_rows, stored_rows)
        firsts = np.concatenate([[0], np.cumsum(whole)[:-1]])
        assert leaves == {
            start + k
            for start, size in zip(firsts, whole, strict=True)
            for k in range(0, size, leaf_rows(p))
        }


@pytest.mark.parametrize(
    ("compressors", "shards", "n_chunks"),
    [
        (BloscCodec(), None, 2),
        (None, None, 2),
        (ZstdCodec(), None, 1),
        (BloscCodec(), (160_000, 100), 1),
    ],
)
def test_large_chunks_are_read_in_parts_if_their_format_permits(
    compressors, shards, n_chunks, tmp_path
):
    array = zarr.create_array(
        tmp_path,
        shape=(160_000, 100),
        chunks=(160_000, 100),
        shards=shards,
        dtype="i2",
        compressors=compressors,
    )
    source = opened(array, names=NAMES)
    assert len(source.chunk_rows) == n_chunks
    assert source.smaller_chunks(source.chunk_rows.max()) == ""
    assert "chunks=(1000, 100)" in source.smaller_chunks(1000)


def test_parts_have_about_the_stated_size():
    p, row_bytes = 100, 800
    for unit, least in ((1, leaf_rows(p)), (1_000, 0)):
        rows = cut_stored(10**7, p, row_bytes, 10**6, unit)
        assert rows.max() * row_bytes <= max(1.1 * PART_BYTES, least * row_bytes)
        assert np.median(rows) * row_bytes >= min(
            0.9 * PART_BYTES, PART_BYTES - least * row_bytes / 2
        )


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (400_000, 128), "compressors": None},
        {"chunks": (400_000, 64), "compressors": None, "zarr_format": 2},
        {"chunks": (4_000, 128), "shards": (400_000, 128)},
        {"chunks": (4_000, 128), "shards": (400_000, 128), "compressors": None},
    ],
    ids=["one chunk", "two chunks by columns", "a shard of 100 chunks", "a shard, not compressed"],
)
def test_one_stored_object_of_200_megabytes_is_read_in_parts(options, tmp_path):
    X = np.tile(np.arange(1, 129, dtype="f4"), (400_000, 1))
    stored.array(tmp_path, "X", X, **options)
    source = opened(zarr.open_array(tmp_path / "X", mode="r"))
    buffer = np.empty(source.chunk_bytes.max(), np.uint8)
    total = 0.0
    tracemalloc.start()
    for chunk in range(len(source.chunk_rows)):
        total += float(source.load(chunk, buffer).X.sum(dtype=float))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.chunk_rows) >= 6
    assert buffer.nbytes <= 32 * 2**20
    assert total == 400_000 * 128 * 129 / 2
    assert peak <= 17 * 2**20  # scratch for half a block's columns, at most; all would be 195 MiB


def test_a_store_in_memory_is_asked_for_its_chunks():
    store = zarr.storage.MemoryStore()
    X = zarr.create_array(store, name="deep/X", data=np.ones((20, 3)), chunks=(10, 3))
    check_source(opened(X), np.ones((20, 3)))
    del store._store_dict["deep/X/c/1/0"]
    with pytest.raises(ReadError, match="the chunk c/1/0 is not in"):
        opened(X).load(0)
