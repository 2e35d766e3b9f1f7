"""Folds from scikit-learn's splitters and from columns, against models trained one by one."""

import warnings

import dask.array as da
import numpy as np
import pytest
from estimator_cases import TIGHT, make_data, stored
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)

from dsoftmax import SoftmaxRegressionCV
from dsoftmax.errors import DataError, OptionError

X, Y = make_data(3, n=300)
GROUPS = np.arange(300) // 25 % 6
COLUMN = np.arange(300) % 4 - 1
"""Folds 0 to 2; every fourth row is in all training sets."""
CS = [0.05, 1.0]
SPLITTERS = {
    "KFold": KFold(4),
    "KFold, shuffled": KFold(3, shuffle=True, random_state=1),
    "StratifiedKFold": StratifiedKFold(3),
    "GroupKFold": GroupKFold(3),
    "StratifiedGroupKFold": StratifiedGroupKFold(3),
    "LeaveOneGroupOut": LeaveOneGroupOut(),
    "PredefinedSplit": PredefinedSplit(COLUMN),
    "an iterable of indices": list(KFold(3).split(X)),
    "an iterable of masks": [(COLUMN != k, COLUMN == k) for k in range(3)],
}
WORDS = np.array(["a", "b", "c"])


def optimum(C, rows):
    return LogisticRegression(C=C, tol=1e-10, max_iter=1000).fit(X[rows], Y[rows])


def theirs(splits, scoring):
    """The mean score of every C on the test rows of every split, by scikit-learn."""
    found = []
    for train, test in splits:
        models = [
            LogisticRegression(C=C, tol=1e-10, max_iter=1000).fit(X[train], Y[train]) for C in CS
        ]
        found.append(
            [
                m.score(X[test], Y[test])
                if scoring == "accuracy"
                else -log_loss(Y[test], m.predict_proba(X[test]), labels=[0, 1, 2])
                for m in models
            ]
        )
    return np.array(found)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
@pytest.mark.parametrize("name", SPLITTERS)
def test_scores_are_those_of_models_trained_one_by_one(name, scoring):
    cv = SPLITTERS[name]
    groups = GROUPS if "Group" in name else None
    splits = list(cv.split(X, Y, groups)) if hasattr(cv, "split") else cv
    ours = SoftmaxRegressionCV(Cs=CS, cv=cv, scoring=scoring, **TIGHT).fit(X, Y, groups=groups)
    np.testing.assert_allclose(ours.scores_, theirs(splits, scoring), rtol=1e-5)
    assert ours.C_ == CS[int(ours.scores_.mean(axis=0).argmax())]
    assert ours.coefs_paths_.shape[:2] == (len(splits), len(CS))


@pytest.mark.parametrize(
    "labels",
    [
        WORDS[Y],
        WORDS[Y].astype("S1"),
        WORDS[Y].astype(object),
        WORDS[Y].astype("T"),
        Y.astype("f2"),
    ],
)
def test_every_kind_of_labels_is_stratified(labels):
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    ours = SoftmaxRegressionCV(Cs=CS, cv=cv, **TIGHT).fit(X, labels)
    np.testing.assert_allclose(ours.scores_, theirs(list(cv.split(X, Y)), "accuracy"), rtol=1e-5)


STORAGES = {
    "memory": lambda path: (X, Y, COLUMN),
    "lists": lambda path: (X.tolist(), Y.tolist(), COLUMN.tolist()),
    "zarr": lambda path: (
        stored(path, "X", X, (70, 5)),
        stored(path, "y", Y, (300,)),
        stored(path, "folds", COLUMN.astype("i1"), (41,)),
    ),
    "dask": lambda path: (
        da.from_array(X, chunks=(70, -1)),
        da.from_array(Y, chunks=50),
        da.from_array(COLUMN.astype(float), chunks=300),
    ),
}


@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_column_holds_out_the_rows_that_it_names(storage, engine, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
    rows, labels, column = STORAGES[storage](tmp_path)
    ours = SoftmaxRegressionCV(Cs=CS, cv=3, engine=engine, **TIGHT)
    ours.fit(rows, labels, folds=column)
    expected = theirs(PredefinedSplit(COLUMN).split(), "accuracy")
    np.testing.assert_allclose(ours.scores_, expected, rtol=1e-5)
    alone = LogisticRegression(C=ours.C_, tol=1e-10, max_iter=1000).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, alone.coef_, rtol=1e-4, atol=1e-6)


def test_workers_hold_out_the_same_rows():
    distributed = pytest.importorskip("distributed")
    lazy = [da.from_array(values, chunks=(75, *values.shape[1:])) for values in (X, Y, COLUMN)]
    here = SoftmaxRegressionCV(Cs=CS, cv=3, engine="threads").fit(*lazy[:2], folds=lazy[2])
    with distributed.Client(processes=False, n_workers=2, dashboard_address=":0") as client:
        there = SoftmaxRegressionCV(Cs=CS, cv=3, engine=client).fit(*lazy[:2], folds=lazy[2])
    np.testing.assert_array_equal(there.scores_, here.scores_)
    np.testing.assert_array_equal(there.coefs_paths_, here.coefs_paths_)


@pytest.mark.parametrize(
    "cv", [RepeatedKFold(n_splits=2), ShuffleSplit(3), TimeSeriesSplit(3), [([0, 1], [2, 3])] * 2]
)
def test_splits_that_cannot_share_passes_are_refused(cv):
    with pytest.raises(OptionError, match="expected disjoint test sets"):
        SoftmaxRegressionCV(cv=cv).fit(X, Y)


def test_options_that_contradict_each_other_are_refused():
    lazy = da.from_array(Y)
    with pytest.raises(OptionError, match="y is stored or lazy"):
        SoftmaxRegressionCV(cv=StratifiedKFold(3)).fit(X, lazy)
    with pytest.raises(OptionError, match="folds and groups both"):
        SoftmaxRegressionCV(cv=3).fit(X, Y, groups=GROUPS, folds=COLUMN)
    with pytest.raises(OptionError, match=r"folds and cv=KFold.* both"):
        SoftmaxRegressionCV(cv=KFold(3)).fit(X, Y, folds=COLUMN)
    with pytest.raises(OptionError, match="cv='five'"):
        SoftmaxRegressionCV(cv="five").fit(X, Y)
    with pytest.raises(OptionError, match="at least 2"):
        SoftmaxRegressionCV(cv=[(np.arange(9), np.arange(9, 300))]).fit(X, Y)


@pytest.mark.parametrize(
    ("column", "cv", "message"),
    [
        (np.where(np.arange(300) == 77, 3, COLUMN), 3, r"folds row 77: the fold is 3; .*0 to 2"),
        (np.where(np.arange(300) == 77, -2, COLUMN), 3, "folds row 77: the fold is -2"),
        (COLUMN, 4, "fold 3 has no row"),
        (COLUMN * 0.5, 3, "the group is"),
        (COLUMN[1:], 3, "folds has 299 rows"),
    ],
)
def test_columns_that_name_no_fold_are_refused(column, cv, message):
    with warnings.catch_warnings(), pytest.raises(DataError, match=message):
        SoftmaxRegressionCV(cv=cv).fit(X, Y, folds=column)
