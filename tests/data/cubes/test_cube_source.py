"""Cubes keep the contract of a source, in every order of dimensions and with chunks of any cut."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from cubes import BANDS, group_of, opened_column, opened_cube, put, scene, tile_order

import dsoftmax.data.zarr.windows as windows
from dsoftmax.data.cubes.tiling import tiling_of
from dsoftmax.data.missing import Missing
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Names, Table
from dsoftmax.errors import DataError, OptionError, ReadError
from dsoftmax.testing.sources import check_source

NAMES = Names("X", "y", "w", "g")
CHUNKS = {"band": 2, "y": 8, "x": 10}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr("dsoftmax.data.cubes.tiling.GROUP_BYTES", 0)


def write(path, order=("band", "y", "x"), zarr_format=3, label_chunks=(6, 31), **options):
    X, classes, weights = scene()
    group = group_of(path, zarr_format)
    turned = X.transpose([("band", "y", "x").index(d) for d in order])
    put(group, "reflectance", turned, order, tuple(CHUNKS[d] for d in order), **options)
    put(group, "landcover", classes, ("y", "x"), label_chunks)
    put(group, "weight", weights.T.copy(), ("x", "y"), (10, 8))
    return group, X, classes, weights


def source_of(group, names=("reflectance",), dims=("band",), **options):
    cube = opened_cube(group, names, dims)
    columns = (opened_column(group, name) for name in ("landcover", "weight"))
    return open_source(Table(cube, *columns, names=NAMES, **options))


def expected(source, X, classes, weights):
    rows = tile_order(source.table.X.tiling, ("y", "x"))
    return X.reshape(len(X), -1).T[rows], classes.reshape(-1)[rows], weights.reshape(-1)[rows]


@pytest.mark.parametrize("order", [*itertools.permutations(("band", "y", "x"))])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_any_order_of_dimensions(order, zarr_format, tmp_path):
    group, *data = write(tmp_path / "cube", order, zarr_format)
    source = source_of(group)
    check_source(source, *expected(source, *data))
    again = pickle.loads(pickle.dumps(source, 5))
    assert again.describe() == source.describe()


@pytest.mark.parametrize("shards", [None, (1, 12, 31)])
def test_labels_may_have_dimensions_of_one_entry_that_the_rows_lack(shards, tmp_path):
    group, X, classes, weights = write(tmp_path / "cube")
    put(group, "labels", classes[None], ("band", "y", "x"), (1, 6, 31), shards=shards)
    wide = np.ascontiguousarray(weights[:, :, None, None])
    put(group, "wide", wide, ("y", "x", "time", "step"), (8, 10, 1, 1))
    columns = (opened_column(group, name) for name in ("labels", "wide"))
    cube = opened_cube(group, ["reflectance"], ["band"])
    source = open_source(Table(cube, *columns, names=NAMES))
    check_source(source, *expected(source, X, classes, weights))
    two = np.stack([classes, classes])
    put(group, "two", two, ("time", "y", "x"), (1, 6, 31))
    with pytest.raises(DataError, match="y has the dimension time"):
        open_source(Table(cube, opened_column(group, "two")))


@pytest.mark.parametrize(
    "options",
    [{"shards": (4, 16, 20)}, {"compressors": None}, {"dtype": "f8"}],
    ids=["shards", "uncompressed", "f8"],
)
def test_any_storage(options, tmp_path):
    options.pop("dtype", None)
    group, *data = write(tmp_path / "cube", **options)
    source = source_of(group)
    check_source(source, *expected(source, *data))


def test_variables_are_features(tmp_path):
    X, classes, weights = scene()
    group = group_of(tmp_path / "cube")
    for i, (name, chunks) in enumerate(zip(BANDS, [(8, 10), (4, 31), (23, 5)], strict=True)):
        put(group, name, X[i] if i else X[i].astype("f8"), ("y", "x"), chunks)
    put(group, "landcover", classes, ("y", "x"), (6, 31))
    put(group, "weight", weights, ("y", "x"), (23, 31))
    source = source_of(group, BANDS, ())
    found = expected(source, X.astype("f8"), classes, weights)
    check_source(source, *found)
    assert source.table.X.dtype == np.float64


def test_time_as_features_or_as_rows(tmp_path):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4, 3, 12, 14)).astype("f4")  # time, band, y, x
    group = group_of(tmp_path / "cube", shape=(12, 14))
    put(group, "X", X, ("time", "band", "y", "x"), (1, 3, 8, 8))
    put(group, "height", X[0, 0], ("y", "x"), (12, 14))
    put(group, "landcover", rng.integers(0, 3, (12, 14)), ("y", "x"), (12, 14))
    put(group, "weight", np.ones((4, 12, 14)), ("time", "y", "x"), (4, 12, 14))

    source = source_of(group, ("X", "height"), ("band",))  # labels and heights are broadcast
    order = tile_order(source.table.X.tiling, ("time", "y", "x"))
    rows = X.transpose(0, 2, 3, 1).reshape(-1, 3)[order]
    heights = np.broadcast_to(X[0, 0], (4, 12, 14)).reshape(-1)[order]
    labels = np.broadcast_to(group["landcover"][...], (4, 12, 14)).reshape(-1)[order]
    check_source(source, np.column_stack([rows, heights]), labels, np.ones(len(rows)))

    cube = opened_cube(group, ("X",), ("band", "time"))
    source = open_source(Table(cube, opened_column(group, "landcover"), names=NAMES))
    order = tile_order(source.table.X.tiling, ("y", "x"))
    rows = X.transpose(2, 3, 1, 0).reshape(-1, 12)[order]  # all times of a band, then of the next
    check_source(source, rows, group["landcover"][...].reshape(-1)[order])
    assert cube.names[:5] == ["0_0", "0_1", "0_2", "0_3", "1_0"]


@pytest.mark.parametrize("part_bytes", [2**20, 0], ids=["aligned tiles", "tiles of X alone"])
def test_each_chunk_is_decoded_once_in_a_pass(part_bytes, tmp_path, monkeypatch):
    """Tiles are whole chunks of all arrays. Chunks of labels that tiles cut stay in memory."""
    monkeypatch.setattr("dsoftmax.data.cubes.tiling.PART_BYTES", part_bytes)
    group, *_ = write(tmp_path / "cube", label_chunks=(12, 31))
    seen = Counter()
    decode = windows.ZarrWindows._chunk

    def counted(self, place, memory):
        seen[self.name, place] += 1
        return decode(self, place, memory)

    monkeypatch.setattr(windows.ZarrWindows, "_chunk", counted)
    source = source_of(group)
    assert (source.columns.units > 0) == (part_bytes == 0)
    for chunk in range(len(source.chunk_rows)):
        source.load(chunk)
    assert set(seen.values()) == {1}
    assert {name for name, _ in seen} == {"reflectance", "landcover", "weight"}


def test_tiles_follow_the_chunks():
    sizes, same = {"y": 100, "x": 100}, {"y": 16, "x": 16}
    assert tiling_of(sizes, 4, [same], []).steps == (16, 16)
    assert tiling_of(sizes, 4, [same, {"y": 24, "x": 16}], []).steps == (48, 16)
    assert tiling_of(sizes, 4, [same], [{"y": 32, "x": 100}]).steps == (32, 100)
    assert tiling_of(sizes, 2**20, [same], [{"y": 32, "x": 100}]).steps == (16, 16)
    assert tiling_of(sizes, 2**20, [same, {"y": 24, "x": 10}], []).steps == (24, 16)
    assert tiling_of({"y": 100}, 4, [{"y": 1}], []).tile_rows.tolist() == [1] * 100


def test_small_chunks_are_joined(monkeypatch):
    monkeypatch.setattr("dsoftmax.data.cubes.tiling.GROUP_BYTES", 16 * 16 * 4 * 9)
    found = tiling_of({"y": 100, "x": 100}, 4, [{"y": 16, "x": 16}], [])
    assert found.steps == (16, 100)
    assert found.pixel(16 * 100 + 5) == {"y": 16, "x": 5}


def test_fill_values_of_each_variable_skip_their_own_rows(tmp_path):
    """0 is missing in one band and a value in the other; absent chunks hold the fill value."""
    group = group_of(tmp_path / "cube", shape=(8, 6))
    one, two = np.arange(48, dtype="u1").reshape(8, 6), np.full((8, 6), 7, "u2")
    one[4:] = 0
    two[0, 2] = 0
    missing = {"attributes": {"_FillValue": 0}, "fill_value": 0}
    made = put(group, "A", one, ("y", "x"), (4, 6), **missing)
    put(group, "B", two, ("y", "x"), (8, 6))
    put(group, "landcover", one, ("y", "x"), (8, 6))
    put(group, "weight", np.ones((8, 6)), ("y", "x"), (8, 6))
    (tmp_path / "cube/A/c/1/0").unlink()
    source = source_of(group, ("A", "B"), ())
    reasons = np.concatenate([source.load(i).reasons for i in range(len(source.chunk_rows))])
    order = tile_order(source.table.X.tiling, ("y", "x"))
    assert np.array_equal(reasons > 0, (one.reshape(-1) == 0)[order])
    assert made[5, 0] == 0


def test_a_lost_chunk_is_an_error(tmp_path):
    group, *_ = write(tmp_path / "cube")
    (tmp_path / "cube/reflectance/c/0/1/2").unlink()
    source = source_of(group)
    with pytest.raises(ReadError, match=r"the chunk c/0/1/2 is not in .*missing_chunks='fill'"):
        [source.load(i) for i in range(len(source.chunk_rows))]
    filled = source_of(group, missing_chunks="fill")
    assert sum(filled.load(i).n_rows for i in range(len(filled.chunk_rows))) == 23 * 31


def test_absent_chunks_of_unlabelled_pixels_are_no_loss(tmp_path):
    """Sparse training labels: most chunks hold 0 only, and writers leave them out."""
    group, *_ = write(tmp_path / "cube", label_chunks=(8, 10))
    for place in ("0/0", "1/2"):
        (tmp_path / f"cube/landcover/c/{place}").unlink()
    with pytest.raises(ReadError, match="landcover: the chunk"):
        source_of(group).load(0)
    source = source_of(group, missing=Missing(y=(0,)))
    blocks = [source.load(i) for i in range(len(source.chunk_rows))]
    skipped = sum(0 if one.reasons is None else (one.reasons == 2).sum() for one in blocks)
    assert skipped == 2 * 8 * 10
    assert source.describe()["arrays"]["y"]["variables"][0]["absent"] == 2


def test_a_damaged_chunk_is_named(tmp_path):
    group, *_ = write(tmp_path / "cube")
    (tmp_path / "cube/reflectance/c/0/1/2").write_bytes(b"damaged")
    source = source_of(group)
    with pytest.raises(ReadError, match="reflectance: the stored chunk c/0/1/2 cannot be read"):
        [source.load(i) for i in range(len(source.chunk_rows))]


def other_grid(group):
    put(group, "moved", group["landcover"][...], ("y", "x"), (23, 31))
    del group["x"]
    put(group, "x", 505.0 + 10 * np.arange(31), ("x",), (31,))


def test_mistakes(tmp_path):
    group, *_ = write(tmp_path / "cube")
    put(group, "small", np.ones((23, 30)), ("y", "x"), (23, 30))
    put(group, "deep", np.ones((2, 23, 31)), ("time", "y", "x"), (2, 23, 31))
    put(group, "point", np.asarray(3), (), ())
    cube = opened_cube(group, ("reflectance",), ("band",))

    def labels(name):
        return open_source(Table(cube, opened_column(group, name), names=NAMES))

    with pytest.raises(OptionError, match=r"no such dimension\. Did you mean band\?.*band, y, x"):
        opened_cube(group, ("reflectance",), ("bands",))
    with pytest.raises(OptionError, match="which of them holds the features"):
        opened_cube(group, ("reflectance",))
    with pytest.raises(DataError, match="named twice"):
        opened_cube(group, ("landcover", "landcover"))
    with pytest.raises(DataError, match="all of them hold features"):
        opened_cube(group, ("landcover",), ("y", "x"))
    with pytest.raises(DataError, match="y has 30 entries along x, and X has 31"):
        labels("small")
    with pytest.raises(DataError, match="y has the dimension time"):
        labels("deep")
    with pytest.raises(DataError, match="one value without dimensions"):
        labels("point")
    with pytest.raises(DataError, match="no dimension names, and X is a cube"):
        open_source(Table(cube, np.ones(23 * 31), names=NAMES))
    whole = opened_cube(group, ("landcover",), ())
    missing = Missing(X=(0.5,))
    with pytest.raises(OptionError, match=r"nodata=0\.5 is no value of X, which has dtype uint8"):
        open_source(Table(whole, opened_column(group, "landcover"), names=NAMES, missing=missing))


def test_labels_on_another_grid(tmp_path):
    group, *_ = write(tmp_path / "cube")
    other, *_ = write(tmp_path / "other")
    other_grid(other)
    cube = opened_cube(group, ("reflectance",), ("band",))
    with pytest.raises(DataError, match=r"differs from X in the coordinate x: entry 0 is 505\.0"):
        open_source(Table(cube, opened_column(other, "moved"), names=NAMES))
