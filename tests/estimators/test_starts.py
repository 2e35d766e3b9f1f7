"""Training starts from given coefficients, or from those of the last fit."""

import numpy as np
import pytest
from estimator_cases import THEIRS, TIGHT, assert_same_model, make_data
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import DataError, OptionError


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
def test_start_coefficients_of_another_shape_are_refused(given, error, message):
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


def test_warm_start_without_intercepts_keeps_them_zero():
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
    with pytest.raises(DataError, match=r"\(3, 6\).* \(2, 6\).*same classes and features"):
        estimator.fit(X, np.minimum(y, 1))
    with pytest.raises(
        DataError, match=r"classes are \[1 2 3\].*belong to \[0 1 2\].*warm_start=False"
    ):
        estimator.fit(X, y + 1)
    assert_array_equal(estimator.classes_, [0, 1, 2])
