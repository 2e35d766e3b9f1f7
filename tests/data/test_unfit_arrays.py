"""Arrays that do not fit each other or are no table are refused, with their name and a cure."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import stored
import zarr
from opening import opened

from dsoftmax.data.table import Names
from dsoftmax.errors import DataError

NAMES = Names("store/X", "store/y", "store/w", "store/g")


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


def test_several_stored_columns_are_refused_with_the_advice_to_store_one():
    message = r"/data/y has shape \(6, 2\).*Store one of its columns by itself\. Soft labels"
    with pytest.raises(DataError, match=message):
        opened(np.ones((6, 2)), np.ones((6, 2)), names=Names("/data/X", "/data/y"))


@pytest.mark.parametrize("path", ["data.zarr/X", b"data.zarr/X", Path("data.zarr/X")])
def test_a_path_is_refused_with_the_line_that_opens_it(path):
    for arrays in ((path,), (np.ones((4, 2)), path)):
        with pytest.raises(
            DataError,
            match=r"[Xy] is .*; expected an array.* zarr.open_array\('data.zarr/X', mode='r'\)",
        ):
            opened(*arrays)


def test_sparse_labels_are_refused():
    with pytest.raises(
        DataError, match=r"y is sparse, of shape \(4, 1\); .*Pass y.toarray\(\).ravel\(\)"
    ):
        opened(np.ones((4, 2)), scipy.sparse.csr_array(np.ones((4, 1))))


@pytest.mark.parametrize("kind", [as_numpy, as_dask])
@pytest.mark.parametrize(
    ("shape", "message"), [((0, 3), "store/X has 0 rows"), ((3, 0), r"store/X has 0 feature\(s\)")]
)
def test_no_rows_or_no_features_are_refused(kind, tmp_path, shape, message):
    with pytest.raises(DataError, match=message):
        opened(kind(np.ones(shape), tmp_path, "X"), names=NAMES)


@pytest.mark.parametrize("kind", [as_numpy, as_dask, as_zarr])
@pytest.mark.parametrize(
    ("dtype", "message"),
    [("c16", "Complex data not supported"), ("M8[s]", "expected real numbers")],
)
def test_features_that_are_not_real_numbers_are_refused(kind, tmp_path, dtype, message):
    with pytest.raises(DataError, match=message):
        opened(kind(np.zeros((4, 2), dtype), tmp_path, "X"), names=NAMES)


def test_words_as_features_are_refused():
    with pytest.raises(DataError, match="store/X has dtype <U1; expected real numbers"):
        opened(np.array([["a", "b"]]), names=NAMES)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_an_empty_zarr_array_beside_a_dask_array_is_refused(shape, tmp_path):
    X = zarr.create_array(tmp_path, shape=shape, chunks=(2, 2), dtype="f4")
    with pytest.raises(DataError, match="store/X has 0 "):
        opened(X, da.zeros(shape[0]), names=NAMES)


@pytest.mark.parametrize("weights", [np.array(["a"] * 8), np.ones(8, complex)])
def test_weights_that_are_not_real_numbers_are_refused(weights):
    X, y = np.ones((8, 2)), np.arange(8) % 2
    for source in (
        lambda: opened(X, y, weights),
        lambda: opened(da.from_array(X), da.from_array(y), da.from_array(weights)).load(0),
    ):
        with pytest.raises(
            DataError, match=f"sample_weight has dtype {weights.dtype}; expected real numbers"
        ):
            source()
