"""The estimator against scikit-learn's own: its checks, its coefficients, its behaviours."""

import copy
import doctest
import os
import pickle
import subprocess
import sys
import textwrap

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import dsoftmax.estimators.predictions
import dsoftmax.estimators.regression
from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV, save_model
from dsoftmax.data.zarr.source import ZarrRows
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import DataError, MemoryLimitError, OptionError, ReadError
from dsoftmax.solvers.table import SOLVERS

TIGHT = {"tol": 1e-9, "max_iter": 1000, "dtype": "float64"}
THEIRS = {"tol": 1e-10, "max_iter": 10_000}

OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


def make_data(n_classes, n=600, p=5, seed=0):
    """Classes that overlap, so that an optimum exists without a penalty too; features of different scales."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.linspace(0.5, 2, p) + rng.normal(size=p)
    logits = X @ rng.normal(size=(p, n_classes)) / p + rng.normal(size=n_classes) / 2
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return X, y


def objective(estimator, X, y, C, weights=None):
    """F as its definition says, from scikit-learn's coefficients."""
    weights = np.ones(len(y)) if weights is None else weights
    w, b = estimator.coef_, estimator.intercept_
    z = X @ w.T + b
    z = np.column_stack([np.zeros(len(y)), z]) if len(w) == 1 else z
    losses = -log_softmax(z, axis=1)[np.arange(len(y)), np.searchsorted(estimator.classes_, y)]
    return (weights @ losses + (w**2).sum() / (2 * C)) / weights.sum()


def assert_same_model(ours, theirs, rtol=1e-5, atol=1e-6):
    assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.classes_.dtype == theirs.classes_.dtype
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.intercept_.shape == theirs.intercept_.shape
    assert_allclose(ours.coef_, theirs.coef_, rtol=rtol, atol=atol)
    shift = (
        theirs.intercept_.mean() if len(theirs.classes_) > 2 else 0
    )  # free intercepts are equal up to a constant
    assert_allclose(ours.intercept_, theirs.intercept_ - shift, rtol=rtol, atol=atol)


def stored(tmp_path, name, values, chunks):
    """The values as a Zarr array on disk."""
    array = zarr.create_array(
        tmp_path / name, shape=values.shape, chunks=chunks, dtype=values.dtype
    )
    array[:] = values
    return array


def refuse(*args, **kwargs):
    raise AssertionError("something was computed or read as a whole")


# --- scikit-learn's checks -----------------------------------------------------------------------------------------------


# Some checks stop training after a few iterations on purpose, and some fit labels in a column.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@parametrize_with_checks(
    [
        SoftmaxRegression(),
        SoftmaxRegression(engine="serial"),
        SoftmaxRegression(dtype="float64", memory_limit="2GiB"),
    ]
)
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__ == "check_array_api_input":
        return  # needs an environment variable before SciPy is imported: see the next test
    check(estimator)


def test_check_estimator_skips_nothing():
    script = """
        from sklearn.utils.estimator_checks import check_estimator
        from dsoftmax import SoftmaxRegression
        results = check_estimator(SoftmaxRegression(engine="serial"), on_skip=None)
        assert {one["status"] for one in results} == {"passed"}, results
        print(len(results))
    """
    assert int(run_python(script, SCIPY_ARRAY_API="1")) > 50


def run_python(script, *options, **environment):
    command = [sys.executable, *options, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the same optimum ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["newton-cg", "newton-cholesky", "lbfgs"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_coefficients_equal_scikit_learns(n_classes, fit_intercept, solver):
    X, y = make_data(n_classes)
    ours = SoftmaxRegression(C=0.3, fit_intercept=fit_intercept, **TIGHT).fit(X, y)
    theirs = LogisticRegression(C=0.3, fit_intercept=fit_intercept, solver=solver, **THEIRS).fit(
        X, y
    )
    assert_same_model(ours, theirs)
    assert ours.objective_ == pytest.approx(objective(theirs, X, y, 0.3), abs=1e-10)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), atol=1e-5)
    assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.score(X, y) == theirs.score(X, y)
    scores = theirs.decision_function(X)
    assert ours.decision_function(X).shape == scores.shape
    centre = scores.mean(axis=1, keepdims=True) if n_classes > 2 else 0
    assert_allclose(ours.decision_function(X), scores - centre, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 0.4, 1: 2.5}])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_act_as_scikit_learns(n_classes, class_weight, weighted, rng):
    X, y = make_data(n_classes)
    weights = rng.integers(0, 4, len(y)) * 0.5 if weighted else None
    ours = SoftmaxRegression(class_weight=class_weight, **TIGHT).fit(X, y, weights)
    theirs = LogisticRegression(class_weight=class_weight, solver="newton-cholesky", **THEIRS).fit(
        X, y, weights
    )
    assert_same_model(ours, theirs)
    assert ours.score(X, y, weights) == pytest.approx(theirs.score(X, y, weights), abs=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_penalty(n_classes):
    X, y = make_data(n_classes)
    ours = SoftmaxRegression(C=np.inf, **TIGHT).fit(X, y)
    theirs = LogisticRegression(C=np.inf, solver="newton-cg", **THEIRS).fit(X, y)
    rows = theirs.coef_ - (theirs.coef_.mean(axis=0) if n_classes > 2 else 0)
    assert_allclose(ours.coef_, rows, rtol=1e-4, atol=1e-5)
    assert ours.objective_ == pytest.approx(objective(theirs, X, y, np.inf), abs=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_finds_the_same_optimum(solver):
    X, y = make_data(3)
    ours = SoftmaxRegression(solver=solver, C=0.01, tol=1e-7, max_iter=20_000, dtype="float64").fit(
        X, y
    )
    theirs = LogisticRegression(C=0.01, solver="newton-cholesky", **THEIRS).fit(X, y)
    assert_same_model(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "perhaps", "yes"]),
        np.array(["no", "perhaps", "yes"], dtype=object),
        np.array([-3, 5, 900], np.int32),
        np.array([1.0, 2.0, 7.0], np.float32),
        np.array([3, 4, 250], np.uint8),
    ],
)
def test_labels_keep_their_kind(labels):
    X, y = make_data(3)
    ours = SoftmaxRegression(**TIGHT).fit(X, labels[y])
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, labels[y])
    assert_same_model(ours, theirs)
    assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.predict(X).dtype == theirs.predict(X).dtype
    assert ours.score(X, labels[y]) == theirs.score(X, labels[y])


def test_two_boolean_labels():
    X, y = make_data(2)
    ours = SoftmaxRegression(**TIGHT).fit(X, y.astype(bool))
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y.astype(bool))
    assert_same_model(ours, theirs)
    assert ours.predict(X).dtype == bool


def test_lists_and_shapes_of_attributes():
    ours = SoftmaxRegression().fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [0.5, 1.5]], [0, 1, 1, 0])
    theirs = LogisticRegression().fit(
        [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [0.5, 1.5]], [0, 1, 1, 0]
    )
    for name in ("coef_", "intercept_", "classes_", "n_iter_"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape, name
    assert ours.n_iter_.dtype == theirs.n_iter_.dtype
    assert ours.n_features_in_ == theirs.n_features_in_ == 2
    assert_array_equal(
        SoftmaxRegression(fit_intercept=False).fit([[0.0], [1.0], [2.0]], [0, 1, 2]).intercept_,
        np.zeros(3),
    )


def test_a_run_tells_what_it_did():
    X, y = make_data(3)
    estimator = SoftmaxRegression().fit(X, y)
    assert [one["pass"] for one in estimator.history_] == list(range(1, estimator.n_passes_ + 1))
    assert all(one["rows"] == len(y) for one in estimator.history_)
    assert estimator.history_[-1]["objective"] == estimator.objective_
    assert estimator.status_.startswith("Converged after")
    assert isinstance(estimator.model_, dsoftmax.Model)


# --- kinds of X ----------------------------------------------------------------------------------------------------------


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
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as client:
        for engine in ("auto", "cluster", client):
            there = clone(SoftmaxRegression(engine=engine)).fit(lazy, y)
            assert_array_equal(there.model_.theta, here.model_.theta)
        assert there.score(lazy, da.from_array(y, chunks=100)) == here.score(X, y)
    with pytest.raises(OptionError, match="client"):
        SoftmaxRegression(engine="cluster").fit(X, y)


# --- lazy predictions ----------------------------------------------------------------------------------------------------


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


class CountingEngine(SerialEngine):
    """Counts passes, and whether its user closed it."""

    def __init__(self):
        super().__init__()
        self.passes, self.closed = 0, False

    def total(self, visit, source):
        self.passes += 1
        assert len(source.chunk_rows) > 1
        return super().total(visit, source)

    def close(self):
        self.closed = True


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


# --- behaviours ----------------------------------------------------------------------------------------------------------


def test_stopping_early_warns_with_the_status():
    X, y = make_data(3)
    with pytest.warns(ConvergenceWarning, match="Stopped at max_iter = 2 iterations") as warned:
        estimator = SoftmaxRegression(max_iter=2, solver="lbfgs").fit(X, y)
    assert str(warned[0].message) == estimator.status_
    assert warned[0].filename == __file__
    assert_array_equal(estimator.n_iter_, [2])
    assert dsoftmax.ConvergenceWarning is ConvergenceWarning


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("solver", ["auto", "lbfgs", "lbfgs-kronecker", "newton"])
def test_training_starts_from_given_coefficients(n_classes, solver):
    X, y = make_data(n_classes)
    theirs = LogisticRegression(C=2.0, solver="newton-cholesky", **THEIRS).fit(X, y)
    ours = SoftmaxRegression(C=2.0, solver=solver, tol=1e-6)
    ours.fit(X, y, coef_init=theirs.coef_, intercept_init=theirs.intercept_)
    assert ours.n_passes_ == 2  # the statistics, and one look at what is the optimum already
    assert_array_equal(ours.n_iter_, [0])
    assert_same_model(ours, theirs)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"coef_init": np.zeros((3, 7))}, DataError, r"coef_init has shape \(3, 7\)"),
        (
            {"coef_init": np.zeros((3, 5)), "intercept_init": [0.0]},
            DataError,
            "coef_init has shape",
        ),
        ({"coef_init": np.full((3, 5), np.nan)}, DataError, "finite numbers to start from"),
        ({"coef_init": np.zeros((4, 5))}, DataError, "The coefficients to start from have shape"),
        ({"intercept_init": np.zeros(3)}, OptionError, "does nothing without coef_init"),
    ],
)
def test_coefficients_that_do_not_fit_are_refused(given, error, message):
    X, y = make_data(3)
    assert X.shape[1] == 5
    with pytest.raises(error, match=message):
        SoftmaxRegression().fit(X, y, **given)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_warm_start_saves_passes_and_ends_at_the_same_optimum(n_classes):
    X, y = make_data(n_classes)
    theirs = LogisticRegression(C=2.0, solver="newton-cholesky", **THEIRS).fit(X, y)
    cold = SoftmaxRegression(C=2.0, solver="lbfgs", **TIGHT).fit(X, y)
    warm = SoftmaxRegression(C=1.99, solver="lbfgs", warm_start=True, **TIGHT).fit(X, y)
    warm.set_params(C=2.0).fit(X, y)
    assert_same_model(warm, theirs)
    assert warm.n_passes_ < cold.n_passes_
    warm.fit(X, y)
    assert (
        warm.n_passes_ == 2
    )  # the statistics, and one look at a point that is the optimum already
    assert_array_equal(warm.n_iter_, [0])


def test_warm_start_from_coefficients_that_were_changed():
    X, y = make_data(2)
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y)
    ours = SoftmaxRegression(warm_start=True, **TIGHT).fit(X, y)
    ours.coef_, ours.intercept_ = -theirs.coef_, -theirs.intercept_
    assert_allclose(ours.decision_function(X), -theirs.decision_function(X), atol=1e-12)
    ours.coef_, ours.intercept_ = theirs.coef_, theirs.intercept_
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-12)
    assert ours.fit(X, y).n_passes_ == 2


def test_warm_start_without_intercepts_holds_them_at_zero():
    X, y = make_data(3)
    ours = (
        SoftmaxRegression(warm_start=True, **TIGHT)
        .fit(X, y)
        .set_params(fit_intercept=False)
        .fit(X, y)
    )
    theirs = LogisticRegression(fit_intercept=False, solver="newton-cholesky", **THEIRS).fit(X, y)
    assert_same_model(ours, theirs)
    assert_array_equal(ours.intercept_, np.zeros(3))


def test_warm_start_on_other_data_says_so():
    X, y = make_data(3)
    estimator = SoftmaxRegression(warm_start=True, engine="serial").fit(X, y)
    with pytest.raises(DataError, match=r"X has 4 features.*start from have 5.*warm_start=False"):
        estimator.fit(X[:, :4], y)
    with pytest.raises(DataError, match=r"\(3, 6\); needed is \(2, 6\).*same classes and features"):
        estimator.fit(X, np.minimum(y, 1))
    with pytest.raises(
        DataError, match=r"classes are \[1 2 3\].*belong to \[0 1 2\].*warm_start=False"
    ):
        estimator.fit(X, y + 1)
    assert_array_equal(estimator.classes_, [0, 1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spool": 3}, r"spool=3 is no path; expected"),
        ({"spool_limit": "1GiB"}, r"spool_limit does nothing without spool=DIRECTORY"),
        ({"spool": "here", "engine": "serial"}, r"spool does nothing for engine='serial'"),
        (
            {"spool": "here", "engine": SerialEngine()},
            r"spool does nothing for an engine that was made before",
        ),
    ],
)
def test_a_spool_that_nothing_would_use_is_an_error(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=message):
        SoftmaxRegression(**options).fit(*make_data(2))


def test_the_limit_of_a_spool_reaches_it(tmp_path):
    assert SoftmaxRegression(spool=tmp_path, spool_limit="2KiB")._spool_to().limit == 2048


def test_parameters_clone_and_pickle():
    given = {
        "C": 0.5,
        "solver": "newton",
        "class_weight": {0: 2.0},
        "engine": "serial",
        "memory_limit": "1GiB",
    }
    estimator = SoftmaxRegression(**given)
    names = [
        "C",
        "class_weight",
        "classes",
        "dtype",
        "engine",
        "fit_intercept",
        "kernel",
        "l1_ratio",
        "max_iter",
        "memory_limit",
        "missing_chunks",
        "n_iter_no_change",
    ]
    names += ["solver", "spool", "spool_limit", "tol", "validation_fraction", "warm_start"]
    assert sorted(estimator.get_params()) == names
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    assert copied.class_weight is not estimator.class_weight
    assert copied.set_params(C=3.0).C == 3.0
    assert estimator.C == 0.5
    with pytest.raises(ValueError, match="penalty"):
        estimator.set_params(penalty="l1")
    X, y = make_data(2)
    estimator = SoftmaxRegression().fit(X, y)
    again = pickle.loads(pickle.dumps(estimator))
    assert_array_equal(again.predict_proba(X), estimator.predict_proba(X))
    assert not hasattr(clone(estimator), "coef_")


def test_a_client_is_not_pickled_but_copied_and_cloned():
    distributed = pytest.importorskip("distributed")
    X, y = make_data(2)
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as client:
        estimator = SoftmaxRegression(engine=client).fit(X, y)
        with pytest.raises(
            OptionError,
            match=r"engine=<Client.* cannot be pickled. Call set_params\(engine='auto'\) before",
        ):
            pickle.dumps(estimator)
        assert copy.copy(estimator).engine is clone(estimator).engine is client
        again = pickle.loads(pickle.dumps(copy.copy(estimator).set_params(engine="auto")))
    assert_array_equal(again.predict(X), estimator.set_params(engine="auto").predict(X))


def test_clones_share_an_engine_and_keep_metadata_requests():
    engine = CountingEngine()
    estimator = SoftmaxRegression(engine=engine)
    with config_context(enable_metadata_routing=True):
        estimator.set_fit_request(sample_weight=True)
        copied = clone(estimator)
        requests = copied.get_metadata_routing().fit.requests
        others = ("X_val", "y_val", "sample_weight_val", "coef_init", "intercept_init")
        assert requests == {"sample_weight": True, **dict.fromkeys(others)}
    assert copied.engine is engine
    assert estimator.engine is engine


def test_pipeline_equals_scikit_learns():
    X, y = make_data(3)
    X = X * [1, 100, 0.01, 1, 1]
    ours = make_pipeline(StandardScaler(), SoftmaxRegression(**TIGHT)).fit(X, y)
    theirs = make_pipeline(
        StandardScaler(), LogisticRegression(solver="newton-cholesky", **THEIRS)
    ).fit(X, y)
    assert_same_model(ours[-1], theirs[-1])
    assert_array_equal(ours.predict(X), theirs.predict(X))


def test_grid_search_equals_scikit_learns():
    X, y = make_data(3, n=200)
    grid = {"C": [0.01, 1.0], "class_weight": [None, "balanced"]}
    ours = GridSearchCV(SoftmaxRegression(**TIGHT), grid, cv=3).fit(X, y)
    theirs = GridSearchCV(LogisticRegression(solver="newton-cholesky", **THEIRS), grid, cv=3).fit(
        X, y
    )
    assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-12
    )
    assert ours.best_params_ == theirs.best_params_


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
def test_score_refuses_labels_of_another_kind(lazy):
    X, y = make_data(3)
    words = np.array(["a", "b", "c"])[y]
    rows = da.from_array(X, chunks=(100, -1)) if lazy else X
    with pytest.raises(ValueError, match="y holds strings; expected numbers" if lazy else "type"):
        SoftmaxRegression().fit(X, y).score(rows, words)


@pytest.mark.parametrize("as_dask", [False, True])
def test_a_column_of_labels_warns(as_dask):
    X, y = make_data(3)
    column = da.from_array(y[:, None], chunks=(100, 1)) if as_dask else y[:, None]
    with pytest.warns(DataConversionWarning, match="column-vector") as warned:
        ours = SoftmaxRegression(**TIGHT).fit(X, column)
    assert warned[0].filename == __file__
    assert_same_model(ours, LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y))


def test_extreme_logits_keep_finite_log_probabilities():
    X, y = make_data(3)
    estimator = SoftmaxRegression().fit(X, y)
    far = X[:20] * 1e5
    logits = estimator.decision_function(far)
    assert (estimator.predict_proba(far) == 0).any()
    assert_allclose(estimator.predict_log_proba(far), log_softmax(logits, axis=1), rtol=1e-12)


# --- errors: what was found, what was needed, what to do -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "lbfsg"}, r"solver='lbfsg' is unknown. Did you mean 'lbfgs'\?"),
        ({"engine": "thread"}, r"engine='thread' is unknown. Did you mean 'threads'\?"),
        ({"missing_chunks": "eror"}, r"missing_chunks='eror' is unknown. Did you mean 'error'\?"),
        (
            {"class_weight": "balance"},
            r"class_weight='balance' is unknown; expected 'balanced', a dict",
        ),
        ({"C": 0}, r"C=0; needed is a positive number, or inf"),
        ({"C": -1.0}, r"C=-1.0; needed is a positive number, or inf"),
        ({"C": "1"}, r"C='1'; needed is a positive number, or inf"),
        ({"C": np.nan}, r"C=nan; needed is a positive number, or inf"),
        ({"tol": -1}, r"tol=-1; needed is a number of at least 0"),
        ({"max_iter": 1.5}, r"max_iter=1.5; needed is a whole number of at least 0"),
        ({"dtype": "int8"}, r"dtype='int8'; needed is 'float32', 'float64' or None"),
        ({"memory_limit": "2 lots"}, r"memory_limit='2 lots' is no size; expected .*'2GiB'"),
        ({"spool": "here", "spool_limit": 2.5}, r"spool_limit=2.5 is no size"),
        ({"fit_intercept": "no"}, r"fit_intercept='no'; needed is True or False"),
        ({"fit_intercept": 1}, r"fit_intercept=1; needed is True or False"),
    ],
)
def test_options_that_make_no_sense(options, message):
    X, y = make_data(2)
    with pytest.raises(OptionError, match=message):
        SoftmaxRegression(**options).fit(X, y)


def test_booleans_of_numpy_and_whole_floats_are_options_too(tmp_path):
    X, y = make_data(2)
    estimator = SoftmaxRegression(fit_intercept=np.bool_(False), memory_limit=1e9).fit(X, y)
    assert estimator.intercept_ == 0
    save_model(estimator.model_, tmp_path / "model")


def test_what_is_no_array_is_refused_by_every_method(tmp_path):
    X, y = make_data(3)
    group = zarr.create_group(tmp_path)
    rows, labels = (
        group.create_array("X", data=X, chunks=(100, 5)),
        group.create_array("y", data=y, chunks=(100,)),
    )
    estimator = SoftmaxRegression().fit(X, y)
    for bad in (group, str(tmp_path / "X"), tmp_path / "X"):
        for name, use in (
            ("X", lambda bad: estimator.fit(bad, labels)),
            ("X", lambda bad: estimator.predict(bad)),
            ("X", lambda bad: estimator.score(bad, y)),
            ("X", lambda bad: estimator.uncertainty(bad, y)),
            ("X", lambda bad: SoftmaxRegressionCV().fit(bad, y)),
            ("y", lambda bad: estimator.fit(rows, bad)),
            ("y", lambda bad: estimator.score(rows, bad)),
            ("y", lambda bad: estimator.score(X, bad)),
            ("y", lambda bad: estimator.uncertainty(X, bad)),
            ("X_val", lambda bad: estimator.fit(X, y, X_val=bad, y_val=y)),
            ("y_val", lambda bad: estimator.fit(X, y, X_val=X, y_val=bad)),
            ("sample_weight", lambda bad: estimator.fit(X, y, bad)),
        ):
            with pytest.raises(DataError, match=rf"^{name} is .*; expected (one|an) array"):
                use(bad)
    with pytest.raises(DataError, match=r"y is sparse, of shape \(600, 1\)"):
        estimator.fit(X, scipy.sparse.csr_array(y[:, None]))


@pytest.mark.parametrize("words", [False, True])
def test_validation_labels_of_another_kind_are_named_as_theirs(words):
    X, y = make_data(3)
    labels = np.array(["a", "b", "c"])[y]
    with pytest.raises(
        DataError,
        match=r"y_val rows 0–599: label '?[012abc]'? \(row 0\) is not among the 3 classes",
    ):
        SoftmaxRegression().fit(X, labels if words else y, X_val=X, y_val=y if words else labels)


def test_one_number_weighs_every_row_as_in_scikit_learn():
    X, y = make_data(3)
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y, 2.0)
    for rows in (X, scipy.sparse.csr_array(X), da.from_array(X, chunks=(100, -1))):
        assert_same_model(SoftmaxRegression(**TIGHT).fit(rows, y, 2.0), theirs)
    with pytest.raises(DataError, match=r"sample_weight row 0: the weight is -1.0"):
        SoftmaxRegression().fit(X, y, -1)


def test_a_class_weight_for_no_class():
    X, y = make_data(2)
    with pytest.raises(
        DataError,
        match=r"class_weight names 5, which is not among the 2 classes \[0 1\]. Remove it",
    ):
        SoftmaxRegression(class_weight={5: 2.0}).fit(X, y)


def test_a_memory_limit_that_is_too_small():
    X, y = make_data(2)
    with pytest.raises(MemoryLimitError, match=r"memory allowed is 10 MiB.*Allow at least"):
        SoftmaxRegression(memory_limit="10MiB", engine="threads").fit(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda X, y, w: (X, np.ones_like(y), w),
            r"at least 2 classes in the data.*only one class: .*1.*Check that the labels",
        ),
        (
            lambda X, y, w: (X, y + 0.5, w),
            r"y row 0: the label is .*\.5\. Unknown label type: continuous.*use a regression",
        ),
        (
            lambda X, y, w: (X, y, np.where(np.arange(len(y)) == 250, -1.0, w)),
            r"sample_weight row 250: the weight is -1.0; expected",
        ),
        (lambda X, y, w: (X, y, 0 * w), r"weights are all zero; expected a positive sum"),
        (
            lambda X, y, w: (X, y[:-1], w),
            r"y has 599 rows and X has 600; expected one value per row. Check",
        ),
        (
            lambda X, y, w: (X, y, w[:-1]),
            r"sample_weight has 599 rows and X has 600; expected one value per row. Check",
        ),
        (
            lambda X, y, w: (X[:, :, None], y, w),
            r"X has 3 dimensions \(600, 5, 1\); expected two.*Reshape",
        ),
        (
            lambda X, y, w: (X, np.stack([y, y], 1), w),
            r"y has shape \(600, 2\); expected one value per row",
        ),
        (
            lambda X, y, w: (X, np.where(np.arange(len(y)) == 7, np.nan, y), w),
            r"y row 7: the label is nan.*expected a class",
        ),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_data_that_cannot_answer(change, message, lazy):
    X, y = make_data(2)
    arrays = change(X, y, np.ones(len(y)))
    if lazy:
        arrays = [da.from_array(values, chunks=(100, *values.shape[1:])) for values in arrays]
    with pytest.raises(DataError, match=message):
        SoftmaxRegression(engine="serial").fit(*arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["memory", "csr", "dask", "zarr"])
def test_nan_is_named_by_row_and_column(kind, value, tmp_path):
    X, y = make_data(3)
    estimator = SoftmaxRegression().fit(X, y)
    X[431, 2] = value
    bad = {
        "memory": lambda: X,
        "csr": lambda: scipy.sparse.csr_array(X),
        "dask": lambda: da.from_array(X, chunks=(100, -1)),
        "zarr": lambda: stored(tmp_path, "X", X, (100, 5)),
    }[kind]()
    with pytest.raises(
        DataError,
        match=rf"X row 431, column 2: the value is {value}; expected finite numbers.*Fill in such values",
    ):
        SoftmaxRegression().fit(bad, y)
    row = 31 if kind == "dask" else 431  # a lazy block does not know where it lies
    for output in OUTPUTS:
        with pytest.raises(DataError, match=rf"row {row}, column 2: the value is {value}"):
            np.asarray(getattr(estimator, output)(bad))


@pytest.mark.parametrize("lazy", [False, True])
def test_rows_that_are_not_a_table(lazy):
    X, y = make_data(2)
    estimator = SoftmaxRegression().fit(X, y)
    for rows in (X[0], X[:, :, None]):
        with pytest.raises(
            DataError, match=r"X has [13] dimensions .*; expected two, rows and features. Reshape"
        ):
            estimator.predict(da.from_array(rows) if lazy else rows)


@pytest.mark.parametrize("kind", ["memory", "dask", "zarr"])
def test_another_number_of_features(kind, tmp_path):
    X, y = make_data(3)
    estimator = SoftmaxRegression().fit(X, y)
    narrow = X[:, :3]
    if kind == "dask":
        narrow = da.from_array(narrow, chunks=(100, -1))
    if kind == "zarr":
        narrow = stored(tmp_path, "X", narrow, (100, 3))
    for output in OUTPUTS:
        with pytest.raises(
            ValueError,
            match=r"X has 3 features, but SoftmaxRegression is expecting 5 .*Pass the columns",
        ):
            getattr(estimator, output)(narrow)
    with pytest.raises(ValueError, match=r"X has 3 features.*expecting 5 .*Pass the columns"):
        estimator.score(narrow, y)


def test_predict_before_fit():
    for method in OUTPUTS:
        with pytest.raises(NotFittedError, match=r"not fitted yet. Call 'fit'"):
            getattr(SoftmaxRegression(), method)([[1.0]])
    with pytest.raises(NotFittedError, match=r"not fitted yet. Call 'fit'"):
        SoftmaxRegression().score(da.ones((4, 1)), [0, 1, 0, 1])


@pytest.mark.parametrize("lazy", [False, True])
def test_no_labels(lazy):
    X, _ = make_data(2)
    with pytest.raises(
        ValueError, match=r"requires y to be passed, but the target y is None. Pass the label"
    ):
        SoftmaxRegression().fit(da.from_array(X) if lazy else X, None)


# --- without scikit-learn ------------------------------------------------------------------------------------------------


def test_without_scikit_learn(tmp_path):
    script = """
        import sys, warnings
        sys.modules["sklearn"] = None
        import numpy as np
        import scipy.sparse
        from dsoftmax import ConvergenceWarning, SoftmaxRegression, errors

        assert ConvergenceWarning is errors.ConvergenceWarning
        estimator = SoftmaxRegression(C=2.0, engine="serial", tol=1e-9, max_iter=1000, dtype="float64")
        assert repr(estimator) == (
            "SoftmaxRegression(C=2.0, tol=1e-09, max_iter=1000, engine='serial', dtype='float64')"
        ), repr(estimator)
        assert estimator.get_params()["solver"] == "auto"
        assert estimator.set_params(C=0.3) is estimator and estimator.C == 0.3
        try:
            estimator.set_params(solvr="lbfgs")
        except errors.OptionError as error:
            assert "Did you mean 'solver'?" in str(error)
        else:
            raise AssertionError("an unknown parameter was accepted")
        try:
            estimator.predict([[1.0]])
        except errors.NotFittedError as error:
            assert "Call 'fit'" in str(error)
        else:
            raise AssertionError("predicted before fit")
        data = np.load(sys.argv[1])
        X, y = data["X"], data["y"]
        estimator.fit(X.tolist(), y)
        np.testing.assert_allclose(estimator.coef_, data["coef"], atol=1e-6)
        np.testing.assert_array_equal(estimator.predict(X), data["predicted"])
        np.testing.assert_array_equal(estimator.predict(scipy.sparse.csr_array(X)), data["predicted"])
        assert estimator.score(X, y) == float(data["score"])
        for bad in (X[:, :2], np.where(X > 0, np.nan, X), X[0]):
            try:
                estimator.predict(bad)
            except errors.DataError:
                continue
            raise AssertionError("bad rows were predicted")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            estimator.set_params(max_iter=1, solver="lbfgs").fit(X, y[:, None])
        assert [one.category for one in warned] == [UserWarning, ConvergenceWarning], warned
        assert not any(name.startswith("sklearn.") for name in sys.modules)
    """
    X, y = make_data(3)
    theirs = LogisticRegression(C=0.3, solver="newton-cholesky", **THEIRS).fit(X, y)
    path = tmp_path / "data.npz"
    np.savez(
        path, X=X, y=y, coef=theirs.coef_, predicted=theirs.predict(X), score=theirs.score(X, y)
    )
    run_python(script.replace("sys.argv[1]", repr(str(path))))


def test_examples_in_docstrings():
    modules = (dsoftmax.estimators.predictions, dsoftmax.estimators.regression)
    found = [doctest.testmod(module) for module in modules]
    assert sum(one.attempted for one in found) > 8
    assert all(one.failed == 0 for one in found)


def test_importing_the_package_does_not_import_scikit_learn():
    run_python(
        "import dsoftmax, sys; assert 'sklearn' not in sys.modules and 'dask' not in sys.modules"
    )


def test_given_classes_may_have_no_rows_and_other_labels_are_refused():
    X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["a", "c", "a", "c"])
    model = SoftmaxRegression(classes=["a", "b", "c"]).fit(X, y)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.predict_proba(X).shape == (4, 3)
    with pytest.raises(ValueError, match=r"label 'c' \(row 1\) is not among the 2 classes \[a b\]"):
        SoftmaxRegression(classes=["a", "b"]).fit(X, y)
