"""The estimator that chooses C: scikit-learn's contract, its choice, and what a grid shares."""

import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer

from dsoftmax import SoftmaxRegressionCV
from dsoftmax.data.groups import group_keys
from dsoftmax.errors import DataError, OptionError
from dsoftmax.estimators.sklearn import ConvergenceWarning


def make_data(n_classes, n=400, p=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    return X, (X @ rng.normal(size=(p, n_classes)) + rng.gumbel(size=(n, n_classes))).argmax(axis=1)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_paths_scores_and_the_best_model_are_those_of_single_fits(n_classes):
    X, y = make_data(n_classes)
    Cs = [0.003, 0.3, 30.0]
    ours = SoftmaxRegressionCV(Cs=Cs, cv=3, tol=1e-9).fit(X, y)
    rows = 1 if n_classes == 2 else n_classes
    assert ours.coefs_paths_.shape == (3, 3, rows, 5)
    assert ours.scores_.shape == ours.n_iter_.shape == (3, 3)
    assert_array_equal(ours.Cs_, Cs)
    which = np.array([reference.fold(row, 3) for row in range(len(y))])
    for fold in range(3):
        out = which == fold
        for number, C in enumerate(Cs):
            theirs = LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(X[~out], y[~out])
            assert_allclose(ours.coefs_paths_[fold, number, :, :-1], theirs.coef_, atol=1e-6)
            assert_allclose(ours.scores_[fold, number], theirs.score(X[out], y[out]), atol=1e-12)
    assert ours.C_ == Cs[int(np.argmax(ours.scores_.mean(axis=0)))]
    theirs = LogisticRegression(C=ours.C_, tol=1e-10, max_iter=5000).fit(X, y)
    assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    assert_array_equal(ours.predict(X), theirs.predict(X))


def test_the_least_loss_may_choose_another_C_than_the_best_accuracy():
    X, y = make_data(3, n=90, p=12)
    by_loss = SoftmaxRegressionCV(Cs=6, cv=3, scoring="neg_log_loss", tol=1e-6).fit(X, y)
    assert_array_equal(by_loss.scores_, -by_loss.log_losses_)
    assert by_loss.C_ == by_loss.Cs_[np.argmin(by_loss.log_losses_.mean(axis=0))]
    assert_allclose(by_loss.Cs_, np.logspace(-4, 4, 6))


def test_the_score_has_the_name_and_the_values_of_scikit_learns():
    X, y = make_data(3)
    ours = SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=2, scoring="neg_log_loss", tol=1e-9).fit(X, y)
    which = np.array([reference.fold(row, 2) for row in range(len(y))])
    score = get_scorer("neg_log_loss")
    for fold in range(2):
        out = which == fold
        for number, C in enumerate(ours.Cs_):
            theirs = LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(X[~out], y[~out])
            assert_allclose(ours.scores_[fold, number], score(theirs, X[out], y[out]), atol=1e-7)
    other = SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=2, scoring="log_loss", tol=1e-9).fit(X, y)
    assert_array_equal(other.scores_, ours.scores_)
    with pytest.raises(OptionError, match=r"scoring='neg_log_los' is unknown.*'neg_log_loss'"):
        SoftmaxRegressionCV(scoring="neg_log_los").fit(X, y)


def test_a_dask_array_is_read_once_a_pass():
    X, y = make_data(3)
    reads = []

    def look(block):
        if block.size:
            reads.append(len(block))
        return block

    lazy = da.from_array(X, chunks=(100, 4)).map_blocks(look, dtype=X.dtype, meta=np.empty((0, 0)))
    ours = SoftmaxRegressionCV(Cs=4, cv=5, engine="serial").fit(lazy, y)
    assert sum(reads) == ours.n_passes_ * len(y)


@pytest.mark.parametrize(
    "convert", [lambda groups: groups, lambda groups: da.from_array(groups, chunks=90)]
)
@pytest.mark.parametrize(
    "groups",
    [
        np.arange(400) // 11,
        np.array(["ash", "béé", "elm", "fir", "oak", "yew"])[np.arange(400) % 6],
    ],
)
def test_rows_of_one_group_are_scored_together(groups, convert):
    X, y = make_data(3)
    which = np.array([reference.fold(int(key), 2) for key in group_keys(groups)])
    ours = SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=2, tol=1e-9).fit(X, y, groups=convert(groups))
    for fold in range(2):
        out = which == fold
        assert not set(groups[out]) & set(groups[~out])
        theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(X[~out], y[~out])
        assert_allclose(ours.coefs_paths_[fold, 0, :, :-1], theirs.coef_, atol=1e-6)
        assert_allclose(ours.scores_[fold, 0], theirs.score(X[out], y[out]), atol=1e-12)


def test_groups_beside_sparse_rows_may_be_of_dask():
    X, y = make_data(3)
    groups = np.arange(400) // 11
    dense, sparse = (
        SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=2, tol=1e-8).fit(X_, y, groups=groups_)
        for X_, groups_ in ((X, groups), (scipy.sparse.csr_array(X), da.from_array(groups)))
    )
    assert_allclose(sparse.log_losses_, dense.log_losses_, atol=1e-7)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(399), "groups has 399 rows and X has 400"),
        (np.ones((400, 1)), r"groups has shape \(400, 1\)"),
        (np.where(np.arange(400) == 70, np.nan, 1.0), "groups row 70: the group is nan"),
        ([*["a"] * 200, None, *["b"] * 199], "groups row 200: the group is None"),
        (np.linspace(0, 1, 400), "groups row 1: the group is 0.0025"),
        (np.ones(400), "The folds hold .*0.* of 400 rows, at least .* groups: fold .* has no row"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(DataError, match=message):
        SoftmaxRegressionCV(Cs=[1.0], cv=2).fit(*make_data(2), groups=groups)


def test_models_that_stop_early_are_counted_in_a_warning():
    with pytest.warns(ConvergenceWarning, match="of 6 models stopped before the tolerance"):
        SoftmaxRegressionCV(Cs=[0.1, 1.0], cv=2, solver="lbfgs", max_iter=1, tol=1e-9).fit(
            *make_data(3)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"Cs": []}, "at least one"),
        ({"Cs": "many"}, "expected a number of values"),
        ({"Cs": 0}, "at least one"),
        ({"cv": 1}, r"^cv=1\b.*whole number that is at least 2"),
        ({"Cs": [-1, 2]}, r"^Cs=\[-1.0, 2.0\].* positive numbers"),
        ({"Cs": [2, 2]}, r"^Cs=\[2.0, 2.0\]"),
    ],
)
def test_invalid_options_of_the_grid_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        SoftmaxRegressionCV(**options).fit(*make_data(2))


def test_the_error_of_many_empty_folds_is_short():
    X, y = make_data(2, n=30)
    with pytest.raises(
        DataError, match=r"The folds hold .*, … of 30 rows: fold .*, … has no row"
    ) as error:
        SoftmaxRegressionCV(Cs=[1.0], cv=1000).fit(X, y)
    assert len(str(error.value)) < 400
