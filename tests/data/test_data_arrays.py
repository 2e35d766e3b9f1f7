"""A DataArray of xarray is read as the array that it holds, and never as a whole."""

import dask.array as da
import numpy as np
import pytest
import stored
import zarr
from estimator_cases import TIGHT, make_data, refuse
from opening import opened

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import DataError
from dsoftmax.testing.sources import check_source

xarray = pytest.importorskip("xarray")


def array(values, *dims):
    return xarray.DataArray(values, dims=dims)


def in_memory(X, y, path):
    return array(X, "pixel", "band"), array(y, "pixel")


def over_dask(X, y, path):
    rows, labels = in_memory(X, y, path)
    return rows.chunk({"pixel": 70, "band": 2}), labels.chunk({"pixel": 41})


def over_zarr(X, y, path):
    group = zarr.create_group(path / "a.zarr")
    for name, values, dims in (("X", X, ["pixel", "band"]), ("y", y, ["pixel"])):
        group.create_array(
            name,
            data=values,
            chunks=(70, *values.shape[1:]),
            dimension_names=dims,
            config={"write_empty_chunks": True},
        )
    data = xarray.open_zarr(path / "a.zarr", chunks=None, consolidated=False, mask_and_scale=False)
    return data["X"], data["y"]


def over_hdf5(X, y, path):
    pytest.importorskip("h5netcdf")
    data = xarray.Dataset({"X": (("pixel", "band"), X), "y": ("pixel", y)})
    data.to_netcdf(
        path / "a.nc", engine="h5netcdf", encoding={"X": {"chunksizes": (70, X.shape[1])}}
    )
    data = xarray.open_dataset(path / "a.nc", engine="h5netcdf")
    return data["X"], data["y"]


KINDS = [in_memory, over_dask, over_zarr, over_hdf5]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_labels_of_data_arrays(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.data_arrays.PART_BYTES", 100)
    X, y, _ = stored.rows()
    arrays = kind(X, y, tmp_path)
    source = opened(*arrays)
    check_source(source, X, y)
    if kind is not in_memory:
        assert source.chunk_rows.tolist() == [70, 70, 70, 70, 20]
    assert opened(arrays[0], y).describe()
    check_source(opened(X, arrays[1]), X, y)


@pytest.mark.parametrize("kind", KINDS)
def test_every_door_takes_a_data_array(kind, tmp_path):
    X, y = make_data(3)
    rows, labels = kind(X, y, tmp_path)
    weights = array(np.linspace(0.5, 2, len(y)), "pixel")
    found = SoftmaxRegression(**TIGHT).fit(rows, labels, weights)
    expected = SoftmaxRegression(**TIGHT).fit(X, y, weights.values)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-6, atol=1e-9)
    assert found.score(rows, labels, weights) == pytest.approx(expected.score(X, y, weights.values))
    for model in (found, found.model_):
        predicted = model.predict(rows)
        assert isinstance(predicted, np.ndarray if kind is in_memory else da.Array)
        assert (np.asarray(predicted) == expected.predict(X)).all()


def test_a_lazy_data_array_is_not_computed_by_predictions():
    X, y = make_data(3)
    lazy = da.from_array(X, chunks=(100, -1)).map_blocks(refuse, dtype=float, meta=np.ones((0, 0)))
    model = SoftmaxRegression().fit(X, y)
    assert isinstance(model.predict_proba(array(lazy, "pixel", "band")), da.Array)


@pytest.mark.parametrize("kind", [lambda X: X, lambda X: X.chunk()])
def test_cubes_without_a_feature_dimension_are_refused_with_the_cure(kind):
    X, y = make_data(3, p=4)
    cube = kind(array(X.T.reshape(4, 20, 30), "band", "y", "x"))
    with pytest.raises(DataError, match="Pass feature_dim='band'"):
        SoftmaxRegression().fit(cube, y)
    with pytest.raises(DataError, match=r"Pass y\.chunk\(\)\.data\.ravel\(\)"):
        SoftmaxRegression().fit(X, array(y.reshape(20, 30), "y", "x"))
