"""Every storage gives the rows that were stored, reads nothing before it must, and names what is broken."""

import pickle
import shlex
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import stored
import zarr
from distributed import Client
from numpy.testing import assert_array_equal
from opening import opened
from zarr.codecs import BloscCodec, ZstdCodec

from dsoftmax import SoftmaxRegression
from dsoftmax.data.block import Block
from dsoftmax.data.columns import STRING_BYTES
from dsoftmax.data.kind import is_lazy
from dsoftmax.data.leaves import leaf_rows
from dsoftmax.data.memory import CSR_FEATURE_BYTES, MemoryRows
from dsoftmax.data.rows import RowSource, cut
from dsoftmax.data.table import Names, Table
from dsoftmax.data.zarr.local.files import LocalChunks
from dsoftmax.data.zarr.source import PART_BYTES, cut_stored
from dsoftmax.errors import DataError, OptionError, ReadError
from dsoftmax.kernels import softmax
from dsoftmax.kernels.compiled import fused
from dsoftmax.testing.sources import check_source

ROOT = Path(__file__).parents[2]
NAMES = Names("store/X", "store/y", "store/w", "store/g")


@pytest.fixture(params=["chunks as stored", "small chunks together", "large chunks in parts"])
def grouping(request, monkeypatch):
    """Chunks are read alone, or several together or each in parts, as they are in earnest."""
    if request.param != "small chunks together":
        monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
        monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2000)
        monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    if request.param == "large chunks in parts":
        monkeypatch.setattr("dsoftmax.data.zarr.source.PART_BYTES", 300)
        monkeypatch.setattr("dsoftmax.data.zarr.source.leaf_rows", lambda p: 8)


@pytest.mark.parametrize("kind", stored.KINDS)
def test_every_storage_keeps_the_contract(kind, tmp_path, grouping):
    data = stored.KINDS[kind](tmp_path)
    source = opened(*data, names=NAMES)
    check_source(source, data.X, data.y, data.weights)
    again = (
        pickle.loads(pickle.dumps(source, 5)).describe()
        if "dask" not in kind
        else opened(*data, names=NAMES).describe()
    )
    assert again == source.describe()


GROUPS = {
    "numbers": np.arange(stored.N) // 7 - 20,
    "words": np.array(["ash", "béé", "oak", "elm"])[np.arange(stored.N) // 9 % 4],
}


def of_any_length(values):
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


COLUMNS = {
    "numpy": lambda values, path: values,
    "strings of any length": lambda values, path: of_any_length(values),
    "lists": lambda values, path: values.tolist(),
    "objects": lambda values, path: values.astype(object),
    "zarr": lambda values, path: stored.array(path, "g", of_any_length(values), (41,)),
    "zarr v2": lambda values, path: stored.array(path, "g", values, (41,), zarr_format=2),
    "dask": stored.cut(31),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(
    "kind", ["numpy", "csr_array", "zarr v3 sharded", "zarr v2", "dask", "dask csr_array"]
)
def test_groups_travel_with_the_rows_of_every_storage(kind, groups, column, tmp_path, monkeypatch):
    for name in (
        "data.memory.CHUNK_BYTES",
        "data.memory.CSR_CHUNK_BYTES",
        "data.zarr.source.GROUP_BYTES",
    ):
        monkeypatch.setattr(f"dsoftmax.{name}", 2000)
    values, data = GROUPS[groups], stored.KINDS[kind](tmp_path)
    source = opened(*data, names=NAMES, groups=COLUMNS[column](values, tmp_path))
    assert len(source.chunk_rows) > 1 or (kind, column) == ("numpy", "dask")
    check_source(source, data.X, data.y, data.weights, values)
    assert source.describe()["arrays"].keys() == {"X", "y", "groups"} | (
        {"weights"} if data.weights is not None else set()
    )
    assert opened(*data, names=NAMES).describe() != source.describe()
    assert opened(*data, names=NAMES).load(0).groups is None


@pytest.mark.parametrize("column", ["numpy", "zarr", "dask"])
def test_a_missing_group_is_named_with_its_row_in_the_whole(column, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2000)
    values = np.arange(stored.N, dtype=float)
    values[250] = np.nan
    source = opened(
        np.ones((stored.N, 5)), groups=COLUMNS[column](values, tmp_path), names=NAMES
    )
    numbers = [chunk for chunk, stop in enumerate(np.cumsum(source.chunk_rows)) if stop > 250]
    with pytest.raises(DataError, match="store/g row 250: the group is nan"):
        source.load(numbers[0])
    assert all(source.load(chunk).groups is not None for chunk in range(numbers[0]))


def test_a_buffer_is_used_where_it_has_room_and_is_aligned(rng, tmp_path):
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


@dataclass(frozen=True)
class Broken(RowSource):
    """A source that is right but for one rule about buffers."""

    rule: str = ""
    blocks: dict = field(default_factory=dict)

    def load(self, chunk, buffer=None):
        if self.rule == "keeps":  # a block whose memory is the caller's
            if buffer is not None:
                return self.blocks.setdefault(chunk, super().load(chunk, buffer))
            return self.blocks.get(chunk) or super().load(chunk)
        block = super().load(chunk, buffer)
        if buffer is None:
            return block
        X = np.asfortranarray(block.X) if self.rule == "turns" else block.X + 1
        return Block(X, block.y, block.weights, block.first_row, block.names)


@dataclass(frozen=True)
class Regrouped(RowSource):
    """A source whose groups are those of the rows, but numbered in its own way."""

    def load(self, chunk, buffer=None):
        block = super().load(chunk, buffer)
        return replace(block, groups=block.groups + np.uint64(1))

    def fetch(self, chunk, buffer):
        return self.load(chunk, buffer)


def test_the_contract_finds_groups_that_are_not_numbered_as_they_must():
    X, groups = np.ones((20, 3)), np.arange(20) // 4
    source = opened(X, groups=groups)
    check_source(source, X, groups=groups)
    with pytest.raises(
        AssertionError, match="the groups of the blocks, one after the other, differs from the original"
    ):
        check_source(source, X, groups=groups[::-1])
    with pytest.raises(AssertionError, match="pickled share"):
        check_source(
            Regrouped(source.table, source.chunk_rows, source.chunk_bytes)
        )
    with pytest.raises(AssertionError, match="groups is missing from the blocks"):
        check_source(opened(X), X, groups=groups)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("keeps", "loaded without the buffer"),
        ("turns", "another memory order"),
        ("changes", "loaded into a buffer: X differs"),
    ],
)
def test_the_contract_finds_what_is_wrong_with_buffers(rule, message, tmp_path):
    source = opened(
        stored.array(tmp_path, "X", np.random.default_rng(0).normal(size=(20, 3)), (8, 3))
    )
    check_source(source)
    with pytest.raises(AssertionError, match=message):
        check_source(Broken(source.table, source.chunk_rows, source.chunk_bytes, rule=rule))


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "u1", "<i2", ">u2", "<i4", "<i8", "<f2", "<f4", ">f4", "<f8"]
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_blocks_have_the_stored_dtype(tmp_path, dtype, zarr_format):
    X = np.arange(60).reshape(20, 3).astype(dtype)
    source = opened(stored.array(tmp_path, "X", X, (8, 3), zarr_format=zarr_format))
    check_source(source, X)
    assert source.dtype.newbyteorder("=") == X.dtype.newbyteorder("=")


def test_arrays_in_memory_are_not_copied(rng):
    X = rng.normal(size=(100, 3))
    assert np.shares_memory(opened(X).load(0).X, X)


def test_the_fingerprint_of_arrays_in_memory_is_of_their_content(rng):
    X, y = rng.normal(size=(100, 3)), np.arange(100) % 3
    first = opened(X, y).describe()
    assert opened(X.copy(), y.tolist()).describe() == first
    X[50, 1] += 1e-9
    assert opened(X, y).describe() != first
    strings = y.astype(np.dtypes.StringDType())
    assert opened(X, strings).describe() == opened(X, strings.copy()).describe()


@pytest.mark.parametrize(("n", "step"), [(1, 1), (10, 3), (9, 3), (2, 5)])
def test_cut_makes_whole_steps_and_a_rest(n, step):
    assert cut(n, step).tolist() == [
        len(range(start, min(start + step, n))) for start in range(0, n, step)
    ]


# --- nothing is read before it must be -----------------------------------------------------------------------------------


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


def no_compute(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.mark.parametrize(
    "kind", [kind for kind in stored.KINDS if "dask" in kind and "unknown" not in kind]
)
def test_opening_a_dask_array_computes_nothing(kind, tmp_path):
    data = stored.KINDS[kind](tmp_path)
    with dask.config.set(scheduler=no_compute):
        source = opened(*data)
        source.describe()
        source.share([0])
    assert source.load(0).n_rows == source.chunk_rows[0]


def counted(shape, calls):
    """A dask array that notes which of its blocks are computed."""

    def block(number, rows):
        calls.append(number)
        return np.full((rows, *shape[1:]), number, float)

    parts = [
        da.from_delayed(dask.delayed(block)(i, 10), (10, *shape[1:]), float)
        for i in range(shape[0] // 10)
    ]
    return da.concatenate(parts)


def test_a_load_computes_its_block_alone_and_once():
    calls_X, calls_y = [], []
    X, y = counted((50, 3), calls_X), counted((50,), calls_y)
    source = opened(da.concatenate([X[:, :1], X[:, 1:]], axis=1), (y * 2).rechunk(25))
    assert (calls_X, calls_y) == ([], [])
    block = source.load(3)
    assert calls_X == [3]
    assert sorted(calls_y) == [2, 3, 4]  # the labels' own chunk of 25 rows
    assert_array_equal(block.X, np.full((10, 3), 3.0))
    assert_array_equal(block.y, np.full(10, 6.0))


def test_unknown_sizes_are_counted_in_one_pass():
    calls = []
    X = counted((50, 3), calls)
    source = opened(X[X[:, 0] >= 0])
    assert sorted(calls) == [0, 1, 2, 3, 4]
    assert source.chunk_rows.tolist() == [10] * 5


def test_a_share_of_a_dask_array_holds_its_own_graph_alone():
    X = da.concatenate(
        [da.from_array(np.full((100, 50), i, float), chunks=(100, 50)) for i in range(20)]
    )
    source = opened(X)
    assert len(pickle.dumps(source.share([3]))) < 3 * 100 * 50 * 8


def test_dask_and_zarr_are_lazy_and_arrays_in_memory_are_not(tmp_path):
    assert is_lazy(da.zeros((2, 2)))
    assert is_lazy(stored.array(tmp_path, "X", np.zeros((2, 2)), (2, 2)))
    assert not is_lazy(np.zeros((2, 2)))
    assert not is_lazy(scipy.sparse.csr_array((2, 2)))
    assert not is_lazy([[0.0]])


# --- chunks that are lost or damaged --------------------------------------------------------------------------------------


@pytest.fixture(params=[(3, None), (3, (20, 3)), (2, None)], ids=["v3", "v3 sharded", "v2"])
def written(request, tmp_path, monkeypatch):
    """100 rows in ten chunks of ten rows (or five shards), read in groups of several; y and weights in chunks of 25."""
    zarr_format, shards = request.param
    options = {"shards": shards} if shards else {}
    X = np.random.default_rng(0).normal(size=(100, 3))
    y = np.arange(100) % 3 + 1
    arrays = (
        stored.array(tmp_path, "X", X, (10, 3), zarr_format=zarr_format, **options),
        stored.array(tmp_path, "y", y, (25,), zarr_format=zarr_format),
        stored.array(tmp_path, "w", np.ones(100), (25,), zarr_format=zarr_format),
    )
    return tmp_path, arrays, X, y, zarr_format, 20 if shards else 10


def load_last(source):
    return source.load(len(source.chunk_rows) - 1)


def chunk_file(path, name, zarr_format, *place):
    inner = ".".join(map(str, place)) if zarr_format == 2 else "/".join(["c", *map(str, place)])
    return path / name / inner, inner


@pytest.mark.parametrize("array", ["X", "y", "w"])
def test_a_lost_chunk_is_an_error_or_the_fill_value_as_asked(written, array):
    path, arrays, X, y, zarr_format, unit = written
    place = (3, 0) if array == "X" else (3,)
    file, key = chunk_file(path, array, zarr_format, *place)
    file.unlink()
    with pytest.raises(ReadError) as error:
        opened(*arrays, names=NAMES).load(0)
    message = str(error.value)
    assert f"store/{array} rows " in message
    assert f"the chunk {key} is not in" in message
    assert "--missing-chunks fill" in message
    block = opened(*arrays, names=NAMES, missing_chunks="fill").load(0)
    lost = slice(3 * unit, 4 * unit) if array == "X" else slice(75, 100)
    expected = {"X": X.copy(), "y": y.copy(), "w": np.ones(100)}
    expected[array][lost] = 0
    assert_array_equal(block.X, expected["X"])
    assert_array_equal(block.y, expected["y"])
    assert_array_equal(block.weights, expected["w"])


@pytest.mark.parametrize(
    "convert", [lambda X: X, lambda X: X[:], lambda X: da.from_array(X[:], chunks=(50, 3))]
)
def test_a_lost_chunk_of_groups_is_an_error_or_the_fill_value_as_asked(convert, tmp_path):
    X = convert(stored.array(tmp_path, "X", np.ones((100, 3)), (10, 3)))
    groups = stored.array(tmp_path, "g", np.arange(100) // 5 + 1, (25,))
    chunk_file(tmp_path, "g", 3, 3)[0].unlink()
    with pytest.raises(ReadError, match=r"store/g rows .*the chunk c/3 is not in"):
        load_last(opened(X, groups=groups, names=NAMES))
    filled = load_last(opened(X, groups=groups, names=NAMES, missing_chunks="fill"))
    assert filled.groups[-26:].tolist() == [15] + [0] * 25


@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize("missing_chunks", ["error", "fill"])
def test_a_truncated_chunk_names_its_rows_and_key_even_in_a_group_of_many(
    written, number, missing_chunks
):
    path, arrays, _, _, zarr_format, unit = written
    file, key = chunk_file(path, "X", zarr_format, number, 0)
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(ReadError) as error:
        opened(*arrays, names=NAMES, missing_chunks=missing_chunks).load(0)
    assert f"store/X rows {number * unit}–{(number + 1) * unit - 1} cannot be read" in str(
        error.value
    )
    assert key in str(error.value)


def test_an_uncompressed_chunk_that_is_short_or_empty_is_an_error(tmp_path):
    X = stored.array(tmp_path, "X", np.ones((20, 3)), (10, 3), compressors=None)
    for content in (b"", b"\0" * 100, b"\0" * 241):
        chunk_file(tmp_path, "X", 3, 1, 0)[0].write_bytes(content)
        with pytest.raises(ReadError, match="X rows 10–19 cannot be read"):
            opened(X).load(0)


def test_a_lost_chunk_is_seen_through_dask_and_beside_arrays_in_memory_too(written):
    path, (X, y, w), X_values, _y_values, zarr_format, _ = written
    chunk_file(path, "y", zarr_format, 3)[0].unlink()
    for features in (X_values, da.from_array(X_values, chunks=(50, 3)), X):
        with pytest.raises(ReadError, match=r"store/y rows .*is not in"):
            load_last(opened(features, y, w, names=NAMES))
        filled = load_last(opened(features, y, w, names=NAMES, missing_chunks="fill"))
        assert_array_equal(filled.y[-25:], 0)


def test_any_store_is_asked_for_its_chunks():
    store = zarr.storage.MemoryStore()
    X = zarr.create_array(store, name="deep/X", data=np.ones((20, 3)), chunks=(10, 3))
    check_source(opened(X), np.ones((20, 3)))
    del store._store_dict["deep/X/c/1/0"]
    with pytest.raises(ReadError, match="the chunk c/1/0 is not in"):
        opened(X).load(0)


@pytest.mark.parametrize(
    "kind", ["zarr v3", "numpy", "csr_array", "dask", "numpy with labels in zarr"]
)
def test_missing_chunks_has_two_meanings(kind, tmp_path):
    with pytest.raises(OptionError, match=r"missing_chunks='fil' is unknown. Did you mean 'fill'"):
        opened(*stored.KINDS[kind](tmp_path), missing_chunks="fil")


@pytest.mark.parametrize("shards", [None, (20, 3)])
def test_what_zarr_leaves_out_is_an_error_or_the_fill_value_as_asked(shards, tmp_path):
    X = np.ones((40, 3))
    X[25:30] = 7
    array = stored.array(
        tmp_path,
        "X",
        X,
        (5, 3),
        shards=shards,
        fill_value=7.0,
        config={"write_empty_chunks": False},
    )
    what = r"the inner chunk \(1, 0\) of the shard c/1/0" if shards else "the chunk c/5/0"
    with pytest.raises(
        ReadError,
        match=rf"store/X rows 2.–..: {what} is not in .* fill value .*7.0.*--missing-chunks fill",
    ):
        opened(array, names=NAMES).load(0)
    assert_array_equal(opened(array, missing_chunks="fill").load(0).X, X)


def test_a_dask_block_that_fails_names_its_rows_and_keeps_our_own_errors():
    def fail(block, kind):
        if block.shape[0] and block[0, 0] == 20:
            raise kind("the disk is gone")
        return block

    X = np.repeat(np.arange(40.0)[:, None], 2, axis=1)
    for kind, raised in ((OSError, ReadError), (KeyError, ReadError), (DataError, DataError)):
        lazy = da.from_array(X, chunks=(20, 2)).map_blocks(
            fail, kind, dtype=float, meta=np.zeros((0, 2))
        )
        source = opened(lazy, names=NAMES)
        assert_array_equal(source.load(0).X, X[:20])
        with pytest.raises(raised, match="the disk is gone") as error:
            source.load(1)
        if raised is ReadError:
            assert "store/X rows 20–39: the dask graph behind this block failed with" in str(
                error.value
            )
            assert "X.blocks[1].compute()" in str(error.value)


def test_a_dask_block_of_another_size_than_dask_said_is_refused():
    X = da.zeros((40, 2), chunks=(20, 2)).map_blocks(
        lambda b: b[:7], chunks=((20, 20), (2,)), meta=np.zeros((0, 2))
    )
    with pytest.raises(
        DataError, match=r"dask said 20 rows and the block has 7.*compute_chunk_sizes"
    ):
        opened(X).load(1)


# --- chunks that are cut ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "p"), [(40_000, 20), (40_000, 1000), (400_000, 100)])
def test_chunks_of_wide_csr_are_large_but_not_few(n, p, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2**14)
    pointers = np.arange(n + 1) * 2  # two values a row
    X = scipy.sparse.csr_array(
        (np.ones(2 * n, "f4"), np.tile([0, p - 1], n), pointers), shape=(n, p)
    )
    row_bytes = 2 * (4 + X.indices.itemsize)
    wide = min(CSR_FEATURE_BYTES * p, n * row_bytes // 8)
    rows = opened(X).chunk_rows
    assert rows[0] * row_bytes > wide / 2  # powers of two
    assert len(rows) >= 6


@pytest.mark.parametrize("n", [64 * 1024, 100_000, 65_536 * 3 + 1])
@pytest.mark.parametrize("stored_rows", [5_000, 65_536, 90_000, 10**6])
@pytest.mark.parametrize("unit", [1, 1_000, None])
@pytest.mark.parametrize("p", [3, 200, 5_000])
def test_parts_keep_to_the_stored_chunks_their_units_and_the_leaves(n, stored_rows, unit, p):
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
def test_large_chunks_are_read_in_parts_where_their_format_permits(
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


def test_parts_are_about_as_large_as_said():
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
def test_what_is_stored_as_one_object_of_200_megabytes_is_read_in_parts(options, tmp_path):
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


def test_labels_in_one_long_chunk_are_read_in_parts_too(tmp_path):
    X, y = np.zeros((50_000, 2), "f4"), np.arange(50_000)
    arrays = (
        stored.array(tmp_path, "X", X, (1_000, 2)),
        stored.array(tmp_path, "y", y, (50_000,), compressors=None),
    )
    source = opened(*arrays)
    check_source(source, X, y)
    assert source.columns.units == 0  # nothing is kept, for nothing is read that was not asked for


@pytest.mark.parametrize("convert", [lambda X: X, da.from_zarr])
def test_a_chunk_of_labels_that_many_blocks_share_is_decoded_once_by_one_thread(
    convert, tmp_path, monkeypatch
):
    X, y = np.zeros((50_000, 100), "f4"), np.arange(50_000)
    arrays = (
        stored.array(tmp_path, "X", X, (1_000, 100)),
        stored.array(tmp_path, "y", y, (30_000,)),
    )
    source = opened(convert(arrays[0]), arrays[1])
    assert len(source.chunk_rows) > 15
    assert source.columns.units == 2 * 30_000 * 8
    decoded = []
    read = LocalChunks.read

    def counted(self, start, stop, out):
        if self.ndim == 1:
            decoded.append((start, stop))
        return read(self, start, stop, out)

    monkeypatch.setattr(LocalChunks, "read", counted)
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(source.load, range(len(source.chunk_rows))))
    assert sorted(decoded) == [(0, 30_000), (30_000, 50_000)]
    assert_array_equal(np.concatenate([block.y for block in blocks]), y)
    assert all(block.y.base is None or block.y.base.nbytes < 30_000 for block in blocks)


@pytest.mark.parametrize(("rows", "kept"), [(10**5, 4), (4 * 10**5, 2), (6 * 10**5, 1), (10**7, 1)])
def test_few_large_chunks_of_labels_are_kept(rows, kept, tmp_path):
    X = zarr.create_array(tmp_path / "X", shape=(10**7, 4), chunks=(70_001, 4), dtype="f4")
    y = zarr.create_array(tmp_path / "y", shape=(10**7,), chunks=(rows,), dtype="i8")
    assert opened(X, y).columns.units == kept * 8 * rows
    assert (
        opened(
            X, zarr.create_array(tmp_path / "z", shape=(10**7,), chunks=(70_001,), dtype="i8")
        ).columns.units
        == 0
    )


@pytest.mark.parametrize(
    ("dtypes", "row", "stored_row"),
    [
        (("i8", None, None), 8, 8),
        (("U40", "f4", "i1"), 160 + 8 + 8, 160 + 4 + 1),
        (("S3", None, "U5"), 3 + 8, 3 + 20 + STRING_BYTES),
    ],
)
def test_labels_weights_and_groups_are_counted_as_they_are_stored(
    dtypes, row, stored_row, tmp_path
):
    columns = [None if dtype is None else np.ones(1000).astype(dtype) for dtype in dtypes]
    X = stored.array(tmp_path, "X", np.zeros((1000, 3)), (100, 3))
    paths = [
        None if c is None else stored.array(tmp_path, f"c{i}", c, (100,), zarr_format=2)
        for i, c in enumerate(columns)
    ]
    y, weights, groups = paths
    found = opened(X, y, weights, groups=groups)
    check_source(found)
    assert (found.columns.row, found.columns.stored, found.columns.units) == (row, stored_row, 0)
    y, weights, groups = columns
    assert opened(np.zeros((1000, 3)), y).columns.row == 0
    assert opened(np.zeros((1000, 3)), y, weights).columns.stored == 0


# --- the command that stores it again -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (100, 4)},
        {"chunks": (64, 3), "zarr_format": 2, "dtype": ">i2"},
        {"chunks": (10, 4), "shards": (50, 4)},
        {"chunks": (1000, 1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("folder", ["plain", "with 'quotes', \"more\" & $paces é"])
def test_the_command_for_smaller_chunks_works_as_it_stands(options, folder, tmp_path):
    X = np.arange(130 * 4).reshape(130, 4).astype(options.pop("dtype", "f4"))
    X[:40] = 0
    array = stored.array(tmp_path / folder, "X", X, **options)
    line = opened(array).smaller_chunks(7)
    command = line.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    again = zarr.open_array(tmp_path / folder / "X-7-rows", mode="r")
    assert again.chunks == (7, 4)
    check_source(opened(again), X)


def test_dask_arrays_are_cut_anew_by_their_owner_and_arrays_in_memory_need_nothing():
    X = da.zeros((40, 2), chunks=(20, 2))
    namespace = {"X": X}
    exec(opened(X).smaller_chunks(7), namespace)
    assert namespace["X"].chunks[0] == (7, 7, 7, 7, 7, 5)
    assert opened(np.zeros((4, 2))).smaller_chunks(2) == ""
    assert (
        opened(
            zarr.create_array(zarr.storage.MemoryStore(), data=np.ones((4, 2)))
        ).smaller_chunks(2)
        == ""
    )


def test_a_remote_array_is_stored_again_in_the_working_directory(tmp_path):
    array = stored.array(tmp_path, "X", np.ones((9, 2)), (9, 2))
    url = f"file://{tmp_path}/X"
    remote = zarr.open_array(zarr.storage.FsspecStore.from_url(url), mode="r", zarr_format=3)
    assert f'zarr.open_array("{url}", mode="r")' in opened(remote).smaller_chunks(3)
    assert '"X-3-rows"' in opened(remote).smaller_chunks(3)
    assert_array_equal(opened(remote).load(0).X, array[:])


# --- shares -------------------------------------------------------------------------------------------------------------


def test_a_share_knows_its_own_chunks_alone(rng):
    X, y = rng.normal(size=(1000, 3)), np.arange(1000)
    source = RowSource(Table(MemoryRows(X), MemoryRows(y)), cut(1000, 30), cut(1000, 30) * 24)
    share = pickle.loads(pickle.dumps(source.share([20, 3, 33])))
    for chunk in (3, 20, 33):
        assert_array_equal(share.load(chunk).y, y[30 * chunk : 30 * chunk + 30])
    for chunk in (0, 4, 32, 34, -1):
        with pytest.raises(KeyError, match=f"chunk {chunk} is not in this share of 3 chunks"):
            share.load(chunk)
    assert pickle.loads(pickle.dumps(source.share([]))).chunks.size == 0


@pytest.mark.parametrize("convert", [np.ascontiguousarray, scipy.sparse.csr_array])
def test_a_share_of_an_array_in_memory_pickles_its_own_rows_alone(convert, rng):
    X = convert(rng.normal(size=(10_000, 5)))
    source = RowSource(
        Table(MemoryRows(X)), cut(10_000, 100), cut(10_000, 100) * 40, scipy.sparse.issparse(X)
    )
    whole, few = len(pickle.dumps(source)), len(pickle.dumps(source.share(range(0, 100, 10))))
    assert few < 0.12 * whole
    assert (
        len(pickle.dumps(pickle.loads(pickle.dumps(source.share(range(0, 100, 10))))))
        < 0.12 * whole
    )  # passed on


@pytest.mark.parametrize("labels", ["zarr", "numpy"])
def test_a_hundred_thousand_chunks_are_planned_in_little_memory(labels, tmp_path):
    n, p = 100_000 * 100, 1_000  # 400 KB a chunk, none of which is written
    X = zarr.create_array(tmp_path / "X", shape=(n, p), chunks=(300, p), dtype="f4")
    y = (
        zarr.create_array(tmp_path / "y", shape=(n,), chunks=(300,), dtype="i1")
        if labels == "zarr"
        else np.zeros(n, "i1")
    )
    tracemalloc.start()
    source = opened(X, y)
    share = source.share(np.arange(0, len(source.chunk_rows), 2))
    size = len(pickle.dumps(share))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.chunk_rows) > 33_000
    assert size < 3 * 8 * len(source.chunk_rows) + (n if labels == "numpy" else 0)
    assert peak < 50 * 2**20


# --- what does not fit ------------------------------------------------------------------------------------------------


def as_numpy(values, path, name):
    return values


def as_dask(values, path, name):
    return da.from_array(values, chunks=values.shape)


def as_zarr(values, path, name):
    return stored.array(path, name, values, values.shape)


@pytest.mark.parametrize("kind", [as_numpy, as_dask, as_zarr])
@pytest.mark.parametrize(
    ("X", "y", "w", "g", "message"),
    [
        ((6,), None, None, None, r"store/X has 1 dimensions \(6,\); expected two"),
        ((6, 2, 2), None, None, None, "store/X has 3 dimensions"),
        ((6, 2), (5,), None, None, "store/y has 5 rows and store/X has 6"),
        (
            (6, 2),
            (6, 1),
            None,
            None,
            r"store/y has shape \(6, 1\); expected one value per row, \(6,\)",
        ),
        ((6, 2), (6,), (7,), None, "store/w has 7 rows and store/X has 6"),
        ((6, 2), (6,), (6, 6), None, "store/w has shape"),
        ((6, 2), (6,), None, (5,), "store/g has 5 rows and store/X has 6"),
        ((6, 2), None, None, (6, 1), r"store/g has shape \(6, 1\); expected one value per row"),
    ],
)
def test_shapes_that_do_not_fit_are_named(kind, tmp_path, X, y, w, g, message):
    shapes = {"X": X, "y": y, "w": w, "g": g}
    *arrays, groups = [
        None if shape is None else kind(np.ones(shape), tmp_path, name)
        for name, shape in shapes.items()
    ]
    with pytest.raises(DataError, match=message):
        opened(*arrays, names=NAMES, groups=groups)


@pytest.mark.parametrize(
    ("values", "X", "options"),
    [
        (np.arange(7 * 3 * 2, dtype="i2").reshape(7, 3, 2), None, {"chunks": (2, 2, 2)}),
        (np.zeros((4, 2, 3, 5), "f4"), None, {"chunks": (3, 2, 3, 5)}),
        (np.arange(6.0), None, {"chunks": (4,)}),
        (np.arange(15).reshape(5, 3) % 4, (15, 2), {"chunks": (2, 2), "shards": (4, 4)}),
        (np.array([["a"], ["béé"], ["a"]], np.dtypes.StringDType()), (3, 2), {"chunks": (2, 1)}),
        (np.array([["a"], ["b"], ["a"]], "U1"), (3, 2), {"chunks": (2, 1), "zarr_format": 2}),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_the_command_for_another_shape_works_as_it_stands(values, X, options, tmp_path):
    folder = tmp_path / "with 'quotes' & $paces é"
    array = stored.array(folder, "it", values, **options)
    names = Names(str(folder / "it"), str(folder / "it"))
    with pytest.raises(
        DataError, match=r"Store it .*, for example beside it as it-rows:\n"
    ) as error:
        opened(*((array,) if X is None else (np.ones(X), array)), names=names)
    assert "it.r" not in str(error.value)
    command = (
        str(error.value).splitlines()[-1].strip().replace("python", shlex.quote(sys.executable), 1)
    )
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    again = zarr.open_array(folder / "it-rows", mode="r")
    if X is None:
        check_source(
            opened(again), values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
        )
    else:
        assert_array_equal(opened(np.ones(X), again).load(0).y, values.ravel())


def test_columns_of_another_length_are_stored_one_by_one():
    with pytest.raises(
        DataError, match=r"/data/y has shape \(6, 2\).*Store one of its columns by itself\.$"
    ):
        opened(np.ones((6, 2)), np.ones((6, 2)), names=Names("/data/X", "/data/y"))


def test_a_group_is_no_array_and_says_which_it_has(tmp_path):
    group = zarr.create_group(tmp_path)
    X, y = group.create_array("X", data=np.ones((4, 2))), group.create_array("y", data=np.arange(4))
    group.create_group("more")
    with pytest.raises(
        DataError,
        match=r"X is a Zarr group; expected one array. It has X, y, more/. Pass .*group\['X'\]",
    ):
        opened(group, y)
    with pytest.raises(DataError, match=r"y is a Zarr group; .*group\['y'\]"):
        opened(X, group)
    with pytest.raises(DataError, match=r"sample_weight is a Zarr group"):
        opened(X, y, group)
    with pytest.raises(DataError, match=r"X is a Zarr group; .* It has no arrays"):
        opened(group["more"])
    above = zarr.create_group(tmp_path / "above")
    above.create_group("below")
    with pytest.raises(
        DataError, match=r"It has below/. Pass an array of one of them: group\['below'\]"
    ):
        opened(above)


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_the_line_that_reads_a_sparse_group_works_as_it_stands(kind, tmp_path, rng):
    X = rng.normal(size=(20, 6)) * (rng.random((20, 6)) < 0.3)
    matrix = getattr(scipy.sparse, f"{kind}_array")(X)
    g = zarr.create_group(
        tmp_path, attributes={"encoding-type": f"{kind}_matrix", "shape": [20, 6]}
    )
    for name in ("data", "indices", "indptr"):
        g.create_array(name, data=getattr(matrix, name))
    with pytest.raises(DataError, match=r"X is a Zarr group that holds a sparse matrix") as error:
        opened(g)
    line = str(error.value).split("pass ")[1].split(", which reads")[0]
    assert_array_equal(eval(line, {"scipy": scipy, "g": g}).toarray(), X)


@pytest.mark.parametrize("path", ["data.zarr/X", b"data.zarr/X", Path("data.zarr/X")])
def test_a_path_is_no_array_and_is_opened_by_its_owner(path):
    for arrays in ((path,), (np.ones((4, 2)), path)):
        with pytest.raises(
            DataError,
            match=r"[Xy] is .*; expected an array.*open it: zarr.open_array\('data.zarr/X', mode='r'\)",
        ):
            opened(*arrays)


def test_sparse_labels_are_refused():
    with pytest.raises(
        DataError, match=r"y is sparse, of shape \(4, 1\); .*Pass y.toarray\(\).ravel\(\)"
    ):
        opened(np.ones((4, 2)), scipy.sparse.csr_array(np.ones((4, 1))))


@pytest.mark.parametrize("weight", [2, 2.5, np.float32(3)])
@pytest.mark.parametrize(
    "kind",
    ["numpy", "csr_array", "lists", "zarr v3 uneven, by columns", "dask", "dask unknown sizes"],
)
def test_one_number_is_the_weight_of_every_row(kind, weight, tmp_path):
    it = stored.KINDS[kind](tmp_path)
    check_source(opened(*it.args[:2], weight), it.X, it.y, np.full(stored.N, float(weight)))


@pytest.mark.parametrize("kind", [as_numpy, as_dask])
@pytest.mark.parametrize(
    ("shape", "message"), [((0, 3), "store/X has 0 rows"), ((3, 0), r"store/X has 0 feature\(s\)")]
)
def test_nothing_is_not_data(kind, tmp_path, shape, message):
    with pytest.raises(DataError, match=message):
        opened(kind(np.ones(shape), tmp_path, "X"), names=NAMES)


@pytest.mark.parametrize("kind", [as_numpy, as_dask, as_zarr])
@pytest.mark.parametrize(
    ("dtype", "message"),
    [("c16", "Complex data not supported"), ("M8[s]", "expected real numbers")],
)
def test_values_that_are_no_real_numbers_are_refused(kind, tmp_path, dtype, message):
    with pytest.raises(DataError, match=message):
        opened(kind(np.zeros((4, 2), dtype), tmp_path, "X"), names=NAMES)


def test_words_are_no_numbers():
    with pytest.raises(DataError, match="store/X has dtype <U1; expected real numbers"):
        opened(np.array([["a", "b"]]), names=NAMES)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_zarr_array_of_nothing_beside_a_dask_array_is_named_too(shape, tmp_path):
    X = zarr.create_array(tmp_path, shape=shape, chunks=(2, 2), dtype="f4")
    with pytest.raises(DataError, match="store/X has 0 "):
        opened(X, da.zeros(shape[0]), names=NAMES)


def strided(array):
    """The same values, every other one of what lies in memory."""
    room = np.full(2 * len(array), -7, array.dtype)
    room[::2] = array
    return room[::2]


def test_csr_whose_parts_have_gaps_is_read_right_by_every_kernel(rng):
    plain = scipy.sparse.random_array((500, 40), density=0.2, format="csr", rng=rng)
    gaps = scipy.sparse.csr_array(
        (strided(plain.data), plain.indices, plain.indptr), shape=plain.shape
    )
    gaps.indices, gaps.indptr = strided(plain.indices), strided(plain.indptr)
    assert gaps.data.strides == (16,)
    y, theta = rng.integers(0, 3, 500), rng.normal(size=(3, 41))
    expected = softmax.value_and_gradient(theta, plain, y)
    block = opened(gaps, y).load(0)
    assert all(part.flags.c_contiguous for part in (block.X.data, block.X.indices, block.X.indptr))
    for kernel in (softmax, fused):
        for X in (gaps, block.X):
            value, gradient = kernel.value_and_gradient(theta, X, y)
            np.testing.assert_allclose(value, expected[0], rtol=1e-12)
            np.testing.assert_allclose(gradient, expected[1], rtol=1e-10, atol=1e-10)
    of_gaps, of_plain = (SoftmaxRegression(C=1.0).fit(X, y) for X in (gaps, plain))
    assert_array_equal(of_gaps.coef_, of_plain.coef_)


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8"])
def test_csr_of_a_dtype_that_scipy_does_not_compute_with_is_converted(rng, dtype):
    plain = scipy.sparse.random_array((300, 9), density=0.4, format="csr", rng=rng)
    stored = plain.astype("f4")
    stored.data = stored.data.astype(dtype)
    y = rng.integers(0, 3, 300)
    expected = SoftmaxRegression(C=1.0).fit(
        scipy.sparse.csr_array((stored.data.astype("f8"), plain.indices, plain.indptr)), y
    )
    found = SoftmaxRegression(C=1.0).fit(stored, y)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [np.array(["a"] * 8), np.ones(8, complex)])
def test_weights_that_are_no_real_numbers_are_named(weights):
    X, y = np.ones((8, 2)), np.arange(8) % 2
    for source in (
        lambda: opened(X, y, weights),
        lambda: opened(da.from_array(X), da.from_array(y), da.from_array(weights)).load(0),
    ):
        with pytest.raises(
            DataError, match=f"sample_weight has dtype {weights.dtype}; expected real numbers"
        ):
            source()


def test_a_dask_source_is_resident_where_its_features_are_and_not_where_only_its_labels_are():
    X, y = da.ones((20, 3), chunks=(5, 3)), da.zeros(20, chunks=5, dtype=int)
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as client:
        assert opened(client.persist(X), y).resident
        half = opened(X, client.persist(y))
        assert not half.resident
        assert all(half.needs(chunk) for chunk in range(4))
        assert_array_equal(half.load(2).y, np.zeros(5))


@pytest.mark.parametrize("columns", [slice(0, 2), [0, 1, 2, 2]])
def test_dask_blocks_with_other_columns_than_dask_says_are_refused(columns):
    X = da.ones((20, 3), chunks=(5, 3)).map_blocks(lambda block: block[:, columns], dtype=float)
    with pytest.raises(
        DataError,
        match=r"X, block 1: dask said 3 columns and the block has shape \(5, [24]\).* pass it chunks=",
    ):
        opened(X, np.arange(20) % 2).load(1)
