"""A model and scikit-learn's ``LogisticRegression`` predict the same, both ways."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from exported import CLASSES, STEPS, expected, model_of, rows_of
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV, from_sklearn
from dsoftmax.errors import DataError, OptionError

X = rows_of()


def labels(classes):
    """A label for every row; each occurs six times and more."""
    hidden = model_of(classes, seed=3)
    found, _ = expected(hidden, X)
    found[: 6 * len(classes)] = np.tile(classes, 6)
    return found


@pytest.mark.parametrize("kind", CLASSES)
def test_a_model_becomes_a_fitted_logistic_regression(kind):
    model = model_of(CLASSES[kind])
    found = model.to_sklearn()
    y, P = expected(model, X)
    check_is_fitted(found)
    assert type(found) is LogisticRegression
    assert found.coef_.shape == ((1, 4) if len(model.classes) == 2 else (len(model.classes), 4))
    assert_array_equal(found.predict(X), y)
    assert found.predict(X).dtype == model.classes.dtype
    assert_allclose(found.predict_proba(X), P, rtol=0, atol=1e-12)
    assert_allclose(pickle.loads(pickle.dumps(found)).predict_proba(X), P, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", CLASSES)
def test_there_and_back(kind):
    classes = CLASSES[kind]
    theirs = LogisticRegression(C=3.0).fit(X, labels(classes))
    model = from_sklearn(theirs)
    assert_array_equal(model.predict(X), theirs.predict(X))
    assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-12)
    again = model.to_sklearn()
    assert_allclose(again.coef_, theirs.coef_, rtol=1e-15, atol=1e-15)
    assert_array_equal(again.classes_, theirs.classes_)
    assert_array_equal(again.predict(X), theirs.predict(X))
    assert_allclose(again.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["strings", "two integers", "booleans"])
def test_an_estimator_has_the_same_predictions(kind):
    ours = SoftmaxRegression(C=2.0, l1_ratio=0.25, dtype="float64", engine="serial")
    ours.fit(X, labels(CLASSES[kind]))
    found = ours.to_sklearn()
    assert_array_equal(found.classes_, ours.classes_)
    assert found.classes_.dtype == ours.classes_.dtype
    assert_allclose(found.predict_proba(X), ours.predict_proba(X), rtol=0, atol=1e-12)
    assert (found.C, found.l1_ratio, found.solver) == (2.0, 0.25, "saga")
    found.fit(X, labels(CLASSES[kind]))  # its own solver takes the penalty


def test_a_choice_of_c_and_changed_or_sparse_coefficients():
    y = labels(CLASSES["strings"])
    chosen = SoftmaxRegressionCV(Cs=[0.1, 10.0], cv=2, engine="serial", dtype="float64").fit(X, y)
    P = chosen.predict_proba(X)
    assert_allclose(chosen.to_sklearn().predict_proba(X), P, rtol=0, atol=1e-12)
    chosen.sparsify()
    assert_allclose(chosen.to_sklearn().predict_proba(X), P, rtol=0, atol=1e-12)
    chosen.densify().coef_[:] = 0
    assert_array_equal(chosen.to_sklearn().coef_, np.zeros((3, 4)))


def test_names_of_features_are_kept():
    frame = pd.DataFrame(X, columns=list("abcd"))
    y = labels(CLASSES["strings"])
    ours = SoftmaxRegression(engine="serial").fit(frame, y).to_sklearn()
    assert ours.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        ours.predict(frame[list("bacd")])
    theirs = from_sklearn(LogisticRegression().fit(frame, y))
    assert theirs.feature_names.tolist() == list("abcd")
    assert theirs.to_sklearn().feature_names_in_.tolist() == list("abcd")


def test_a_warm_start_from_scikit_learn_begins_at_its_optimum():
    y = labels(CLASSES["strings"])
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(X, y)
    model = from_sklearn(theirs)
    cold = SoftmaxRegression(tol=1e-7, engine="serial", solver="lbfgs").fit(X, y)
    warm = SoftmaxRegression(tol=1e-7, engine="serial", solver="lbfgs")
    warm.fit(X, y, coef_init=model.coef_, intercept_init=model.intercept_)
    assert warm.n_iter_[0] <= 1 < cold.n_iter_[0]
    assert_allclose(warm.coef_, theirs.coef_, atol=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_models_that_do_more_are_refused(name):
    model = model_of(CLASSES["strings"], about=STEPS[name])
    with pytest.raises(OptionError, match=r"cannot hold these steps.*JSON.*dsoftmax\.Model"):
        model.to_sklearn()
    bare = replace(model, about={}).to_sklearn()
    assert_allclose(bare.predict_proba(X), expected(model, X)[1], atol=1e-12)


def test_a_fitted_estimator_with_categories_or_skipped_rows_is_refused():
    frame = pd.DataFrame({"a": ["x", "y"] * 30, "b": X[:, 0]})
    y = labels(CLASSES["strings"])
    coded = SoftmaxRegression(categorical_features="from_dtype", engine="serial").fit(frame, y)
    with pytest.raises(OptionError, match="one-hot"):
        coded.to_sklearn()
    skipping = SoftmaxRegression(nodata=-9999, engine="serial").fit(X, y)
    with pytest.raises(OptionError, match="-9999"):
        skipping.to_sklearn()
    with pytest.raises(NotFittedError):
        SoftmaxRegression().to_sklearn()


def test_other_classifiers_of_scikit_learn():
    y, two = labels(CLASSES["strings"]), labels(CLASSES["two strings"])
    for fitted in (
        LogisticRegressionCV(
            Cs=[1.0], cv=2, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy"
        ).fit(X, y),
        LogisticRegression().fit(X, y).sparsify(),
        SGDClassifier(loss="log_loss", random_state=0).fit(X, two),
        LogisticRegression(max_iter=500).fit(X.astype(np.float32), y),
    ):
        found = from_sklearn(fitted).predict_proba(X)
        assert_allclose(found, fitted.predict_proba(X), rtol=0, atol=1e-6)
    for fitted, said in (
        (SGDClassifier(loss="log_loss", random_state=0).fit(X, y), "not softmax"),
        (RidgeClassifier().fit(X, y), "no probabilities"),
        (OneVsRestClassifier(LogisticRegression()).fit(X, y), "no coefficients"),
        (make_pipeline(LogisticRegression()).fit(X, y), "last step"),
        (LogisticRegression(), "Call fit"),
    ):
        with pytest.raises(DataError, match=said):
            from_sklearn(fitted)
