"""Chunks that are lost or damaged are errors with array, rows and cure."""

import dask.array as da
import numpy as np
import pytest
import stored
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.table import Names
from dsoftmax.errors import ReadError

NAMES = Names("store/X", "store/y", "store/w", "store/g")


@pytest.fixture(params=[(3, None), (3, (20, 3)), (2, None)], ids=["v3", "v3 sharded", "v2"])
def written(request, tmp_path, monkeypatch):
    """100 rows of X in ten chunks or five shards; y and weights in chunks of 25."""
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
def test_a_lost_chunk_is_an_error_or_the_fill_value(written, array):
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
def test_a_lost_chunk_of_groups_is_an_error_or_the_fill_value(convert, tmp_path):
    X = convert(stored.array(tmp_path, "X", np.ones((100, 3)), (10, 3)))
    groups = stored.array(tmp_path, "g", np.arange(100) // 5 + 1, (25,))
    chunk_file(tmp_path, "g", 3, 3)[0].unlink()
    with pytest.raises(ReadError, match=r"store/g rows .*the chunk c/3 is not in"):
        load_last(opened(X, groups=groups, names=NAMES))
    filled = load_last(opened(X, groups=groups, names=NAMES, missing_chunks="fill"))
    assert filled.groups[-26:].tolist() == [15] + [0] * 25


@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize("missing_chunks", ["error", "fill"])
def test_a_truncated_chunk_is_named_even_if_many_are_read_together(written, number, missing_chunks):
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


def test_a_lost_chunk_is_reported_behind_dask_and_beside_arrays_in_memory(written):
    path, (X, y, w), X_values, _y_values, zarr_format, _ = written
    chunk_file(path, "y", zarr_format, 3)[0].unlink()
    for features in (X_values, da.from_array(X_values, chunks=(50, 3)), X):
        with pytest.raises(ReadError, match=r"store/y rows .*is not in"):
            load_last(opened(features, y, w, names=NAMES))
        filled = load_last(opened(features, y, w, names=NAMES, missing_chunks="fill"))
        assert_array_equal(filled.y[-25:], 0)


@pytest.mark.parametrize("shards", [None, (20, 3)])
def test_chunks_that_zarr_leaves_out_are_an_error_or_the_fill_value(shards, tmp_path):
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
