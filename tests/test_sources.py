"""Every storage gives the rows that were stored, reads nothing before it must, and names what is broken."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import stored
import zarr
from numpy.testing import assert_array_equal

from dsoftmax.blocks import Names
from dsoftmax.errors import DataError, OptionError, ReadError
from dsoftmax.sources import is_lazy, open_source
from dsoftmax.sources.rows import cut
from dsoftmax.testing import check_source

NAMES = Names("store/X", "store/y", "store/w")


@pytest.fixture(params=["chunks as stored", "small chunks together"])
def grouping(request, monkeypatch):
    """Small chunks are read alone, or together as they are in earnest."""
    if request.param == "chunks as stored":
        monkeypatch.setattr("dsoftmax.sources.zarr_array.GROUP_BYTES", 0)
        monkeypatch.setattr("dsoftmax.sources.memory.CHUNK_BYTES", 2000)


@pytest.mark.parametrize("kind", stored.KINDS)
def test_every_storage_keeps_the_contract(kind, tmp_path, grouping):
    data = stored.KINDS[kind](tmp_path)
    source = open_source(*data, names=NAMES)
    check_source(source, data.X, data.y, data.weights)
    again = (
        pickle.loads(pickle.dumps(source, 5)).describe() if "dask" not in kind else open_source(*data, names=NAMES).describe()
    )
    assert again == source.describe()


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "<i2", ">u2", "<i4", "<i8", "<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_blocks_have_the_stored_dtype(tmp_path, dtype, zarr_format):
    X = np.arange(60).reshape(20, 3).astype(dtype)
    source = open_source(stored.array(tmp_path, "X", X, (8, 3), zarr_format=zarr_format))
    check_source(source, X)
    assert source.dtype.newbyteorder("=") == X.dtype.newbyteorder("=")


def test_arrays_in_memory_are_not_copied(rng):
    X = rng.normal(size=(100, 3))
    assert np.shares_memory(open_source(X).load(0).X, X)


def test_the_fingerprint_of_arrays_in_memory_is_of_their_content(rng):
    X, y = rng.normal(size=(100, 3)), np.arange(100) % 3
    first = open_source(X, y).describe()
    assert open_source(X.copy(), y.tolist()).describe() == first
    X[50, 1] += 1e-9
    assert open_source(X, y).describe() != first
    strings = y.astype(np.dtypes.StringDType())
    assert open_source(X, strings).describe() == open_source(X, strings.copy()).describe()


@pytest.mark.parametrize(("n", "step"), [(1, 1), (10, 3), (9, 3), (2, 5)])
def test_cut_makes_whole_steps_and_a_rest(n, step):
    assert cut(n, step).tolist() == [len(range(start, min(start + step, n))) for start in range(0, n, step)]


# --- nothing is read before it must be -----------------------------------------------------------------------------------


def chunk_files(path):
    return [
        file for file in path.rglob("*") if file.is_file() and file.name not in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    ]


@pytest.mark.parametrize("kind", [kind for kind in stored.KINDS if kind.startswith("zarr") and "dask" not in kind])
def test_opening_a_zarr_array_reads_no_chunk(kind, tmp_path):
    data = stored.KINDS[kind](tmp_path)
    files = chunk_files(tmp_path)
    assert files
    for file in files:
        file.write_bytes(b"poison")
    source = open_source(*data, names=NAMES)
    source.describe()
    source.share([0])
    with pytest.raises(ReadError, match="store/X rows 0–"):
        source.load(0)


def no_compute(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.mark.parametrize("kind", [kind for kind in stored.KINDS if "dask" in kind and "unknown" not in kind])
def test_opening_a_dask_array_computes_nothing(kind, tmp_path):
    data = stored.KINDS[kind](tmp_path)
    with dask.config.set(scheduler=no_compute):
        source = open_source(*data)
        source.describe()
        source.share([0])
    assert source.load(0).n_rows == source.chunk_rows[0]


def counted(shape, calls):
    """A dask array that notes which of its blocks are computed."""

    def block(number, rows):
        calls.append(number)
        return np.full((rows, *shape[1:]), number, float)

    parts = [da.from_delayed(dask.delayed(block)(i, 10), (10, *shape[1:]), float) for i in range(shape[0] // 10)]
    return da.concatenate(parts)


def test_a_load_computes_its_block_alone_and_once():
    calls_X, calls_y = [], []
    X, y = counted((50, 3), calls_X), counted((50,), calls_y)
    source = open_source(da.concatenate([X[:, :1], X[:, 1:]], axis=1), (y * 2).rechunk(25))
    assert (calls_X, calls_y) == ([], [])
    block = source.load(3)
    assert calls_X == [3]
    assert sorted(calls_y) == [2, 3, 4]  # the labels' own chunk of 25 rows
    assert_array_equal(block.X, np.full((10, 3), 3.0))
    assert_array_equal(block.y, np.full(10, 6.0))


def test_unknown_sizes_are_counted_in_one_pass():
    calls = []
    X = counted((50, 3), calls)
    source = open_source(X[X[:, 0] >= 0])
    assert sorted(calls) == [0, 1, 2, 3, 4]
    assert source.chunk_rows.tolist() == [10] * 5


def test_a_share_of_a_dask_array_holds_its_own_graph_alone():
    X = da.concatenate([da.from_array(np.full((100, 50), i, float), chunks=(100, 50)) for i in range(20)])
    source = open_source(X)
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
        open_source(*arrays, names=NAMES).load(0)
    message = str(error.value)
    assert f"store/{array} rows " in message
    assert f"the chunk {key} is not in" in message
    assert "--missing-chunks fill" in message
    block = open_source(*arrays, names=NAMES, missing_chunks="fill").load(0)
    lost = slice(3 * unit, 4 * unit) if array == "X" else slice(75, 100)
    expected = {"X": X.copy(), "y": y.copy(), "w": np.ones(100)}
    expected[array][lost] = 0
    assert_array_equal(block.X, expected["X"])
    assert_array_equal(block.y, expected["y"])
    assert_array_equal(block.weights, expected["w"])


@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize("missing_chunks", ["error", "fill"])
def test_a_truncated_chunk_names_its_rows_and_key_even_in_a_group_of_many(written, number, missing_chunks):
    path, arrays, _, _, zarr_format, unit = written
    file, key = chunk_file(path, "X", zarr_format, number, 0)
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(ReadError) as error:
        open_source(*arrays, names=NAMES, missing_chunks=missing_chunks).load(0)
    assert f"store/X rows {number * unit}–{(number + 1) * unit - 1} cannot be read" in str(error.value)
    assert key in str(error.value)


def test_an_uncompressed_chunk_that_is_short_or_empty_is_an_error(tmp_path):
    X = stored.array(tmp_path, "X", np.ones((20, 3)), (10, 3), compressors=None)
    for content in (b"", b"\0" * 100, b"\0" * 241):
        chunk_file(tmp_path, "X", 3, 1, 0)[0].write_bytes(content)
        with pytest.raises(ReadError, match="X rows 10–19 cannot be read"):
            open_source(X).load(0)


def test_a_lost_chunk_is_seen_through_dask_and_beside_arrays_in_memory_too(written):
    path, (X, y, w), X_values, _y_values, zarr_format, _ = written
    chunk_file(path, "y", zarr_format, 3)[0].unlink()
    for features in (X_values, da.from_array(X_values, chunks=(50, 3)), X):
        with pytest.raises(ReadError, match=r"store/y rows .*is not in"):
            load_last(open_source(features, y, w, names=NAMES))
        filled = load_last(open_source(features, y, w, names=NAMES, missing_chunks="fill"))
        assert_array_equal(filled.y[-25:], 0)


def test_any_store_is_asked_for_its_chunks():
    store = zarr.storage.MemoryStore()
    X = zarr.create_array(store, name="deep/X", data=np.ones((20, 3)), chunks=(10, 3))
    check_source(open_source(X), np.ones((20, 3)))
    del store._store_dict["deep/X/c/1/0"]
    with pytest.raises(ReadError, match="the chunk c/1/0 is not in"):
        open_source(X).load(0)


def test_missing_chunks_has_two_meanings():
    X = zarr.create_array(zarr.storage.MemoryStore(), data=np.ones((20, 3)))
    with pytest.raises(OptionError, match=r"missing_chunks='fil' is unknown. Did you mean 'fill'"):
        open_source(X, missing_chunks="fil")


def test_a_dask_block_that_fails_names_its_rows_and_keeps_our_own_errors():
    def fail(block, kind):
        if block.shape[0] and block[0, 0] == 20:
            raise kind("the disk is gone")
        return block

    X = np.repeat(np.arange(40.0)[:, None], 2, axis=1)
    for kind, raised in ((OSError, ReadError), (KeyError, ReadError), (DataError, DataError)):
        lazy = da.from_array(X, chunks=(20, 2)).map_blocks(fail, kind, dtype=float, meta=np.zeros((0, 2)))
        source = open_source(lazy, names=NAMES)
        assert_array_equal(source.load(0).X, X[:20])
        with pytest.raises(raised, match="the disk is gone") as error:
            source.load(1)
        if raised is ReadError:
            assert "store/X rows 20–39: the dask graph behind this block failed with" in str(error.value)
            assert "X.blocks[1].compute()" in str(error.value)


def test_a_dask_block_of_another_size_than_dask_said_is_refused():
    X = da.zeros((40, 2), chunks=(20, 2)).map_blocks(lambda b: b[:7], chunks=((20, 20), (2,)), meta=np.zeros((0, 2)))
    with pytest.raises(DataError, match=r"dask said 20 rows and the block has 7.*compute_chunk_sizes"):
        open_source(X).load(1)


# --- what does not fit ------------------------------------------------------------------------------------------------


def as_numpy(values, path, name):
    return values


def as_dask(values, path, name):
    return da.from_array(values, chunks=values.shape)


def as_zarr(values, path, name):
    return stored.array(path, name, values, values.shape)


@pytest.mark.parametrize("kind", [as_numpy, as_dask, as_zarr])
@pytest.mark.parametrize(
    ("X", "y", "w", "message"),
    [
        ((6,), None, None, r"store/X has 1 dimensions \(6,\); needed are two"),
        ((6, 2, 2), None, None, "store/X has 3 dimensions"),
        ((6, 2), (5,), None, "store/y has 5 rows and store/X has 6"),
        ((6, 2), (6, 1), None, r"store/y has shape \(6, 1\); needed is one value a row, \(6,\)"),
        ((6, 2), (6,), (7,), "store/w has 7 rows and store/X has 6"),
        ((6, 2), (6,), (6, 6), "store/w has shape"),
    ],
)
def test_shapes_that_do_not_fit_are_named(kind, tmp_path, X, y, w, message):
    arrays = [None if shape is None else kind(np.ones(shape), tmp_path, name) for name, shape in (("X", X), ("y", y), ("w", w))]
    with pytest.raises(DataError, match=message):
        open_source(*arrays, names=NAMES)


@pytest.mark.parametrize("kind", [as_numpy, as_dask])
@pytest.mark.parametrize(("shape", "message"), [((0, 3), "store/X has 0 rows"), ((3, 0), r"store/X has 0 feature\(s\)")])
def test_nothing_is_not_data(kind, tmp_path, shape, message):
    with pytest.raises(DataError, match=message):
        open_source(kind(np.ones(shape), tmp_path, "X"), names=NAMES)


@pytest.mark.parametrize("kind", [as_numpy, as_dask, as_zarr])
@pytest.mark.parametrize(("dtype", "message"), [("c16", "Complex data not supported"), ("M8[s]", "needed are real numbers")])
def test_values_that_are_no_real_numbers_are_refused(kind, tmp_path, dtype, message):
    with pytest.raises(DataError, match=message):
        open_source(kind(np.zeros((4, 2), dtype), tmp_path, "X"), names=NAMES)


def test_words_are_no_numbers():
    with pytest.raises(DataError, match="store/X has dtype <U1; needed are real numbers"):
        open_source(np.array([["a", "b"]]), names=NAMES)
