"""Every kind of X, y and weights gives the same model: sparse, lazy, stored, frames."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from estimator_cases import OUTPUTS, THEIRS, TIGHT, assert_same_model, make_data, stored
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import OptionError, ReadError


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "csc_array", "coo_array"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_sparse_equals_dense(n_classes, kind):
    X, y = make_data(n_classes)
    X = np.where(np.abs(X) < 1, 0, X)
    dense = SoftmaxRegression(**TIGHT).fit(X, y)
    sparse = SoftmaxRegression(**TIGHT).fit(getattr(scipy.sparse, kind)(X), y)
    assert_same_model(sparse, LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y))
    assert_allclose(sparse.coef_, dense.coef_, rtol=1e-6, atol=1e-8)
    for output in OUTPUTS[1:]:
        found = getattr(dense, output)(getattr(scipy.sparse, kind)(X))
        assert_allclose(found, getattr(dense, output)(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, bool])
def test_stored_dtypes_are_not_widened(dtype):
    X, y = make_data(3)
    X = (np.abs(X) * 3).astype(dtype)
    ours = SoftmaxRegression(tol=1e-6, max_iter=1000).fit(X, y)
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X.astype(float), y)
    assert_same_model(ours, theirs, rtol=1e-3, atol=1e-3)
    assert ours.history_[0]["bytes"] == X.nbytes
    expected = np.float64 if dtype == np.int64 else np.float32
    assert ours.predict_proba(X).dtype == ours.decision_function(X).dtype == expected


def test_frames_give_and_check_names():
    X, y = make_data(3)
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    weights = pd.Series(np.linspace(0, 2, len(y)))
    estimator = SoftmaxRegression(**TIGHT).fit(frame, pd.Series(y), weights)
    assert_array_equal(estimator.feature_names_in_, list("vwxyz"))
    assert_same_model(
        estimator, LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y, weights)
    )
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[list("zyxwv")])
    estimator.fit(da.from_array(X, chunks=(100, -1)), y)
    assert not hasattr(estimator, "feature_names_in_")


@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_lazy_inputs_equal_numpy(n_classes, engine, tmp_path, rng):
    X, y = make_data(n_classes)
    weights = rng.random(len(y))
    memory = SoftmaxRegression(engine=engine, **TIGHT).fit(X, y, weights)
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y, weights)
    dask_arrays = (
        da.from_array(X, chunks=(170, 2)),
        da.from_array(y, chunks=90),
        da.from_array(weights, chunks=600),
    )
    zarr_arrays = (
        stored(tmp_path, "X", X, (128, 3)),
        stored(tmp_path, "y", y, (50,)),
        stored(tmp_path, "w", weights, (600,)),
    )
    mixed = [
        (dask_arrays[0], y, list(weights)),
        (zarr_arrays[0], list(y), weights),
        (X, dask_arrays[1], zarr_arrays[2]),
    ]
    for arrays in (dask_arrays, zarr_arrays, *mixed):
        lazy = SoftmaxRegression(engine=engine, **TIGHT).fit(*arrays)
        assert_same_model(lazy, theirs)
        assert lazy.objective_ == pytest.approx(memory.objective_, abs=1e-10)
        assert lazy.n_features_in_ == 5
        assert lazy.score(*arrays) == pytest.approx(theirs.score(X, y, weights), abs=1e-12)


def test_sparse_dask_blocks(rng):
    X, y = make_data(3)
    X = np.where(np.abs(X) < 1, 0, X)
    lazy = da.from_array(X, chunks=(150, -1)).map_blocks(
        scipy.sparse.csr_array, meta=scipy.sparse.csr_array((0, 0))
    )
    ours = SoftmaxRegression(**TIGHT).fit(lazy, y)
    assert_same_model(ours, LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y))
    assert_array_equal(ours.predict(lazy).compute(), ours.predict(X))


def test_sparse_rows_in_memory_with_lazy_labels(rng):
    X, y = make_data(3)
    X = np.where(np.abs(X) < 1, 0, X)
    weights = rng.random(len(y))
    arrays = (
        scipy.sparse.csr_array(X),
        da.from_array(y, chunks=100),
        da.from_array(weights, chunks=90),
    )
    ours = SoftmaxRegression(**TIGHT).fit(*arrays)
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y, weights)
    assert_same_model(ours, theirs)
    assert ours.score(*arrays) == pytest.approx(theirs.score(X, y, weights), abs=1e-12)


def test_string_labels_in_dask():
    X, y = make_data(3)
    names = np.array(["b", "c", "d"])[y]
    ours = SoftmaxRegression(**TIGHT).fit(
        da.from_array(X, chunks=(100, -1)), da.from_array(names, chunks=100)
    )
    assert_same_model(ours, LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, names))
    assert ours.score(da.from_array(X, chunks=(100, -1)), names) == ours.score(X, names)


def test_an_active_client_a_given_one_and_threads_agree():
    distributed = pytest.importorskip("distributed")
    X, y = make_data(3)
    lazy = da.from_array(X, chunks=(100, -1))
    here = SoftmaxRegression(engine="threads").fit(lazy, y)
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"
    ) as client:
        for engine in ("auto", "cluster", client):
            there = clone(SoftmaxRegression(engine=engine)).fit(lazy, y)
            assert_array_equal(there.model_.theta, here.model_.theta)
        assert there.score(lazy, da.from_array(y, chunks=100)) == here.score(X, y)
    with pytest.raises(OptionError, match="client"):
        SoftmaxRegression(engine="cluster").fit(X, y)


def test_missing_chunks_act_in_training_and_prediction(tmp_path):
    X, y = make_data(2)
    X[200:300] = 0
    array = zarr.create_array(
        tmp_path / "X",
        shape=X.shape,
        chunks=(100, 5),
        dtype=X.dtype,
        config={"write_empty_chunks": False},
    )
    array[:] = X
    with pytest.raises(ReadError, match="missing_chunks='fill'"):
        SoftmaxRegression().fit(array, y)
    estimator = SoftmaxRegression(missing_chunks="fill").fit(array, y)
    assert_array_equal(estimator.predict(array), estimator.predict(X))
    with pytest.raises(ReadError, match="missing_chunks='fill'"):
        estimator.set_params(missing_chunks="error").predict(array)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_a_missing_chunk_of_labels_is_no_label(kind, tmp_path):
    X, y = make_data(3)
    labels = stored(tmp_path, "y", y, (100,))
    expected = SoftmaxRegression().fit(X, y)
    assert_allclose(SoftmaxRegression().fit(kind(X), labels).coef_, expected.coef_, atol=1e-3)
    (tmp_path / "y" / "c" / "3").unlink()
    with pytest.raises(
        ReadError, match=r"y rows 300–399: the chunk c/3 is not in .*missing_chunks='fill'"
    ):
        SoftmaxRegression().fit(kind(X), labels)
    assert SoftmaxRegression(missing_chunks="fill").fit(kind(X), labels).n_iter_ > 0
