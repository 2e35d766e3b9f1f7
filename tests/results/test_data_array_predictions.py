"""Predictions of cubes of xarray: lazy, on the same grid, with flags and the grid mapping."""

import logging

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from cubes import BANDS, scene

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import DataError, OptionError


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("dsoftmax").setLevel(logging.ERROR)
    yield
    logging.getLogger("dsoftmax").setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def ds():
    X, classes, _ = scene()
    X = X.copy()
    X[1, 3, 4:9] = np.nan
    coords = {"y": 4000.0 - 10 * np.arange(23), "x": 500.0 + 10 * np.arange(31)}
    found = xr.Dataset(
        {"reflectance": (("band", "y", "x"), X), "landcover": (("y", "x"), classes)},
        coords={**coords, "band": list(BANDS), "spatial_ref": 0},
    )
    found["spatial_ref"].attrs["crs_wkt"] = "a CRS"
    found["landcover"].attrs = {
        "flag_values": [1, 2, 3],
        "flag_meanings": "water forest urban_area",
        "flag_colors": "#0000ff #00ff00 #ff0000",
    }
    return found


@pytest.fixture(scope="module")
def model(ds):
    logging.getLogger("dsoftmax").setLevel(logging.ERROR)
    return SoftmaxRegression(feature_dim="band", nodata=np.nan).fit(
        ds["reflectance"], ds["landcover"]
    )


def expected(model, ds):
    """Classes by the formula, 255 where a band is NaN."""
    X = ds["reflectance"].transpose("y", "x", "band").values
    logits = X @ model.coef_.T + model.intercept_
    found = model.classes_[np.nan_to_num(logits).argmax(-1)]
    return np.where(np.isnan(X).any(-1), 255, found), logits


@pytest.mark.parametrize("order", [("band", "y", "x"), ("x", "band", "y")])
def test_classes_are_lazy_and_keep_the_grid(model, ds, order):
    cube = ds["reflectance"].transpose(*order).chunk({"band": 2, "y": 8, "x": 10})
    found = model.predict(cube)
    assert isinstance(found.data, da.Array)
    assert found.dims == tuple(d for d in order if d != "band")
    assert dict(found.chunksizes) == {d: cube.chunksizes[d] for d in found.dims}
    assert found.dtype == np.uint8
    assert found.encoding == {"_FillValue": 255, "grid_mapping": "spatial_ref"}
    assert found.attrs["flag_values"] == [1, 2, 3]
    assert found.attrs["flag_meanings"] == "water forest urban_area"
    assert found.attrs["flag_colors"] == "#0000ff #00ff00 #ff0000"
    assert found["spatial_ref"].attrs == {"crs_wkt": "a CRS"}
    xr.testing.assert_equal(found["x"], ds["x"])
    assert np.array_equal(found.transpose("y", "x").values, expected(model, ds)[0])


def test_arrays_in_memory_and_in_files(model, ds, tmp_path):
    classes, _ = expected(model, ds)
    now = model.predict(ds["reflectance"])
    assert isinstance(now.data, np.ndarray)
    assert np.array_equal(now.values, classes)
    ds[["reflectance"]].to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as file:
        later = model.predict(file["reflectance"])
        assert isinstance(later.data, da.Array)
        assert np.array_equal(later.values, classes)


def test_probabilities_and_decisions(model, ds):
    classes, logits = expected(model, ds)
    P = model.predict_proba(ds["reflectance"].chunk({"y": 8}))
    assert P.dims == ("class", "y", "x")
    assert P["class"].values.tolist() == [1, 2, 3]
    own = np.exp(logits - logits.max(-1, keepdims=True))
    own /= own.sum(-1, keepdims=True)
    np.testing.assert_allclose(P.transpose("y", "x", "class").values, own, atol=1e-6)
    assert np.array_equal(np.isnan(P.values).all(0), classes == 255)
    z = model.decision_function(ds["reflectance"])
    np.testing.assert_allclose(z.sel({"class": 2}).values, logits[..., 1], rtol=1e-5, atol=1e-5)


def test_the_stored_model_knows_the_feature_dimension_and_the_names(model, ds):
    one = model.model_.predict(ds["reflectance"])
    xr.testing.assert_identical(one, model.predict(ds["reflectance"]))
    bands = ds["reflectance"].to_dataset("band")[["B04", "B03", "B02"]]
    assert np.array_equal(model.model_.predict(bands).values, one.values)
    with pytest.raises(DataError, match=r"lacks 1 of the 3 features of the model: B04"):
        model.model_.predict(bands[["B02", "B03"]])


def test_packed_variables_of_different_fill_values(ds, tmp_path):
    bands = ds["reflectance"].to_dataset("band").assign(landcover=ds["landcover"])
    packing = {"B02": 65535, "B03": 0, "B04": 7}
    encoding = {
        name: {"dtype": "uint16", "scale_factor": 1e-3, "add_offset": -9.0, "_FillValue": fill}
        for name, fill in packing.items()
    }
    bands.drop_vars("spatial_ref").to_zarr(tmp_path / "a.zarr", encoding=encoding, zarr_format=2)
    packed = xr.open_zarr(tmp_path / "a.zarr", mask_and_scale=False)
    decoded = xr.open_zarr(tmp_path / "a.zarr")
    model = SoftmaxRegression(tol=1e-8).fit(packed[list(BANDS)], packed["landcover"])
    one = model.predict(packed[list(BANDS)])
    assert one.dtype == np.uint8
    assert np.array_equal(one.values, model.predict(decoded[list(BANDS)]).values)
    assert (one.values == 255).sum() == 5


def test_classes_that_are_words_get_codes(ds):
    words = np.array(["no", "forest", "urban area", "water"], object)[ds["landcover"].values]
    y = ds["landcover"].copy(data=words)
    y.attrs = {}
    model = SoftmaxRegression(feature_dim="band", nodata=np.nan).fit(ds["reflectance"], y)
    found = model.predict(ds["reflectance"])
    assert model.classes_.tolist() == ["forest", "urban area", "water"]
    assert found.attrs["flag_values"] == [0, 1, 2]
    assert found.attrs["flag_meanings"] == "forest urban_area water"
    assert set(np.unique(found.values)) <= {0, 1, 2, 255}
    assert model.predict_proba(ds["reflectance"])["class"].values.tolist() == list(model.classes_)
    marked = model.predict(ds["reflectance"], nodata=9)
    assert marked.encoding["_FillValue"] == 9
    with pytest.raises(OptionError, match="expected a number that is no class"):
        model.predict(ds["reflectance"], nodata=1)


def test_nan_is_an_error_unless_it_means_no_data(ds):
    whole = ds["reflectance"].fillna(0)
    model = SoftmaxRegression(feature_dim="band").fit(whole, ds["landcover"])
    with pytest.raises(DataError, match="nan"):
        model.predict(ds["reflectance"]).values  # noqa: B018
    found = model.predict(ds["reflectance"], nodata=0)
    assert (found.values == 0).sum() == 5


def test_a_written_map_is_read_again(model, ds, tmp_path):
    model.predict(ds["reflectance"]).to_dataset().to_zarr(tmp_path / "map.zarr", zarr_format=2)
    raw = xr.open_zarr(tmp_path / "map.zarr", mask_and_scale=False, decode_coords="all")
    assert raw["labels"].attrs["_FillValue"] == 255
    assert "spatial_ref" in raw.coords
    assert raw["labels"].dtype == np.uint8
