"""The estimator finds scikit-learn's optimum, with its shapes, weights and kinds of labels."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from estimator_cases import THEIRS, TIGHT, assert_same_model, make_data, objective
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import dsoftmax.estimators.predictions
import dsoftmax.estimators.regression
from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.errors import DataError
from dsoftmax.solvers.table import SOLVERS


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


def test_one_number_weighs_every_row_as_in_scikit_learn():
    X, y = make_data(3)
    theirs = LogisticRegression(solver="newton-cholesky", **THEIRS).fit(X, y, 2.0)
    for rows in (X, scipy.sparse.csr_array(X), da.from_array(X, chunks=(100, -1))):
        assert_same_model(SoftmaxRegression(**TIGHT).fit(rows, y, 2.0), theirs)
    with pytest.raises(DataError, match=r"sample_weight row 0: the weight is -1.0"):
        SoftmaxRegression().fit(X, y, -1)


def test_given_classes_may_have_no_rows_and_other_labels_are_refused():
    X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["a", "c", "a", "c"])
    model = SoftmaxRegression(classes=["a", "b", "c"]).fit(X, y)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.predict_proba(X).shape == (4, 3)
    with pytest.raises(ValueError, match=r"label 'c' \(row 1\) is not among the 2 classes \[a b\]"):
        SoftmaxRegression(classes=["a", "b"]).fit(X, y)


def test_stopping_early_warns_with_the_status():
    X, y = make_data(3)
    with pytest.warns(ConvergenceWarning, match="Stopped at max_iter = 2 iterations") as warned:
        estimator = SoftmaxRegression(max_iter=2, solver="lbfgs").fit(X, y)
    assert str(warned[0].message) == estimator.status_
    assert warned[0].filename == __file__
    assert_array_equal(estimator.n_iter_, [2])
    assert dsoftmax.ConvergenceWarning is ConvergenceWarning


@pytest.mark.parametrize("kind", [SoftmaxRegression, SoftmaxRegressionCV])
def test_a_fit_that_fails_leaves_no_trace(kind):
    X, y = make_data(3)
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    options = {"cv": 2, "Cs": [1.0]} if kind is SoftmaxRegressionCV else {}
    bad = frame.rename(columns=str.upper).assign(more=np.nan)
    estimator = kind(engine="serial", **options)
    for rows in (bad, da.from_array(bad.to_numpy(), chunks=(100, -1))):
        with pytest.raises(DataError, match="the value is nan"):
            estimator.fit(rows, y)
        assert not [name for name in vars(estimator) if name.endswith("_")]
    before = dict(vars(estimator.fit(frame, y)))
    with pytest.raises(DataError, match="the value is nan"):
        estimator.fit(bad, y)
    assert vars(estimator) == before
    assert estimator.n_features_in_ == 5


def test_a_validation_set_that_fails_leaves_no_trace():
    X, y = make_data(3)
    estimator = SoftmaxRegression(engine="serial")
    with pytest.raises(DataError, match="X_val"):
        estimator.fit(X, y, X_val=X[:, :3], y_val=y)
    assert not [name for name in vars(estimator) if name.endswith("_")]
