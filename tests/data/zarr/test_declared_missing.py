"""Values that the attributes of a Zarr array declare as missing, as xarray and CF write them."""

import base64
import struct

import dask.array as da
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from dsoftmax import SoftmaxRegression
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.data.zarr.declared import declared_missing
from dsoftmax.errors import ReadError
from dsoftmax.testing.sources import check_source

N = 400


def in_base64(value):
    """A float as xarray writes it into attributes of Zarr v3."""
    return base64.b64encode(struct.pack("<d", value)).decode()


DECLARED = {
    "NaN in base64": (3, "f4", {"_FillValue": in_base64(np.nan)}, 0, [np.nan]),
    "float in base64": (3, "f4", {"_FillValue": in_base64(1e20)}, 0, [np.float32(1e20)]),
    "NaN as text": (3, "f8", {"_FillValue": "NaN"}, 0, [np.nan]),
    "integer": (3, "i2", {"_FillValue": -32768, "scale_factor": 0.001}, 0, [-32768]),
    "float32 of a double": (3, "f4", {"missing_value": -9999.9}, 0, [np.float32(-9999.9)]),
    "both": (3, "i2", {"_FillValue": -1, "missing_value": [-1, -2]}, 0, [-1, -2]),
    "attributes of v2": (2, "u2", {"_FillValue": 65535}, 0, [65535]),
    "fill value of xarray in v2": (2, "i2", {"_ARRAY_DIMENSIONS": ["row", "band"]}, -7, [-7]),
    "fill value of v2": (2, "i2", {}, -7, []),
    "fill value of v3": (3, "i2", {"_ARRAY_DIMENSIONS": ["row", "band"]}, -7, []),
    "no value of the dtype": (3, "u1", {"_FillValue": -9999}, 0, []),
    "no number": (3, "f4", {"_FillValue": "none of this"}, 0, []),
}


def write(path, values, version=3, attributes=None, fill_value=0, chunks=100, **options):
    array = zarr.create_array(
        path,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunks, *values.shape[1:]),
        zarr_format=version,
        fill_value=fill_value,
        attributes=attributes,
        **{"config": {"write_empty_chunks": True}, **options},
    )
    array[:] = values
    return zarr.open_array(path, mode="r", zarr_format=version)


@pytest.mark.parametrize("kind", DECLARED)
def test_declared_values_are_read_in_the_dtype_of_the_array(kind, tmp_path):
    version, dtype, attributes, fill, expected = DECLARED[kind]
    array = write(tmp_path / "X", np.ones((4, 2), dtype), version, attributes, fill)
    found = declared_missing(array)
    np.testing.assert_array_equal(found, np.array(expected, dtype))
    assert all(value.dtype == dtype for value in found)


def scene(dtype, value):
    rng = np.random.default_rng(2)
    X = (1000 + 100 * rng.normal(size=(N, 3))).astype(dtype)
    y = (X / 100 + rng.gumbel(size=(N, 3))).argmax(axis=1).astype("u1")
    dark = rng.random(N) < 0.15
    X[dark, rng.integers(0, 3, dark.sum())] = value
    return X, y, dark


@pytest.mark.parametrize("kind", [kind for kind in DECLARED if DECLARED[kind][4]])
def test_a_fit_skips_the_rows_with_declared_values(kind, tmp_path):
    version, dtype, attributes, fill, (value, *_) = DECLARED[kind]
    X, y, dark = scene(dtype, value)
    stored = write(tmp_path / "X", X, version, attributes, fill)
    labels = np.where(np.arange(N) % 9 == 0, 255, y).astype("u1")
    stored_y = write(tmp_path / "y", labels, attributes={"_FillValue": 255}, chunks=70)
    counted = ~dark & (labels != 255)
    check_source(open_source(Table(stored, stored_y)), X, labels)
    alone = SoftmaxRegression(tol=1e-9).fit(X[counted], y[counted])
    for rows, column in (
        (stored, stored_y),
        (stored, da.from_array(labels, chunks=90)),
        (da.from_array(X, chunks=(130, 3)), stored_y),
        (X, stored_y),
        (stored, np.ma.masked_equal(labels, 255)),
    ):
        options = {} if rows is stored else {"nodata": value}
        options |= {} if not isinstance(column, da.Array) else {"unlabelled": 255}
        ours = SoftmaxRegression(tol=1e-9, **options).fit(rows, column)
        np.testing.assert_allclose(ours.coef_, alone.coef_, rtol=1e-6, atol=1e-10)
        assert ours.skipped_["nodata"] == dark.sum()
        assert ours.skipped_["unlabelled"] == (~dark & (labels == 255)).sum()


CODECS = {
    "Blosc": {"compressors": BloscCodec(blocksize=1024)},
    "Zstandard": {},
    "none": {"compressors": None},
    "shards": {"shards": (200, 3), "chunks": 50},
    "v2 Blosc": {"version": 2, "compressors": numcodecs.Blosc(blocksize=256)},
}


@pytest.mark.parametrize("codec", CODECS)
def test_encoded_rows_are_searched_once_they_are_decoded(codec, tmp_path):
    X, y, dark = scene("i2", -9)
    stored = write(tmp_path / "X", X, attributes={"_FillValue": -9}, **CODECS[codec])
    source = open_source(Table(stored, y))
    check_source(source, X, y)
    # Without memory for cached blocks, every pass decodes leaf by leaf.
    ours = SoftmaxRegression(tol=1e-9, memory_limit="700MiB").fit(stored, y)
    alone = SoftmaxRegression(tol=1e-9).fit(X[~dark], y[~dark])
    np.testing.assert_allclose(ours.coef_, alone.coef_, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("where", ["local", "memory"])
def test_absent_chunks_of_a_declared_fill_value_are_no_data(version, where, tmp_path):
    X, y, _ = scene("i2", -9)
    X[100:200] = X[300:] = -9
    store = zarr.storage.MemoryStore() if where == "memory" else tmp_path / "X"
    options = {"fill_value": -9, "config": {"write_empty_chunks": False}}
    array = zarr.create_array(
        store, shape=X.shape, dtype="i2", chunks=(50, 3), zarr_format=version, **options
    )
    array[:] = X
    if where == "local":
        assert len([one for one in (tmp_path / "X").rglob("*") if one.is_file()]) < 8
    with pytest.raises(ReadError, match="fill value"):
        SoftmaxRegression().fit(array, y)
    array.attrs["_FillValue"] = -9
    ours = SoftmaxRegression(tol=1e-9).fit(array, y)
    counted = (X != -9).all(axis=1)
    alone = SoftmaxRegression(tol=1e-9).fit(X[counted], y[counted])
    np.testing.assert_allclose(ours.coef_, alone.coef_, rtol=1e-6, atol=1e-10)
    assert ours.skipped_["nodata"] == N - counted.sum()


def test_absent_chunks_of_another_value_than_the_declared_one_are_lost(tmp_path):
    X, y, _ = scene("i2", -9)
    X[100:200] = 0
    array = write(
        tmp_path / "X", X, attributes={"_FillValue": -9}, config={"write_empty_chunks": False}
    )
    with pytest.raises(ReadError, match=r"X rows 100–199.* fill value"):
        SoftmaxRegression().fit(array, y)


def test_declared_weights_are_skipped(tmp_path):
    X, y, _ = scene("f8", 0)
    weights = np.where(np.arange(N) % 5 == 0, np.nan, 1.0)
    stored = write(tmp_path / "w", weights, attributes={"_FillValue": in_base64(np.nan)})
    ours = SoftmaxRegression(tol=1e-9).fit(X, y, stored)
    alone = SoftmaxRegression(tol=1e-9).fit(X[weights == 1], y[weights == 1])
    np.testing.assert_allclose(ours.coef_, alone.coef_, rtol=1e-6, atol=1e-10)
    assert ours.skipped_["unweighted"] == 80
