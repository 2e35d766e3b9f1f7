"""Predictions and scores: lazy in, lazy out, and stored rows chunk by chunk."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from estimator_cases import OUTPUTS, THEIRS, TIGHT, CountingEngine, make_data, refuse, stored
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from dsoftmax import SoftmaxRegression, load_model, save_model
from dsoftmax.data.zarr.rows import ZarrRows
from dsoftmax.errors import DataError, MemoryLimitError, ReadError


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_lazy_in_lazy_out(n_classes, output, dtype):
    X, y = make_data(n_classes)
    X = X.astype(dtype)
    estimator = SoftmaxRegression().fit(X, np.array(["left", "middle", "right"])[y])
    expected = getattr(estimator, output)(X)
    lazy = da.from_array(X, chunks=(170, 2))
    unknown = lazy[da.from_array(X[:, 0], chunks=170) > 0]
    with dask.config.set(scheduler=refuse):
        known_out, unknown_out = (
            getattr(estimator, output)(lazy),
            getattr(estimator, output)(unknown),
        )
    assert isinstance(known_out, da.Array)
    assert known_out.chunks[0] == lazy.chunks[0]
    assert known_out.shape == expected.shape
    assert known_out.dtype == known_out._meta.dtype == expected.dtype
    assert known_out._meta.ndim == expected.ndim
    assert np.isnan(unknown_out.chunks[0]).all()
    assert len(unknown_out.chunks[0]) == len(lazy.chunks[0])
    found = known_out.compute(scheduler="sync")
    assert found.dtype == expected.dtype
    equal = (
        assert_array_equal
        if output == "predict"
        else lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    )
    equal(found, expected)
    equal(unknown_out.compute(scheduler="sync"), expected[X[:, 0] > 0])


@pytest.mark.parametrize("output", OUTPUTS)
def test_zarr_is_predicted_chunk_by_chunk(output, tmp_path, monkeypatch):
    X, y = make_data(3, n=40_000, p=8)
    array = stored(tmp_path, "X", X, (1_000, 8))
    estimator = SoftmaxRegression().fit(X[:500], y[:500])
    expected = getattr(estimator, output)(X)
    spans, read = [], ZarrRows.read

    def watched(self, start, stop, buffer=None):
        spans.append(stop - start)
        return read(self, start, stop, buffer)

    monkeypatch.setattr(zarr.Array, "__array__", refuse)
    monkeypatch.setattr(zarr.Array, "__getitem__", refuse)
    monkeypatch.setattr(ZarrRows, "read", watched)
    found = getattr(estimator, output)(array)
    assert isinstance(found, np.ndarray)
    assert sum(spans) == len(X)
    assert max(spans) < len(X)
    assert_allclose(found, expected, rtol=1e-12) if output != "predict" else assert_array_equal(
        found, expected
    )


def test_score_of_lazy_data_is_one_pass_and_loads_nothing_whole(tmp_path, monkeypatch, rng):
    X, y = make_data(3, n=40_000, p=8)
    weights = rng.random(len(y))
    theirs = LogisticRegression().fit(X[:500], y[:500])
    expected = accuracy_score(y, theirs.predict(X), sample_weight=weights)
    engine = CountingEngine()
    estimator = SoftmaxRegression(engine=engine, **TIGHT).fit(
        da.from_array(X[:500], chunks=(100, -1)), y[:500]
    )
    assert engine.passes == estimator.n_passes_
    arrays = [
        (
            da.from_array(X, chunks=(9_000, -1)),
            da.from_array(y, chunks=9_000),
            da.from_array(weights, chunks=9_000),
        ),
        (
            stored(tmp_path, "X", X, (1_000, 8)),
            stored(tmp_path, "y", y, (1_000,)),
            stored(tmp_path, "w", weights, (1_000,)),
        ),
    ]
    monkeypatch.setattr(zarr.Array, "__array__", refuse)
    monkeypatch.setattr(da.Array, "__array__", refuse)
    monkeypatch.setattr(da.Array, "compute", refuse)
    for lazy in arrays:
        engine.passes = 0
        assert estimator.score(*lazy) == pytest.approx(expected, abs=1e-3)
        assert engine.passes == 1
    assert not engine.closed  # it belongs to its owner


def test_score_counts_an_unknown_label_as_wrong(tmp_path, rng):
    X, y = make_data(3)
    weights = rng.random(len(y))
    ours = SoftmaxRegression(**TIGHT).fit(X, y)
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y)
    unknown = np.where(y == 1, 7, y)
    assert ours.score(X, unknown) == theirs.score(X, unknown) < theirs.score(X, y)
    expected = theirs.score(X, unknown, weights)
    for lazy in (
        (da.from_array(X, chunks=(100, -1)), unknown, weights),
        (X, da.from_array(unknown, chunks=90), weights),
        (stored(tmp_path, "X", X, (100, 5)), stored(tmp_path, "y", unknown, (70,)), weights),
    ):
        assert ours.score(*lazy) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "sample_weight row 37: the weight is -1.0; expected finite weights of at least 0"),
        (np.nan, "sample_weight row 37: the weight is nan"),
        (np.inf, "sample_weight row 37: the weight is inf"),
        ("heavy", "sample_weight .*expected"),
    ],
)
def test_score_refuses_the_weights_that_fit_refuses(lazy, weight, message):
    X, y = make_data(3)
    weights = np.ones(len(y), object if isinstance(weight, str) else float)
    weights[37] = weight
    weights = weights.astype(str) if isinstance(weight, str) else weights
    rows = da.from_array(X, chunks=(100, -1)) if lazy else X
    estimator = SoftmaxRegression().fit(X, y)
    with pytest.raises(DataError, match=message):
        estimator.score(rows, y, weights)
    with pytest.raises(DataError, match=message):
        SoftmaxRegression().fit(rows, y, weights)


@pytest.mark.parametrize("lazy", [False, True])
def test_score_takes_one_weight_for_all_rows_and_refuses_no_weight_at_all(lazy):
    X, y = make_data(3)
    rows = da.from_array(X, chunks=(100, -1)) if lazy else X
    estimator = SoftmaxRegression().fit(X, y)
    assert estimator.score(rows, y, 2.5) == pytest.approx(estimator.score(X, y), abs=1e-15)
    with pytest.raises(DataError, match="sample weights are all zero"):
        estimator.score(rows, y, np.zeros(len(y)))


@pytest.mark.parametrize("lazy", [False, True])
def test_score_refuses_labels_of_another_kind(lazy):
    X, y = make_data(3)
    words = np.array(["a", "b", "c"])[y]
    rows = da.from_array(X, chunks=(100, -1)) if lazy else X
    with pytest.raises(ValueError, match="y holds strings; expected numbers"):
        SoftmaxRegression().fit(X, y).score(rows, words)


def test_extreme_logits_keep_finite_log_probabilities():
    X, y = make_data(3)
    estimator = SoftmaxRegression().fit(X, y)
    far = X[:20] * 1e5
    logits = estimator.decision_function(far)
    assert (estimator.predict_proba(far) == 0).any()
    assert_allclose(estimator.predict_log_proba(far), log_softmax(logits, axis=1), rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_stored_model_predicts_as_the_estimator_does(n_classes, output, tmp_path):
    X, y = make_data(n_classes)
    X = np.where(np.abs(X) < 1, 0, X)
    estimator = SoftmaxRegression().fit(X, np.array(["left", "middle", "right"])[y])
    save_model(estimator.model_, tmp_path / "model.zarr")
    model = load_model(tmp_path / "model.zarr")
    assert_array_equal(model.coef_, estimator.coef_)
    assert_array_equal(model.intercept_, estimator.intercept_)
    assert_array_equal(model.classes_, estimator.classes_)
    kinds = (X, X.tolist(), scipy.sparse.csc_array(X), pd.DataFrame(X))
    for rows in (*kinds, stored(tmp_path, "X", X, (100, 5))):
        found = getattr(model, output)(rows)
        assert isinstance(found, np.ndarray)
        assert_array_equal(found, getattr(estimator, output)(rows))
    lazy = da.from_array(X, chunks=(170, 2))
    with dask.config.set(scheduler=refuse):
        found = getattr(model, output)(lazy)
    expected = getattr(estimator, output)(lazy)
    assert found.chunks == expected.chunks
    assert found.dtype == expected.dtype
    assert_array_equal(found.compute(scheduler="sync"), expected.compute(scheduler="sync"))


def test_a_stored_model_reads_with_the_options_it_is_given(tmp_path):
    X, y = make_data(3)
    X[200:300] = 0  # a chunk of nothing but the fill value, which Zarr does not store
    model = SoftmaxRegression().fit(X, y).model_
    array = stored(tmp_path, "X", X, (100, 5))
    with pytest.raises(ReadError, match="missing_chunks='fill'"):
        model.predict(array)
    assert_array_equal(model.predict(array, missing_chunks="fill"), model.predict(X))
    assert model.predict_proba(X.astype("f4"), dtype="float64").dtype == np.float64
    with pytest.raises(MemoryLimitError, match="10 MiB"):
        model.predict(array, memory_limit="10MiB")
    with pytest.raises(DataError, match="X has 3 features, but the model is expecting 5"):
        model.decision_function(X[:, :3])


def test_stored_rows_are_not_predicted_on_the_cluster_and_a_warning_says_so(tmp_path):
    distributed = pytest.importorskip("distributed")
    X, y = make_data(3)
    array = stored(tmp_path, "X", X, (100, 5))
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ) as client:
        for engine in ("auto", "cluster", client):
            estimator = SoftmaxRegression(engine=engine).fit(array, y)
            for output in OUTPUTS:
                with pytest.warns(UserWarning, match=r"pass dask\.array\.from_zarr\(X\)") as warned:
                    found = getattr(estimator, output)(array)
                assert warned[0].filename == __file__
                lazy = getattr(estimator, output)(da.from_zarr(array))
                assert_array_equal(lazy.compute(), found)
    # Without a client "auto" is this machine, and nothing is said: warnings are errors here.
    SoftmaxRegression().fit(X, y).predict(array)
