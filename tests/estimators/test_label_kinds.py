"""Every kind of labels passes every door: fit, predict, score, folds, a stored model."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr
from estimator_cases import TIGHT, make_data, stored
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV, load_model, save_model
from dsoftmax.errors import DataError

X, CODES = make_data(3, n=300)
WORDS = np.array(["oak", "fir", "bïrch"])[CODES]
UTF8 = np.array([word.encode() for word in WORDS.tolist()])
TRUE = CODES > 0


def objects(values):
    """Return NumPy's own scalars as Python objects."""
    found = np.empty(len(values), object)
    found[:] = list(values)
    return found


KINDS = {
    "integers": CODES,
    "big-endian": CODES.astype(">i2"),
    "whole floats": CODES.astype("f2"),
    "booleans": TRUE,
    "strings": WORDS,
    "bytes": UTF8,
    "strings of any length": WORDS.astype(np.dtypes.StringDType()),
    "strings as objects": WORDS.astype(object),
    "bytes as objects": UTF8.astype(object),
    "booleans as objects": TRUE.astype(object),
    "integers as objects": CODES.astype(object),
    "floats as objects": CODES.astype(float).astype(object),
    "NumPy's strings as objects": objects(WORDS),
    "NumPy's integers as objects": objects(CODES.astype("u1")),
    "a list of strings": WORDS.tolist(),
    "a list of bytes": UTF8.tolist(),
    "a tuple of booleans": tuple(TRUE.tolist()),
    "pandas objects": pd.Series(WORDS.astype(object)),
    "pandas strings": pd.Series(WORDS, dtype="string"),
    "pandas categories": pd.Series(WORDS).astype("category"),
    "pandas categories of integers": pd.Series(CODES).astype("category"),
    "pandas categories of booleans": pd.Series(TRUE).astype("category"),
    "pandas Categorical": pd.Categorical(WORDS),
    "pandas nullable integers": pd.Series(CODES, dtype="Int64"),
    "pandas nullable booleans": pd.Series(TRUE, dtype="boolean"),
    "pandas Index": pd.Index(WORDS),
}


def text_of(y):
    """Return labels as scikit-learn takes them: bytes decoded, objects of one type as an array."""
    plain = [label.item() if hasattr(label, "item") else label for label in np.asarray(y)]
    return np.array([one.decode() if isinstance(one, bytes) else one for one in plain])


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def expected(kind):
    """The labels that scikit-learn predicts, and its accuracy."""
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(X, text_of(kind))
    return theirs, theirs.score(X, text_of(kind))


def test_fit_predict_and_score_take_the_same_labels(kind, expected):
    theirs, accuracy = expected
    ours = SoftmaxRegression(**TIGHT).fit(X, kind)
    assert_array_equal(text_of(ours.classes_), theirs.classes_)
    assert_array_equal(text_of(ours.predict(X)), theirs.predict(X))
    assert (ours.predict(X) == np.asarray(kind)).mean() == pytest.approx(accuracy)
    assert ours.score(X, kind) == pytest.approx(accuracy)
    assert ours.score(X, kind, np.ones(len(X))) == pytest.approx(accuracy)


def test_lazy_labels_score_as_labels_in_memory(kind, expected, tmp_path):
    y, lazy = np.asarray(kind), da.from_array(X, chunks=(100, -1))
    ours = SoftmaxRegression(**TIGHT).fit(lazy, da.from_array(y, chunks=70))
    assert ours.score(lazy, da.from_array(y, chunks=70)) == pytest.approx(expected[1])
    assert ours.score(X, kind) == ours.score(lazy, kind) == pytest.approx(expected[1])
    if y.dtype.kind in "biufT":
        array = stored(tmp_path, "y", y, (90,))
        assert ours.score(X, array) == ours.score(lazy, array) == pytest.approx(expected[1])


def test_folds_validation_sets_and_stored_models_take_the_same_labels(kind, expected, tmp_path):
    grid = SoftmaxRegressionCV(Cs=[1.0], cv=3, **TIGHT).fit(X, kind)
    assert grid.score(X, kind) == pytest.approx(expected[1])
    ours = SoftmaxRegression(**TIGHT).fit(X, kind, X_val=X, y_val=kind)
    assert_array_equal(text_of(ours.classes_), expected[0].classes_)
    save_model(grid.model_, tmp_path / "model")
    found = load_model(tmp_path / "model")
    assert_array_equal(text_of(found.classes), expected[0].classes_)
    assert_array_equal(text_of(found.predict(X)), expected[0].predict(X))


def test_classes_and_their_weights_are_named_as_labels_or_as_text(kind, expected):
    plain = SoftmaxRegression(**TIGHT).fit(X, kind)
    for names in (plain.classes_.tolist(), expected[0].classes_.tolist()):
        given = SoftmaxRegression(classes=names, class_weight=dict.fromkeys(names, 1.0), **TIGHT)
        assert_array_equal(given.fit(X, kind).coef_, plain.coef_)
        assert given.score(X, kind) == pytest.approx(expected[1])


@pytest.mark.parametrize("trained", ["strings", "bytes", "strings of any length"])
@pytest.mark.parametrize("scored", ["strings", "bytes", "strings of any length"])
def test_bytes_and_strings_of_one_text_are_one_label(trained, scored):
    ours = SoftmaxRegression(**TIGHT).fit(X, KINDS[trained])
    lazy = da.from_array(X, chunks=(100, -1))
    found = ours.score(X, KINDS[scored])
    assert found == ours.score(lazy, KINDS[scored]) == (ours.predict(X) == KINDS[trained]).mean()


def test_bytes_that_are_no_text_are_labels_like_others(tmp_path):
    y = np.array([b"\xff\xfe", b"\xe9t\xe9", b"a"])[CODES]
    ours = SoftmaxRegression(**TIGHT).fit(X, y)
    assert ours.classes_.tolist() == [b"a", b"\xe9t\xe9", b"\xff\xfe"]
    assert ours.score(X, y) == (ours.predict(X) == y).mean() > 0.4
    assert ours.score(X, WORDS) == 0
    save_model(ours.model_, tmp_path / "model")
    assert load_model(tmp_path / "model").classes.tolist() == ours.classes_.tolist()


def test_classes_that_are_given_are_not_cut_to_the_dtype_of_the_labels():
    y = np.array(["a", "b", "c"])[CODES]
    assert SoftmaxRegression(classes=["a", "b", "c", "other"]).fit(X, y).classes_[3] == "other"
    y = CODES.astype("u1")
    assert SoftmaxRegression(classes=[0, 1, 2, 300]).fit(X, y).classes_.tolist() == [0, 1, 2, 300]


@pytest.mark.parametrize("wrong", [WORDS, np.asarray(WORDS, object), UTF8])
def test_a_score_of_text_for_a_model_of_numbers_says_so(wrong):
    ours = SoftmaxRegression().fit(X, CODES)
    for rows in (X, da.from_array(X, chunks=(100, -1))):
        with pytest.raises(DataError, match="y holds strings; expected numbers"):
            ours.score(rows, wrong)
    with pytest.raises(DataError, match="y has 299 rows and X has 300"):
        ours.score(X, CODES[1:])


def test_zarr_strings_read_whole_are_scored(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    y = group.create_array("y", shape=len(WORDS), chunks=100, dtype="str")
    y[:] = WORDS
    ours = SoftmaxRegression().fit(X, y)
    assert ours.score(X, y[:]) == ours.score(X, y) == ours.score(X, WORDS)
