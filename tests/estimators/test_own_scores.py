"""A function of labels, probabilities and weights scores the folds, as scikit-learn's would."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from estimator_cases import TIGHT, make_data, stored
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, matthews_corrcoef
from sklearn.model_selection import StratifiedKFold

from dsoftmax import SoftmaxRegressionCV
from dsoftmax.errors import OptionError

X, CODES = make_data(3, n=300)
Y = np.array(["a", "b", "c"])[CODES]
WEIGHTS = np.random.default_rng(5).uniform(0.5, 2, 300)
CLASSES = np.array(["a", "b", "c"])
CS = [0.01, 0.1, 1.0]
CV = StratifiedKFold(3)


def brier(y, P, weights):
    """Minus the Brier score, times the weights."""
    return -(weights * ((P - (y[:, None] == CLASSES)) ** 2).sum(axis=1)).sum()


def hits(y, P, weights):
    return weights @ (CLASSES[P.argmax(axis=1)] == y)


def expected():
    found = []
    for train, test in CV.split(X, Y):
        found.append([])
        for C in CS:
            model = LogisticRegression(C=C, tol=1e-10, max_iter=1000)
            P = model.fit(X[train], Y[train], WEIGHTS[train]).predict_proba(X[test])
            found[-1].append(brier(Y[test], P, WEIGHTS[test]) / WEIGHTS[test].sum())
    return np.array(found)


@pytest.mark.parametrize("kind", ["memory", "csr", "zarr", "dask"])
def test_the_mean_over_held_out_rows_chooses_C(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.objective.scores.SCORED_VALUES", 100)
    rows = {
        "memory": lambda: X,
        "csr": lambda: scipy.sparse.csr_array(X),
        "zarr": lambda: stored(tmp_path, "X", X, (70, 5)),
        "dask": lambda: da.from_array(X, chunks=(70, -1)),
    }[kind]()
    ours = SoftmaxRegressionCV(Cs=CS, cv=CV, scoring=brier, **TIGHT).fit(rows, Y, WEIGHTS)
    np.testing.assert_allclose(ours.scores_, expected(), rtol=1e-5)
    assert ours.C_ == CS[int(expected().mean(axis=0).argmax())]


def test_a_function_that_counts_hits_is_the_accuracy():
    for options in ({}, {"cv": 4}, {"cv": CV}):
        grid = SoftmaxRegressionCV(Cs=CS, **options)
        ours = grid.set_params(scoring=hits).fit(X, Y, WEIGHTS)
        own = ours.scores_
        named = grid.set_params(scoring="accuracy").fit(X, Y, WEIGHTS)
        np.testing.assert_allclose(own, named.scores_, rtol=1e-12)


def test_workers_score_with_the_same_bits():
    distributed = pytest.importorskip("distributed")
    lazy = da.from_array(X, chunks=(75, -1))
    here = SoftmaxRegressionCV(Cs=CS, cv=3, scoring=brier, engine="threads").fit(lazy, Y)
    with distributed.Client(processes=False, n_workers=2, dashboard_address=":0") as client:
        there = SoftmaxRegressionCV(Cs=CS, cv=3, scoring=brier, engine=client).fit(lazy, Y)
    np.testing.assert_array_equal(there.scores_, here.scores_)


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        (make_scorer(matthews_corrcoef), "is a scorer of scikit-learn"),
        ("acuracy", "Did you mean 'accuracy'"),
        (3, "scoring=3 is unknown"),
        (lambda y, P, weights: weights, "expected one finite number"),
        (lambda y, P, weights: np.nan, "expected one finite number"),
        (lambda y, P, weights: None, "expected one finite number"),
    ],
)
def test_other_scorings_are_refused(scoring, message):
    with pytest.raises(OptionError, match=message):
        SoftmaxRegressionCV(Cs=CS, cv=3, scoring=scoring).fit(X, Y)
