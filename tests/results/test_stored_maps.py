"""Maps on disk: readable by xarray, resumable, with names of classes and coordinates."""

import logging
import sys

import numpy as np
import pytest
import xarray as xr
import zarr
from cubes import group_of, opened_cube, put, scene

from dsoftmax.data.cubes.tiling import Tiling
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError, OptionError, OutputExistsError
from dsoftmax.results.legend import hues, legend_of, rgb
from dsoftmax.results.map_files import MapFile, require_drawable, thinned, write_geotiff, write_png
from dsoftmax.results.model import Model
from dsoftmax.results.stored_map import MapOptions, draft_of, write_map

FLAGS = {"class_names": {"1": "water", "2": "dry land"}, "class_colors": {"1": "#0000ff"}}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr("dsoftmax.data.cubes.tiling.GROUP_BYTES", 0)
    logging.getLogger("dsoftmax").setLevel(logging.ERROR)
    yield
    logging.getLogger("dsoftmax").setLevel(logging.NOTSET)


def cube(path, order=("band", "y", "x"), zarr_format=3):
    X, *_ = scene()
    X[0, 2, 3] = -9
    group = group_of(path / "cube", zarr_format)
    put(group, "spatial_ref", np.asarray(0), (), (), attributes={"crs_wkt": utm()})
    turned = X.transpose([("band", "y", "x").index(d) for d in order])
    chunks = tuple({"band": 2, "y": 8, "x": 10}[d] for d in order)
    missing = {"_FillValue": -9.0, "grid_mapping": "spatial_ref"}
    put(group, "X", turned, order, chunks, attributes=missing)
    return open_source(Table(opened_cube(group, ("X",), ("band",)))), X


def utm():
    from rasterio.crs import CRS

    return CRS.from_epsg(32618).to_wkt()


def model(classes=(1, 2, 5), about=FLAGS):
    theta = np.random.default_rng(3).normal(size=(3, 4))
    return Model(theta - theta.mean(axis=0), np.array(classes), dict(about))


def logits(model, X):
    return np.tensordot(model.theta[:, :-1], X, (1, 0)) + model.theta[:, -1, None, None]


def expected(model, X):
    found = model.classes[logits(model, X).argmax(0)].astype("u1")
    found[2, 3] = 255
    return found


def write(path, source, made, name="map.zarr", **options):
    legend = legend_of(made.classes, made.about)
    return write_map(made, source, path / name, legend, **options)


@pytest.mark.parametrize("order", [("band", "y", "x"), ("x", "band", "y")])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_map_that_xarray_opens(order, zarr_format, tmp_path):
    (source, X), made = cube(tmp_path, order, zarr_format), model()
    counts = write(tmp_path, source, made, options=MapOptions("uint8"))
    assert counts.tolist() == [1, 0, 0, 0]
    found = xr.open_zarr(tmp_path / "map.zarr", mask_and_scale=False, decode_coords="all",
                         consolidated=True)  # fmt: skip
    labels = found["labels"]
    assert labels.dims == tuple(d for d in order if d != "band")
    assert np.array_equal(labels.transpose("y", "x").values, expected(made, X))
    assert labels.attrs["flag_values"] == [1, 2, 5]
    assert labels.attrs["flag_meanings"] == "water dry_land 5"
    assert labels.attrs["flag_colors"].split()[0] == "#0000ff"
    assert labels.attrs["_FillValue"] == 255
    assert labels.encoding["grid_mapping"] == "spatial_ref"
    assert found["spatial_ref"].attrs["crs_wkt"] == utm()
    assert found["y"].values.tolist() == [4000.0 - 10 * i for i in range(23)]
    assert found.attrs["classes"] == [1, 2, 5]
    P = xr.open_zarr(tmp_path / "map.zarr")["probabilities"]
    assert P.dims[0] == "class"
    assert P["class"].values.tolist() == [1, 2, 5]
    z = logits(made, X)
    own = np.exp(z) / np.exp(z).sum(0)
    got = P.transpose("class", "y", "x").values
    assert np.isnan(got[:, 2, 3]).all()
    got[:, 2, 3] = own[:, 2, 3]
    np.testing.assert_allclose(got, own, atol=0.51 / 254)
    assert not draft_of(tmp_path / "map.zarr").exists()


def test_probabilities_as_floats_and_names_of_classes(tmp_path):
    (source, X), made = cube(tmp_path), model(("a b", "c", "d"), {})
    write(tmp_path, source, made, options=MapOptions("float32"))
    found = xr.open_zarr(tmp_path / "map.zarr", mask_and_scale=False)
    z = logits(made, X)
    own = np.exp(z) / np.exp(z).sum(0)
    own[:, 2, 3] = np.nan
    np.testing.assert_allclose(found["probabilities"].values, own, atol=1e-6)
    assert [str(one) for one in found["class"].values] == ["a b", "c", "d"]
    assert found["labels"].attrs["flag_meanings"] == "a_b c d"
    assert found["labels"].attrs["flag_values"] == [0, 1, 2]


class StopError(Exception):
    pass


def interrupted(after):
    """A watcher that stops a prediction after some tiles."""
    seen = []

    def watch(n):
        seen.append(n)
        if len(seen) == after:
            raise StopError

    return watch


def test_an_interrupted_map_is_continued(tmp_path, monkeypatch):
    (source, X), made = cube(tmp_path), model()
    with pytest.raises(StopError):
        write(tmp_path, source, made, watch=interrupted(5), engine=ThreadsEngine(1))
    assert not (tmp_path / "map.zarr").exists()
    assert draft_of(tmp_path / "map.zarr").is_dir()
    loads, load = [], type(source).load

    def counted(self, chunk, buffer=None):
        loads.append(chunk)
        return load(self, chunk, buffer)

    monkeypatch.setattr(type(source), "load", counted)
    rows = []
    counts = write(tmp_path, source, made, watch=rows.append)
    assert sum(rows) == 23 * 31
    assert len(loads) == len(source.chunk_rows) - 5
    assert counts.tolist() == [1, 0, 0, 0]
    found = xr.open_zarr(tmp_path / "map.zarr", mask_and_scale=False)["labels"].values
    assert np.array_equal(found, expected(made, X))


def test_a_draft_of_another_model_is_replaced(tmp_path):
    (source, X), made = cube(tmp_path), model()
    with pytest.raises(StopError):
        write(tmp_path, source, made, watch=interrupted(5), engine=ThreadsEngine(1))
    other = Model(made.theta[::-1].copy(), made.classes)
    write(tmp_path, source, other)
    found = xr.open_zarr(tmp_path / "map.zarr", mask_and_scale=False)["labels"].values
    assert np.array_equal(found, expected(other, X))


def test_a_line_that_a_kill_has_cut_off_does_not_count(tmp_path):
    (source, X), made = cube(tmp_path), model()
    with pytest.raises(StopError):
        write(tmp_path, source, made, watch=interrupted(5), engine=ThreadsEngine(1))
    with (draft_of(tmp_path / "map.zarr") / ".tiles").open("a") as file:
        file.write("7 0 0")
    write(tmp_path, source, made)
    found = xr.open_zarr(tmp_path / "map.zarr", mask_and_scale=False)["labels"].values
    assert np.array_equal(found, expected(made, X))


def test_an_existing_map_is_kept_unless_told(tmp_path):
    (source, _), made = cube(tmp_path), model()
    write(tmp_path, source, made)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        write(tmp_path, source, made)
    write(tmp_path, source, made, overwrite=True)


def test_the_picture_has_the_colours_of_the_legend(tmp_path):
    from matplotlib.image import imread

    (source, X), made = cube(tmp_path, ("x", "band", "y")), model()
    write(tmp_path, source, made)
    file = MapFile(tmp_path / "map.zarr", legend_of(made.classes, made.about))
    assert np.array_equal(thinned(file), expected(made, X))
    assert np.array_equal(thinned(file, 11), expected(made, X)[::3, ::3])
    write_png(file, tmp_path / "map.png")
    pixels = (imread(tmp_path / "map.png")[..., :3] * 255).round().astype(int).reshape(-1, 3)
    share = {
        tuple(color): (pixels == color).all(1).mean() for color in map(rgb, file.legend.colors)
    }
    assert min(share.values()) > 0


def test_north_is_up_in_pictures(tmp_path):
    X, *_ = scene()
    group = group_of(tmp_path / "cube")
    group["y"][:] = 10.0 * np.arange(23)  # from south to north
    put(group, "X", X, ("band", "y", "x"), (2, 8, 10))
    source, made = open_source(Table(opened_cube(group, ("X",), ("band",)))), model()
    write(tmp_path, source, made)
    file = MapFile(tmp_path / "map.zarr", legend_of(made.classes, made.about))
    assert np.array_equal(thinned(file), made.classes[logits(made, X).argmax(0)][::-1])


def test_a_geotiff_with_colours(tmp_path):
    import rasterio

    (source, X), made = cube(tmp_path), model()
    write(tmp_path, source, made)
    file = MapFile(tmp_path / "map.zarr", legend_of(made.classes, made.about))
    write_geotiff(file, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as found:
        assert np.array_equal(found.read(1), expected(made, X))
        assert found.crs.to_epsg() == 32618
        assert found.transform == rasterio.Affine(10, 0, 495, 0, -10, 4005)
        assert found.nodata == 255
        assert found.colormap(1)[1] == (0, 0, 255, 255)
        assert found.profile["tiled"]
        assert found.tags(1)["flag_meanings"] == "water dry_land 5"
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_a_place_that_gdal_does_not_know(tmp_path):
    (source, _), made = cube(tmp_path), model()
    zarr.open_group(tmp_path / "cube")["spatial_ref"].attrs["crs_wkt"] = "LOCAL[]"
    write(tmp_path, source, made)
    file = MapFile(tmp_path / "map.zarr", legend_of(made.classes, made.about))
    with pytest.raises(DataError, match="The map itself is complete"):
        write_geotiff(file, tmp_path / "map.tif")
    assert [one.name for one in tmp_path.glob("*.tif")] == []


def test_maps_that_cannot_be_drawn(monkeypatch):
    byte, wide = legend_of(np.array([1, 2])), legend_of(np.array([1, 300]))
    plane = Tiling(("y", "x"), (8, 8), (8, 8))
    with pytest.raises(OptionError, match=r"dimensions time, y, x; expected two"):
        require_drawable(Tiling(("time", "y", "x"), (2, 8, 8), (1, 8, 8)), byte, geotiff=False)
    with pytest.raises(OptionError, match="from 0 to 254"):
        require_drawable(plane, wide, geotiff=True)
    for name, geotiff, extra in (
        ("matplotlib.figure", False, "maps"),
        ("rasterio", True, "geotiff"),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(OptionError, match=rf"pip install 'dsoftmax\[{extra}\]'"):
            require_drawable(plane, byte, geotiff=geotiff)


@pytest.mark.parametrize(
    ("classes", "codes", "dtype", "fill"),
    [
        ([0, 3], [0, 3], "u1", 255),
        ([-1, 3], [-1, 3], "i8", None),
        ([1, 300], [1, 300], "i8", -1),
        ([False, True], [0, 1], "u1", 255),
        (["a", "b"], [0, 1], "u1", 255),
    ],
)
def test_codes_are_bytes_if_they_can_be(classes, codes, dtype, fill):
    legend = legend_of(np.array(classes))
    assert legend.codes.tolist() == codes
    assert (legend.dtype, legend.fill) == (np.dtype(dtype), fill)


def test_colours_differ():
    assert len(set(hues(60))) == 60
