"""Soft labels: the optimum of rows that are repeated once a class, with P as weights."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import scipy.sparse
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.errors import DataError, OptionError

EXACT = {"tol": 1e-10, "max_iter": 1000, "engine": "serial"}


def rows(K=3, n=300, sparse=False, seed=0):
    """Return features, probabilities and weights; some rows have weight 0."""
    rng = np.random.default_rng(seed)
    X = rng.normal([0, 3, -1], size=(n, 3))
    Z = X @ rng.normal(size=(3, K)) + 2 * rng.gumbel(size=(n, K))
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    weights = rng.uniform(0, 3, n) * (np.arange(n) % 9 > 0)
    return (
        scipy.sparse.csr_array(X * (X > 0)) if sparse else X,
        P / P.sum(axis=1, keepdims=True),
        weights,
    )


def repeated(X, P, weights=None, **options):
    """Return scikit-learn's fit to every row once for each class, with the weight P."""
    n, K = P.shape
    weights = np.ones(n) if weights is None else weights
    dense = X.toarray() if scipy.sparse.issparse(X) else X
    given = {"tol": 1e-12, "max_iter": 1000, "solver": "newton-cholesky"} | options
    return LogisticRegression(**given).fit(
        np.repeat(dense, K, axis=0), np.tile(np.arange(K), n), (P * weights[:, None]).ravel()
    )


def fitted(X, P, weights=None, **options):
    return SoftmaxRegression(**EXACT | {"classes": np.arange(P.shape[1])} | options).fit(
        X, P, weights
    )


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_that_of_repeated_rows(K, sparse, kernel, weighted):
    X, P, weights = rows(K, sparse=sparse)
    weights = weights if weighted else None
    ours, theirs = fitted(X, P, weights, kernel=kernel), repeated(X, P, weights)
    assert_allclose(ours.coef_, theirs.coef_, atol=1e-8)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(np.asarray(X @ np.eye(3))),
                    atol=1e-8)  # fmt: skip
    w = np.ones(len(P)) if weights is None else weights
    losses = -(P * np.log(theirs.predict_proba(np.asarray(X @ np.eye(3))))).sum(axis=1)
    penalty = np.sum(theirs.coef_**2) / 2 / w.sum()
    assert ours.objective_ == pytest.approx(np.average(losses, weights=w) + penalty, rel=1e-9)


@pytest.mark.parametrize(
    "solver", ["surrogate", "matrix-free", "lbfgs", "lbfgs-kronecker", "newton", "bohning"]
)
def test_every_solver_finds_it(solver):
    X, P, weights = rows()
    ours = fitted(X, P, weights, solver=solver, C=0.1)
    assert_allclose(ours.coef_, repeated(X, P, weights, C=0.1).coef_, atol=1e-7)


@pytest.mark.parametrize("K", [2, 3])
def test_hard_labels_are_the_special_case_to_the_bit(K):
    X, P, weights = rows(K)
    y = P.argmax(axis=1)
    hard = SoftmaxRegression(classes=np.arange(K), **EXACT).fit(X, y, weights)
    for one_hot in (np.eye(K)[y], np.eye(K, dtype=bool)[y], np.eye(K, dtype="f4")[y]):
        soft = fitted(X, one_hot, weights)
        assert soft.model_.theta.tobytes() == hard.model_.theta.tobytes()
        assert soft.objective_ == hard.objective_
        assert soft.n_passes_ == hard.n_passes_


def test_all_forms_of_the_labels_give_the_same_bits(tmp_path):
    X, P, _ = rows(4)
    P[P < 0.1] = 0
    P /= P.sum(axis=1, keepdims=True)
    expected = fitted(X, P).model_.theta.tobytes()
    stored = zarr.create_array(tmp_path / "P", data=P, chunks=(70, 2))
    forms = {
        "list": P.tolist(),
        "frame": pd.DataFrame(P),
        "columns": np.asfortranarray(P),
        "CSR": scipy.sparse.csr_array(P),
        "COO": scipy.sparse.coo_array(P),
        "Zarr": stored,
    }
    for name, form in forms.items():
        ours = SoftmaxRegression(classes=np.arange(4), **EXACT).fit(X, form)
        assert ours.model_.theta.tobytes() == expected, name
    stored_X = zarr.create_array(tmp_path / "X", data=X, chunks=(100, 3))
    found = {
        engine: fitted(stored_X, stored, engine=engine).model_.theta.tobytes()
        for engine in ("serial", "threads")
    }
    assert found["serial"] == found["threads"] == expected
    lazy = da.from_array(X, chunks=(100, 3))
    for form in (P, stored, da.from_array(P, chunks=(60, 2)), scipy.sparse.csr_array(P)):
        ours = SoftmaxRegression(classes=np.arange(4), **EXACT).fit(lazy, form)
        assert_allclose(ours.coef_, repeated(X, P).coef_, atol=1e-8)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_columns_have_the_classes_in_the_order_given(form, tmp_path):
    X, P, _ = rows(3)
    sorted_ones = fitted(X, P, classes=["ash", "elm", "oak"])
    ours = SoftmaxRegression(classes=["oak", "ash", "elm"], **EXACT).fit(X, form(P[:, [2, 0, 1]]))
    assert_array_equal(ours.classes_, ["ash", "elm", "oak"])
    assert ours.model_.theta.tobytes() == sorted_ones.model_.theta.tobytes()
    stored = zarr.create_array(tmp_path / "P", data=P[:, [2, 0, 1]], chunks=(50, 3))
    ours = SoftmaxRegression(classes=["oak", "ash", "elm"], **EXACT).fit(X, stored)
    assert ours.model_.theta.tobytes() == sorted_ones.model_.theta.tobytes()


def test_label_smoothing_keeps_a_separable_problem_finite():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 2))
    y = (X[:, 0] > 0).astype(int)
    P = 0.9 * np.eye(2)[y] + 0.05
    ours = fitted(X, P, C=np.inf, tol=1e-9)
    theirs = repeated(X, P, C=np.inf)
    assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    assert "separate" not in ours.status_


def test_a_class_that_is_nowhere_the_most_probable_one_is_trained():
    X, P, _ = rows(3)
    P = 0.2 * P + [0.8, 0, 0]  # class 0 is the most probable one of every row
    assert_allclose(fitted(X, P).coef_, repeated(X, P).coef_, atol=1e-8)


@pytest.mark.parametrize("given", ["folds", "validation", "fraction"])
def test_held_out_rows_are_scored_against_their_soft_labels(given):
    X, P, weights = rows(3)
    if given == "folds":
        ours = SoftmaxRegressionCV(
            Cs=[0.01, 1.0], cv=3, classes=[0, 1, 2], scoring="neg_log_loss", tol=1e-9
        ).fit(X, P, weights)
        which = np.array([reference.fold(row, 3) for row in range(len(P))])
        for fold in range(3):
            out = which == fold
            for number, C in enumerate([0.01, 1.0]):
                theirs = repeated(X[~out], P[~out], weights[~out], C=C)
                losses = -(P[out] * theirs.predict_log_proba(X[out])).sum(axis=1)
                loss = np.average(losses, weights=weights[out])
                assert ours.log_losses_[fold, number] == pytest.approx(loss, rel=1e-7)
        return
    out = np.arange(len(P)) >= 200
    if given == "validation":
        ours = fitted(X, P, weights, tol=1e-6, max_iter=1)
        ours.fit(X[~out], P[~out], weights[~out], X_val=X[out], y_val=P[out],
                 sample_weight_val=weights[out])  # fmt: skip
    else:
        ours = fitted(X, P, weights, tol=1e-6, max_iter=1, validation_fraction=0.3)
        out = np.array([reference.place(row) < 0.3 for row in range(len(P))])
    losses = -(P[out] * np.log(ours.predict_proba(X[out]))).sum(axis=1)
    loss = np.average(losses, weights=weights[out])
    assert min(one["held_loss"] for one in ours.history_[1:]) == pytest.approx(loss, rel=1e-9)


def test_standardised_features_and_an_l1_part_work_with_them():
    X, P, weights = rows(3)
    mean = np.average(X, axis=0, weights=weights)
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    theirs = repeated((X - mean) / deviation, P, weights, C=0.3)
    ours = fitted(X, P, weights, C=0.3, scale="standard")
    assert_allclose(ours.coef_ * deviation, theirs.coef_, atol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = repeated(
            X, P, weights, C=0.02, l1_ratio=1.0, solver="saga", tol=1e-11, max_iter=50_000
        )
    ours = fitted(X, P, weights, C=0.02, l1_ratio=1.0)
    assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)


def test_rounded_probabilities_are_accepted_and_normalised():
    X, P, _ = rows(4)
    for dtype, atol in ((np.float32, 1e-5), (np.float16, 1e-2)):
        rounded = P.astype(dtype)
        exact = rounded.astype(np.float64)
        exact /= exact.sum(axis=1, keepdims=True)
        assert_allclose(fitted(X, rounded).coef_, repeated(X, exact).coef_, atol=1e-8)
        assert_allclose(fitted(X, rounded).coef_, repeated(X, P).coef_, atol=atol)


BAD = {
    "sums": (lambda P: P * [[2]] * (np.arange(len(P)) == 7)[:, None] + P, "row 7: the soft label"),
    "negative": (lambda P: P - (np.arange(len(P)) == 5)[:, None], "row 5: a soft label has the"),
    "nan": (lambda P: np.where(np.arange(len(P))[:, None] == 9, np.nan, P), "row 9.* nan"),
    "columns": (lambda P: P[:, :2], "y has 2 columns, and classes names 3"),
    "rows": (lambda P: P[:-1], "y has 299 rows and X has 300"),
    "text": (lambda P: P.astype(str), "expected real numbers, the probability of each class"),
    "masked": (lambda P: np.ma.masked_less(P, 0.1), "Leave out rows without labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_labels_that_are_no_distributions_are_refused(case):
    X, P, _ = rows(3)
    change, message = BAD[case]
    with pytest.raises(DataError, match=message):
        SoftmaxRegression(classes=[0, 1, 2]).fit(X, change(P))


def test_options_without_a_meaning_are_refused():
    X, P, _ = rows(3)
    y, known = P.argmax(axis=1), {"classes": [0, 1, 2]}
    with pytest.raises(OptionError, match="class_weight='balanced' and soft labels"):
        SoftmaxRegression(class_weight="balanced", **known).fit(X, P)
    with pytest.raises(OptionError, match="unlabelled=0 names labels"):
        SoftmaxRegression(unlabelled=0, **known).fit(X, P)
    with pytest.raises(OptionError, match="a function of hard labels"):
        SoftmaxRegressionCV(scoring=lambda y, P, w: 0.0, **known).fit(X, P)
    with pytest.raises(DataError, match="Soft labels need classes, one for each column"):
        SoftmaxRegression().fit(X, P)
    with pytest.raises(DataError, match="names a class twice"):
        SoftmaxRegression(classes=[0, 1, 1]).fit(X, P)
    ours = SoftmaxRegression(**known).fit(X, P)
    with pytest.raises(DataError, match="compute the log loss from predict_log_proba"):
        ours.score(X, P)
    with pytest.raises(OptionError, match="standard errors are those of observed classes"):
        ours.uncertainty(X, P)
    with pytest.raises(DataError, match="Soft labels need classes"):
        SoftmaxRegression().fit(X, y, X_val=X, y_val=P)
    assert ours.score(X, y) > 0.4
