"""Rows that the data declare as missing, or that the user names, do not count anywhere."""

import logging

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from estimator_cases import THEIRS, TIGHT, assert_same_model, make_data
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.errors import DataError, OptionError

N, NODATA, UNLABELLED = 600, -32768, 255


def scene(seed=0):
    """A cube of int16 bands as rows, uint8 labels, and the rows that lack either."""
    X, y = make_data(3, N, seed=seed)
    X, y = (100 * X).astype(np.int16), y.astype(np.uint8)
    rng = np.random.default_rng(seed + 1)
    dark, blank = rng.random(N) < 0.1, rng.random(N) < 0.1
    stored, labels = X.copy(), y.copy()
    stored[dark, rng.integers(0, X.shape[1], dark.sum())] = NODATA
    labels[blank] = UNLABELLED
    return stored, labels, dark, blank


def masked(values, value):
    return np.ma.masked_equal(values, value)


def lazy(values, value):
    """The same as a dask array, whose blocks are masked arrays."""
    return da.ma.masked_equal(da.from_array(values, chunks=(130, *values.shape[1:])), value)


def expected(X, y, counted, weights=None):
    """The model of scikit-learn on the rows that count."""
    weights = None if weights is None else weights[counted]
    model = LogisticRegression(solver="newton-cholesky", **THEIRS)
    return model.fit(X[counted].astype(float), y[counted], weights)


KINDS = {
    "numpy masks": lambda X, y: ((masked(X, NODATA), masked(y, UNLABELLED)), {}),
    "dask masks": lambda X, y: ((lazy(X, NODATA), lazy(y, UNLABELLED)), {}),
    "dask X, numpy y": lambda X, y: ((lazy(X, NODATA), masked(y, UNLABELLED)), {}),
    "numpy X, dask y": lambda X, y: ((masked(X, NODATA), lazy(y, UNLABELLED)), {}),
    "given values": lambda X, y: ((X, y), {"nodata": NODATA, "unlabelled": UNLABELLED}),
    "given values, dask": lambda X, y: (
        (da.from_array(X, chunks=(77, 5)), da.from_array(y, chunks=200)),
        {"nodata": [NODATA, 32767], "unlabelled": [UNLABELLED]},
    ),
    "mask of X, value of y": lambda X, y: ((masked(X, NODATA), y), {"unlabelled": UNLABELLED}),
    "value of sparse X": lambda X, y: (
        (scipy.sparse.csr_array(X), masked(y, UNLABELLED)),
        {"nodata": NODATA},
    ),
    "value of sparse X, dask y": lambda X, y: (
        (scipy.sparse.csr_array(X), lazy(y, UNLABELLED)),
        {"nodata": NODATA},
    ),
    "NaN": lambda X, y: (
        (np.where(X == NODATA, np.nan, X), np.where(y == UNLABELLED, np.nan, y)),
        {"nodata": np.nan, "unlabelled": np.nan},
    ),
}


@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_equals_scikit_learn_on_the_rows_that_count(kind, engine, caplog):
    X, y, dark, blank = scene()
    data, options = KINDS[kind](X, y)
    ours = SoftmaxRegression(**TIGHT, **options, engine=engine).fit(*data)
    theirs = expected(X, y, ~(dark | blank))
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-8)
    assert_array_equal(ours.classes_, [0, 1, 2])
    both = int((dark & blank).sum())
    found = {"nodata": int(dark.sum()), "unlabelled": int(blank.sum()) - both}
    assert ours.skipped_ == {**found, "unweighted": 0, "ungrouped": 0}
    skipped = int((dark | blank).sum())
    assert ours.model_.about["n_rows"] == N - skipped
    line = (
        f"{skipped} of {N} rows skipped: {found['nodata']} nodata, "
        f"{found['unlabelled']} unlabelled."
    )
    assert [one.getMessage() for one in caplog.records] == [line]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_standard_errors_are_those_of_the_rows_that_count(kind):
    X, y, dark, blank = scene()
    counted = ~(dark | blank)
    data, options = KINDS[kind](X, y)
    ours = SoftmaxRegression(**TIGHT, **options).fit(*data)
    alone = SoftmaxRegression(**TIGHT).fit(X[counted], y[counted])
    theirs = expected(X, y, counted)
    assert_allclose(ours.score(*data), theirs.score(X[counted].astype(float), y[counted]))
    assert_allclose(
        ours.uncertainty(*data).covariance,
        alone.uncertainty(X[counted], y[counted]).covariance,
        rtol=1e-6,
    )


def test_engines_and_storages_give_the_same_bits():
    X, y, *_ = scene()
    blocks = [(100, 200, 300), (5,)]
    X_lazy = da.ma.masked_equal(da.from_array(X, chunks=blocks), NODATA)
    y_lazy = da.ma.masked_equal(da.from_array(y, chunks=blocks[:1]), UNLABELLED)
    fits = [
        SoftmaxRegression(engine=engine, **options).fit(*data).coef_
        for engine in ("serial", "threads")
        for data, options in (
            ((X_lazy, y_lazy), {}),
            (
                (da.from_array(X, chunks=blocks), da.from_array(y, chunks=blocks[:1])),
                {"nodata": NODATA, "unlabelled": UNLABELLED},
            ),
        )
    ]
    assert len({found.tobytes() for found in fits}) == 1


def test_what_stands_in_skipped_rows_changes_nothing():
    X, y, dark, blank = scene()
    X, y = X.astype(float), y.astype(float)
    wild, odd = X.copy(), y.copy()
    wild[dark], odd[blank] = np.inf, 0.5
    fits = [
        SoftmaxRegression(**TIGHT).fit(
            np.ma.MaskedArray(rows, np.repeat(dark[:, None], 5, 1)),
            np.ma.MaskedArray(labels, blank),
        )
        for rows, labels in ((X, y), (wild, odd))
    ]
    assert fits[0].coef_.tobytes() == fits[1].coef_.tobytes()


def test_masked_weights_and_groups_skip_their_rows():
    X, y = make_data(3, N)
    rng = np.random.default_rng(5)
    weights, groups = rng.random(N) + 0.5, rng.integers(0, 40, N).astype(float)
    light, alone = rng.random(N) < 0.1, rng.random(N) < 0.1
    weights[light], groups[alone] = -1, np.nan
    ours = SoftmaxRegressionCV(Cs=[1.0], cv=3, **TIGHT).fit(
        X, y, np.ma.MaskedArray(weights, light), np.ma.MaskedArray(groups, alone)
    )
    counted = ~(light | alone)
    theirs = expected(X, y, counted, weights)
    assert_same_model(ours, theirs)
    both = int((light & alone).sum())
    assert ours.skipped_["unweighted"] == light.sum()
    assert ours.skipped_["ungrouped"] == alone.sum() - both


def test_cross_validation_scores_the_rows_that_count():
    X, y, dark, blank = scene()
    names = np.array([f"g{i % 30}" for i in range(N)])  # the folds do not depend on row numbers
    counted, options = ~(dark | blank), {"Cs": [0.1, 10.0], "cv": 3, **TIGHT}
    ours = SoftmaxRegressionCV(**options).fit(
        masked(X, NODATA), masked(y, UNLABELLED), groups=names
    )
    alone = SoftmaxRegressionCV(**options).fit(X[counted], y[counted], groups=names[counted])
    assert_allclose(ours.scores_, alone.scores_, rtol=1e-12)
    assert_allclose(ours.coefs_paths_, alone.coefs_paths_, rtol=1e-5, atol=1e-8)


def test_rows_of_a_validation_set_are_skipped_too():
    X, y, dark, blank = scene()
    V, v, dark_v, blank_v = scene(seed=9)
    v[~(dark_v | blank_v)] %= 3
    counted, judged = ~(dark | blank), ~(dark_v | blank_v)
    ours = SoftmaxRegression(nodata=NODATA, unlabelled=UNLABELLED).fit(X, y, X_val=V, y_val=v)
    alone = SoftmaxRegression().fit(X[counted], y[counted], X_val=V[judged], y_val=v[judged])
    assert_allclose(ours.coef_, alone.coef_, rtol=1e-6, atol=1e-9)
    found = [[one["held_loss"] for one in fit.history_] for fit in (ours, alone)]
    assert_allclose(found[0], found[1], rtol=1e-6)


def test_a_class_may_vanish_and_the_last_one_may_not():
    X, y = make_data(3, N)
    two = np.ma.masked_equal(y, 2)
    assert_array_equal(SoftmaxRegression().fit(X, two).classes_, [0, 1])
    with pytest.raises(DataError, match="only one class: 1"):
        SoftmaxRegression().fit(X, np.ma.MaskedArray(y, y != 1))


def test_leaves_and_blocks_without_a_row_that_counts():
    X, y = make_data(3, N)
    X[100:300] = np.nan
    rows = np.r_[0:100, 300:N]
    theirs = expected(X, y, rows)
    for engine in ("serial", "threads"):
        ours = SoftmaxRegression(**TIGHT, nodata=np.nan, engine=engine)
        assert_same_model(ours.fit(da.from_array(X, chunks=(100, 5)), y), theirs)


@pytest.mark.parametrize("how", ["memory", "dask"])
def test_all_rows_missing_is_an_error(how):
    X, y = make_data(3, N)
    gone = np.full_like(X, np.nan)
    gone = da.from_array(gone, chunks=(100, 5)) if how == "dask" else gone
    with pytest.raises(DataError, match="no row that counts: 600 of 600 rows skipped: 600 nodata"):
        SoftmaxRegression(nodata=np.nan).fit(gone, y)
    fitted = SoftmaxRegression(nodata=np.nan).fit(X, y)
    with pytest.raises(DataError, match="no row that counts"):
        fitted.score(gone, y)


@pytest.mark.parametrize("none", [None, np.nan, pd.NA])
@pytest.mark.parametrize("named", [np.nan, pd.NA, [None]])
def test_unlabelled_nan_means_every_missing_label(none, named):
    X, y = make_data(3, N)
    words = np.array(["a", "b", "c"], object)[y]
    blank = np.arange(N) % 7 == 0
    words[blank] = none
    ours = SoftmaxRegression(**TIGHT, unlabelled=named).fit(X, words)
    assert_same_model(ours, expected(X, np.array(["a", "b", "c"])[y].astype(object), ~blank))
    with pytest.raises(DataError, match=r"y row 0: the label is .*unlabelled=nan"):
        SoftmaxRegression().fit(X, words)


def test_categories_without_a_code_are_missing_labels():
    X, y = make_data(3, N)
    kind = pd.Series(pd.Categorical(np.array(["a", "b", "c"])[y])).where(np.arange(N) % 7 > 0)
    assert (kind.cat.codes == -1).sum() == 86
    ours = SoftmaxRegression(**TIGHT, unlabelled=np.nan).fit(X, kind)
    assert ours.skipped_["unlabelled"] == 86
    words = np.array(["a", "b", "c"], object)[y]
    assert_same_model(ours, expected(X, words, np.arange(N) % 7 > 0))


def test_messages_count_the_skipped_rows_before():
    X, y, *_ = scene()
    X, y = X.astype(float), y.astype(int)
    first = np.flatnonzero((X != NODATA).all(axis=1) & (y != UNLABELLED))[200]
    assert first > 200
    ours = SoftmaxRegression(nodata=NODATA, unlabelled=UNLABELLED, classes=[0, 1, 2])
    y[first] = 7
    with pytest.raises(DataError, match=rf"label 7 \(row {first}\)"):
        ours.fit(X, y)
    X[first, 2] = np.nan
    with pytest.raises(DataError, match=rf"X row {first}, column 2: the value is nan.*nodata=nan"):
        ours.fit(X, y)


def test_infinity_is_skipped_if_it_is_named():
    X, y = make_data(3, N)
    X[5, 1], X[6, 2] = np.inf, np.nan
    with pytest.raises(DataError, match=r"row 5, column 1: the value is inf.*nodata=inf"):
        SoftmaxRegression(nodata=np.nan).fit(X, y)
    ours = SoftmaxRegression(**TIGHT, nodata=[np.inf, np.nan]).fit(X, y)
    assert_same_model(ours, expected(X, y, np.delete(np.arange(N), [5, 6])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodata": "none"}, "nodata='none'; expected"),
        ({"nodata": True}, "nodata=True; expected"),
        ({"nodata": 70_000}, "nodata=70000 .* is no value of X, which has dtype int16"),
        ({"nodata": 0.5}, "nodata=0.5 .* is no value of X"),
        ({"unlabelled": "none"}, "unlabelled='none' .* is no value of y, which has dtype uint8"),
        ({"unlabelled": -1}, "unlabelled=-1 .* is no value of y"),
        ({"unlabelled": {}}, "unlabelled={}; expected"),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "dask"])
def test_a_value_that_cannot_occur_is_refused(kind, options, message):
    X, y, *_ = scene()
    if kind == "dask":
        X, y = da.from_array(X, chunks=(100, 5)), da.from_array(y, chunks=100)
    with pytest.raises(OptionError, match=message):
        SoftmaxRegression(**options).fit(X, y)


def test_zero_of_sparse_rows_is_refused():
    X, y, *_ = scene()
    with pytest.raises(OptionError, match=r"nodata=0 .* does nothing for X"):
        SoftmaxRegression(nodata=0).fit(scipy.sparse.csr_array(X), y)


def test_nothing_is_logged_if_every_row_counts(caplog):
    X, y = make_data(3, N)
    caplog.set_level(logging.INFO)
    ours = SoftmaxRegression(nodata=np.nan, unlabelled=9).fit(np.ma.MaskedArray(X), y)
    assert caplog.records == []
    assert ours.coef_.tobytes() == SoftmaxRegression().fit(X, y).coef_.tobytes()


@pytest.mark.parametrize("named", ["é", "é".encode()])
@pytest.mark.parametrize("dtype", ["U2", "S2", object, "objects of bytes"])
def test_text_that_means_no_class_may_be_bytes_or_strings(dtype, named):
    X, words = np.arange(30.0)[:, None] % 7, np.array(["a", "b", "é"])[np.arange(30) % 3]
    plain = np.array([word.encode() for word in words])
    y = {"U2": words, "S2": plain, object: words.astype(object)}.get(dtype, plain.astype(object))
    found = SoftmaxRegression(unlabelled=named).fit(X, y)
    assert found.skipped_["unlabelled"] == 10
    assert len(found.classes_) == 2
