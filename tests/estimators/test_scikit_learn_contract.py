"""The estimators obey scikit-learn's contract: its checks, clones, pickles, pipelines, searches."""

import copy
import doctest
import pickle

import dask.array as da
import numpy as np
import pytest
from estimator_cases import (
    OUTPUTS,
    THEIRS,
    TIGHT,
    CountingEngine,
    assert_same_model,
    make_data,
    run_python,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import dsoftmax.estimators.cross_validation
import dsoftmax.estimators.predictions
import dsoftmax.estimators.regression
import dsoftmax.exports.methods
import dsoftmax.results.imported
import dsoftmax.results.model
import dsoftmax.results.stored_model
import dsoftmax.system.units
from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.errors import OptionError

NEEDS_ARRAY_API = {
    "check_array_api_input": "needs SCIPY_ARRAY_API=1 before SciPy is imported, as in the next test"
}
ESTIMATORS = [
    SoftmaxRegression(),
    SoftmaxRegression(engine="serial"),
    SoftmaxRegression(dtype="float64", memory_limit="2GiB"),
    SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=2, engine="serial"),
]


# Some checks stop training after a few iterations on purpose, and some fit labels in a column.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=lambda one: NEEDS_ARRAY_API, xfail_strict=True
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_the_check_that_is_skipped_above_passes_where_it_can_run():
    script = """
        import warnings
        from sklearn.utils.estimator_checks import estimator_checks_generator
        from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
        warnings.simplefilter("ignore")
        for estimator in (
            SoftmaxRegression(engine="serial"),
            SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=2, engine="serial"),
        ):
            for given, check in estimator_checks_generator(estimator):
                if check.func.__name__ == "check_array_api_input":
                    check(given)
                    print("passed")
    """
    assert run_python(script, SCIPY_ARRAY_API="1").split() == ["passed", "passed"]


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
        "feature_dim",
        "fit_intercept",
        "kernel",
        "l1_ratio",
        "max_iter",
        "memory_limit",
        "missing_chunks",
        "n_iter_no_change",
        "nodata",
    ]
    names += [
        "categorical_features",
        "handle_unknown",
        "scale",
        "solver",
        "spool",
        "spool_limit",
        "tol",
        "unlabelled",
    ]
    names += ["validation_fraction", "warm_start"]
    assert sorted(estimator.get_params()) == sorted(names)
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
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"
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


@pytest.mark.parametrize("as_dask", [False, True])
def test_a_column_of_labels_warns(as_dask):
    X, y = make_data(3)
    column = da.from_array(y[:, None], chunks=(100, 1)) if as_dask else y[:, None]
    with pytest.warns(DataConversionWarning, match="column-vector") as warned:
        ours = SoftmaxRegression(**TIGHT).fit(X, column)
    assert warned[0].filename == __file__
    assert_same_model(ours, LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y))


def test_predict_before_fit():
    for method in OUTPUTS:
        with pytest.raises(NotFittedError, match=r"not fitted yet. Call 'fit'"):
            getattr(SoftmaxRegression(), method)([[1.0]])
    with pytest.raises(NotFittedError, match=r"not fitted yet. Call 'fit'"):
        SoftmaxRegression().score(da.ones((4, 1)), [0, 1, 0, 1])


def test_without_scikit_learn(tmp_path):
    script = """
        import sys, warnings
        sys.modules["sklearn"] = None
        import numpy as np
        import scipy.sparse
        from dsoftmax import ConvergenceWarning, SoftmaxRegression, errors

        assert ConvergenceWarning is errors.ConvergenceWarning
        options = {"engine": "serial", "tol": 1e-9, "max_iter": 1000, "dtype": "float64"}
        estimator = SoftmaxRegression(C=2.0, **options)
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
        found = estimator.predict(scipy.sparse.csr_array(X))
        np.testing.assert_array_equal(found, data["predicted"])
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


def test_importing_the_package_does_not_import_scikit_learn():
    run_python(
        "import dsoftmax, sys; assert 'sklearn' not in sys.modules and 'dask' not in sys.modules"
    )


def test_examples_in_docstrings():
    modules = (
        dsoftmax.estimators.predictions,
        dsoftmax.estimators.regression,
        dsoftmax.estimators.cross_validation,
        dsoftmax.results.model,
        dsoftmax.exports.methods,
        dsoftmax.results.imported,
        dsoftmax.results.stored_model,
        dsoftmax.system.units,
    )
    found = [doctest.testmod(module) for module in modules]
    assert all(one.attempted > 0 for one in found)
    assert all(one.failed == 0 for one in found)
