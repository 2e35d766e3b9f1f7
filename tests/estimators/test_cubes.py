"""Cubes of xarray: any order of dimensions, any backend, packed or not, equal scikit-learn."""

import logging
import pickle

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from cubes import BANDS, scene
from distributed import Client
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.data.cubes.xarrays import Lazily
from dsoftmax.errors import DataError, OptionError, ReadError

PACKED = {
    "B02": {"dtype": "uint16", "scale_factor": 1e-3, "add_offset": -10.0, "_FillValue": 65535},
    "B03": {"dtype": "int16", "scale_factor": 2e-3, "add_offset": 4.0, "_FillValue": -9999},
    "B04": {"dtype": "uint16", "scale_factor": 5e-4, "add_offset": -9.0, "_FillValue": 0},
}


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("dsoftmax").setLevel(logging.ERROR)
    yield
    logging.getLogger("dsoftmax").setLevel(logging.NOTSET)


def dataset():
    X, classes, weights = scene()
    coords = {"y": 4000.0 - 10 * np.arange(23), "x": 500.0 + 10 * np.arange(31)}
    return xr.Dataset(
        {
            "reflectance": (("band", "y", "x"), X),
            "landcover": (("y", "x"), classes),
            "weight": (("y", "x"), weights),
        },
        coords={**coords, "band": list(BANDS)},
    )


def rows(ds):
    X = ds["reflectance"].values.reshape(3, -1).T
    return X, ds["landcover"].values.reshape(-1), ds["weight"].values.reshape(-1)


def as_bands(ds):
    bands = {name: ds["reflectance"].sel(band=name, drop=True) for name in BANDS}
    return xr.Dataset(bands).assign(landcover=ds["landcover"])


def theirs(X, y, weights=None, C=1.0):
    """F of scikit-learn's optimum, and its coefficients."""
    X = X.astype(np.float64)
    fitted = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10).fit(X, y, weights)
    s = np.ones(len(y)) if weights is None else weights
    own = fitted.predict_log_proba(X)[np.arange(len(y)), np.searchsorted(fitted.classes_, y)]
    F = -(s @ own) / s.sum() + (fitted.coef_**2).sum() / (2 * C * s.sum())
    return F, fitted.coef_


BACKENDS = {
    "memory": lambda ds, path: ds,
    "dask": lambda ds, path: ds.chunk({"band": 2, "y": 8, "x": 10}),
    "zarr": lambda ds, path: _stored(ds, path),
    "zarr without dask": lambda ds, path: _stored(ds, path, chunks=None),
    "netcdf": lambda ds, path: _netcdf(ds, path),
}


def _stored(ds, path, **options):
    ds.chunk({"band": 2, "y": 8, "x": 10}).to_zarr(path / "a.zarr", zarr_format=2)
    return xr.open_zarr(path / "a.zarr", **options)


def _netcdf(ds, path):
    ds.to_netcdf(path / "a.nc", engine="h5netcdf")
    return xr.open_dataset(path / "a.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("backend", "order"),
    [(backend, ("band", "y", "x")) for backend in BACKENDS]
    + [("memory", ("y", "x", "band")), ("zarr", ("x", "band", "y"))],
)
def test_any_order_and_backend(backend, order, tmp_path):
    ds = dataset()
    F, coef = theirs(*rows(ds))
    turned = ds.assign(reflectance=ds["reflectance"].transpose(*order))
    cube = BACKENDS[backend](turned, tmp_path)
    model = SoftmaxRegression(feature_dim="band", tol=1e-9)
    model.fit(cube["reflectance"], cube["landcover"], cube["weight"])
    assert model.objective_ == pytest.approx(F, rel=1e-9)
    np.testing.assert_allclose(model.coef_, coef, atol=1e-6)
    assert model.feature_names_in_.tolist() == list(BANDS)
    hits = model.model_.predict(rows(ds)[0]) == rows(ds)[1]
    assert model.score(cube["reflectance"], cube["landcover"]) == pytest.approx(hits.mean())


def test_variables_are_features_and_order_follows_their_names():
    bands = as_bands(dataset())
    X, y, _ = rows(dataset())
    model = SoftmaxRegression(tol=1e-9).fit(bands[list(BANDS)], bands["landcover"])
    assert model.objective_ == pytest.approx(theirs(X, y)[0], rel=1e-9)
    turned = bands[["B04", "B02", "B03"]]
    assert model.score(turned, bands["landcover"]) == model.score(
        bands[list(BANDS)], bands["landcover"]
    )
    with pytest.raises(DataError, match=r"lacks 1 of the 3 features.*B04"):
        model.score(bands[["B02", "B03"]], bands["landcover"])


@pytest.mark.parametrize("solver", ["surrogate", "newton", "lbfgs", "matrix-free"])
def test_packed_values_stay_packed(solver, tmp_path):
    """θ of CF-packed bands is that of the decoded ones, and so are its standard errors."""
    bands = as_bands(dataset())
    bands["B02"][3, 4:9] = np.nan
    bands.to_zarr(tmp_path / "a.zarr", encoding=PACKED, zarr_format=2)
    packed = xr.open_zarr(tmp_path / "a.zarr", mask_and_scale=False)
    decoded = xr.open_zarr(tmp_path / "a.zarr").load()
    X = np.stack([decoded[name].values.reshape(-1) for name in BANDS], 1).astype(float)
    y = decoded["landcover"].values.reshape(-1)
    counted = ~np.isnan(X).any(axis=1)
    assert packed["B02"].dtype == np.uint16
    model = SoftmaxRegression(C=0.3, tol=1e-9, solver=solver)
    model.fit(packed[list(BANDS)], packed["landcover"])
    F, coef = theirs(X[counted], y[counted], C=0.3)
    assert model.objective_ == pytest.approx(F, rel=1e-9)
    np.testing.assert_allclose(model.coef_, coef, atol=1e-6)
    assert model.skipped_["nodata"] == 5
    same = SoftmaxRegression(C=0.3, tol=1e-9, solver=solver).fit(X[counted], y[counted])
    errors = model.uncertainty(packed[list(BANDS)], packed["landcover"])
    np.testing.assert_allclose(
        errors.coef.standard_error,
        same.uncertainty(X[counted], y[counted]).coef.standard_error,
        rtol=1e-6,
    )
    hits = (same.predict(X[counted]) == y[counted]).mean()
    assert model.score(packed[list(BANDS)], packed["landcover"]) == pytest.approx(hits)


def test_packed_values_in_cross_validation_and_with_held_out_rows(tmp_path):
    bands = as_bands(dataset())
    bands.to_zarr(tmp_path / "a.zarr", encoding=PACKED, zarr_format=2)
    packed = xr.open_zarr(tmp_path / "a.zarr", mask_and_scale=False)
    decoded = xr.open_zarr(tmp_path / "a.zarr").load()
    options = {"Cs": [0.1, 10.0], "cv": 3, "scoring": "neg_log_loss", "tol": 1e-8}
    one, two = (
        SoftmaxRegressionCV(**options).fit(ds[list(BANDS)], ds["landcover"])
        for ds in (packed, decoded)
    )
    np.testing.assert_allclose(
        [*one.scores_.values()] if isinstance(one.scores_, dict) else one.scores_,
        [*two.scores_.values()] if isinstance(two.scores_, dict) else two.scores_,
        rtol=1e-6,
    )


def test_rows_of_one_dimension_take_plain_labels():
    X, y, weights = rows(dataset())
    table = xr.Dataset({name: ("sample", one) for name, one in zip(BANDS, X.T, strict=True)})
    model = SoftmaxRegression(tol=1e-9).fit(table, y.tolist(), weights)
    assert model.objective_ == pytest.approx(theirs(X, y, weights)[0], rel=1e-9)
    assert model.predict(table).dims == ("sample",)


def test_decoded_nan_of_a_fill_value_skips_its_row(tmp_path):
    bands = as_bands(dataset())
    bands["B02"][3, 4:9] = np.nan
    bands.to_zarr(tmp_path / "a.zarr", encoding=PACKED, zarr_format=2)
    opened = xr.open_zarr(tmp_path / "a.zarr")
    model = SoftmaxRegression().fit(opened[list(BANDS)], opened["landcover"])
    assert model.skipped_["nodata"] == 5
    number = "row 97 \\(y 3, x 4\\)"  # 3 · 31 + 4
    loose = opened[list(BANDS)].map(lambda one: xr.DataArray(one.values, one.coords))
    with pytest.raises(DataError, match=f"X {number}, column 0: the value is nan"):
        SoftmaxRegression().fit(loose, opened["landcover"])
    labels = xr.full_like(opened["landcover"], np.nan, float)
    with pytest.raises(DataError, match=r"y row 0 \(y 0, x 0\): the label is nan"):
        SoftmaxRegression(nodata=np.nan).fit(loose, labels)


def test_the_same_bits_whatever_the_engine(tmp_path):
    ds = _stored(dataset(), tmp_path, chunks=None)
    one, two = (
        SoftmaxRegression(feature_dim="band", engine=engine).fit(ds["reflectance"], ds["landcover"])
        for engine in ("serial", "threads")
    )
    assert np.array_equal(one.coef_, two.coef_)


def test_no_lazy_array_is_read_whole():
    largest = []

    def block(values):
        largest.append(values.size)
        return values

    ds = dataset()
    lazy = ds["reflectance"].copy(data=da.from_array(ds["reflectance"].values, (1, 8, 10)))
    counted = lazy.copy(data=lazy.data.map_blocks(block, dtype="f4"))
    model = SoftmaxRegression(feature_dim="band", engine="serial", max_iter=1, tol=1e3)
    model.fit(counted, ds["landcover"])
    assert max(largest) == 80


def test_a_block_that_fails_is_named():
    def fail(values):
        raise RuntimeError("no such file")

    ds = dataset()
    lazy = da.from_array(ds["reflectance"].values, (1, 8, 10))
    broken = ds["reflectance"].copy(data=lazy.map_blocks(fail, dtype="f4", meta=np.empty((0,) * 3)))
    with pytest.raises(
        ReadError, match=r"block \(0, 0, 0\) failed with RuntimeError: no such file"
    ):
        SoftmaxRegression(feature_dim="band", engine="serial").fit(broken, ds["landcover"])


def test_no_file_is_read_whole(tmp_path, monkeypatch):
    ds, read, fill = dataset(), [], Lazily.fill

    def counted(self, window, target):
        read.append(target.size)
        fill(self, window, target)

    chunks = {"reflectance": {"chunksizes": (1, 8, 10)}, "landcover": {"chunksizes": (8, 10)}}
    ds.drop_vars("band").to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=chunks)
    monkeypatch.setattr("dsoftmax.data.cubes.tiling.GROUP_BYTES", 0)
    monkeypatch.setattr(Lazily, "fill", counted)
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as file:
        model = SoftmaxRegression(feature_dim="band", engine="serial", max_iter=1, tol=1e3)
        model.fit(file["reflectance"], file["landcover"])
    assert max(read) == 3 * 8 * 10


def test_the_same_bits_on_a_cluster_and_with_a_spool(tmp_path):
    ds = dataset()
    ds["reflectance"].encoding, lazy = {}, ds.chunk({"band": 1, "y": 8, "x": 31})
    model = SoftmaxRegression(feature_dim="band", spool=tmp_path, memory_limit="2GiB")
    here = model.fit(ds["reflectance"], ds["landcover"]).coef_
    with Client(processes=False, dashboard_address=None, n_workers=2) as client:
        there = SoftmaxRegression(feature_dim="band", engine=client)
        assert np.array_equal(there.fit(ds["reflectance"], ds["landcover"]).coef_, here)
        assert np.array_equal(
            there.fit(lazy["reflectance"], lazy["landcover"]).coef_,
            SoftmaxRegression(feature_dim="band", engine="threads")
            .fit(lazy["reflectance"], lazy["landcover"])
            .coef_,
        )
        kept = lazy.persist()
        with pytest.raises(DataError, match=r"as it was before persist\(\)"):
            there.fit(kept["reflectance"], kept["landcover"])
        threads = SoftmaxRegression(feature_dim="band", engine="threads")
        threads.fit(kept["reflectance"], kept["landcover"])


def test_mistakes():
    ds = dataset()
    model = SoftmaxRegression(feature_dim="band")
    with pytest.raises(OptionError, match=r"feature_dim is bnad.*Did you mean band\?"):
        SoftmaxRegression(feature_dim="bnad").fit(ds["reflectance"], ds["landcover"])
    with pytest.raises(DataError, match="Pass feature_dim='band'"):
        SoftmaxRegression().fit(ds["reflectance"], ds["landcover"].values.reshape(-1))
    with pytest.raises(OptionError, match="X is no cube"):
        model.fit(np.eye(3), [0, 1, 2])
    moved = ds["landcover"].assign_coords(x=ds["x"] + 5)
    with pytest.raises(DataError, match="differs from X in the coordinate x"):
        model.fit(ds["reflectance"], moved)
    with pytest.raises(DataError, match="y has 22 entries along y, and X has 23"):
        model.fit(ds["reflectance"], ds["landcover"][1:])
    with pytest.raises(OptionError, match="feature_dim=3; expected the name of a dimension"):
        SoftmaxRegression(feature_dim=3).fit(ds["reflectance"], ds["landcover"])
    with pytest.raises(DataError, match="the variable spatial_ref has the dimensions"):
        SoftmaxRegression().fit(ds[["landcover"]].assign(spatial_ref=0), ds["landcover"])
    with pytest.raises(DataError, match="y has no dimension names, and X is a cube"):
        model.fit(ds["reflectance"], ds["landcover"].values.reshape(-1))
    with pytest.raises(DataError, match="X has 0 rows"):
        model.fit(ds["reflectance"][:, :0], ds["landcover"][:0])
    with pytest.raises(DataError, match="without variables"):
        SoftmaxRegression().fit(xr.Dataset(), ds["landcover"])
    with pytest.raises(DataError, match="class"):
        model.fit(ds["reflectance"], xr.ones_like(ds["landcover"]))
    twice = xr.concat([ds["reflectance"], ds["reflectance"][:1]], "band")
    with pytest.raises(DataError, match="the feature B02 occurs twice"):
        model.fit(twice, ds["landcover"])


def test_a_fitted_estimator_of_a_cube_is_picklable():
    ds = dataset()
    model = SoftmaxRegression(feature_dim="band").fit(ds["reflectance"], ds["landcover"])
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.coef_, model.coef_)
