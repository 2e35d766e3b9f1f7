"""Metrics of one pass against scikit-learn's, for any storage and weights."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from sklearn import metrics as theirs

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError
from dsoftmax.results import metrics
from dsoftmax.results.evaluate import accuracy, evaluate
from dsoftmax.results.model import Model

CLASSES = np.array(["a", "b", "c", "never"])


def make_data(rng, n=700, p=4):
    """Rows, labels, weights, and a model whose last class is neither a label nor a prediction."""
    theta = rng.normal(size=(4, p + 1))
    theta[3] = [0] * p + [-50]
    X = rng.normal(size=(n, p))
    return X, CLASSES[rng.integers(0, 3, n)], rng.random(n), Model(theta, CLASSES)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
def test_metrics_equal_scikit_learns(rng, lazy, weighted):
    X, y, weights, model = make_data(rng)
    weights = weights if weighted else None
    rows = da.from_array(X, chunks=(90, -1)) if lazy else X
    found = evaluate(model, opened(rows, y, weights), ThreadsEngine(2))
    predicted, P = model.predict(X), model.predict_proba(X)
    options = {"sample_weight": weights, "labels": CLASSES}
    assert_allclose(found.confusion, theirs.confusion_matrix(y, predicted, **options), rtol=1e-12)
    assert_allclose(found.log_loss, theirs.log_loss(y, P, **options), rtol=1e-10)
    expected = theirs.accuracy_score(y, predicted, sample_weight=weights)
    assert_allclose(found.accuracy, expected, rtol=1e-12)
    assert_allclose(accuracy(model, opened(rows, y, weights), SerialEngine()), expected, rtol=1e-12)
    precision, recall, _, support = theirs.precision_recall_fscore_support(
        y, predicted, zero_division=np.nan, **options
    )
    assert_allclose(found.precision, precision, rtol=1e-12)
    assert_allclose(found.recall, recall, rtol=1e-12)
    assert_allclose(found.support, support, rtol=1e-12)
    assert np.isnan([found.precision[3], found.recall[3]]).all()
    assert found.as_dict()["precision"][3] is None
    assert found.n_rows == len(y)


def test_slabs_of_logits_change_no_metric(rng, monkeypatch):
    X, y, weights, model = make_data(rng)
    whole = evaluate(model, opened(X, y, weights), SerialEngine())
    monkeypatch.setattr(metrics, "TILE_VALUES", 40)
    slabs = evaluate(model, opened(X, y, weights), SerialEngine())
    assert_allclose(slabs.confusion, whole.confusion, rtol=1e-12)
    assert_allclose(slabs.log_loss, whole.log_loss, rtol=1e-12)


def test_an_unknown_label_is_an_error_of_the_metrics_and_wrong_in_the_accuracy(rng):
    X, y, _, model = make_data(rng)
    y = np.where(np.arange(len(y)) % 2, y, "new")
    with pytest.raises(DataError, match=r"label 'new' .* is not among the 4 classes"):
        evaluate(model, opened(X, y), SerialEngine())
    expected = theirs.accuracy_score(y, model.predict(X))
    assert accuracy(model, opened(X, y), SerialEngine()) == expected


@pytest.mark.parametrize("measure", [evaluate, accuracy])
def test_rows_that_cannot_be_measured_are_refused(rng, measure):
    X, y, _, model = make_data(rng)
    with pytest.raises(DataError, match="weights are all zero; expected a positive sum"):
        measure(model, opened(X, y, np.zeros(len(y))), SerialEngine())
    with pytest.raises(DataError, match="X has 2 features, but the model is expecting 4"):
        measure(model, opened(X[:, :2], y), SerialEngine())
    X[5, 1] = np.nan
    with pytest.raises(DataError, match="X row 5, column 1: the value is nan"):
        measure(model, opened(X, y), SerialEngine())


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([b"0", b"1"], [0, 1]), (["0", "1"], [0, 1]), ([0, 1], ["0", "1"]), ([0, 1], [b"0", b"1"])],
)
def test_labels_of_another_kind_have_no_accuracy(labels, classes):
    model = Model(np.zeros((2, 2)), np.array(classes))
    with pytest.raises(DataError, match=r"y holds .*; expected .*Pass labels of the same kind"):
        accuracy(model, opened(np.zeros((2, 1)), np.array(labels)), SerialEngine())


def test_the_largest_integers_are_compared_exactly():
    labels = np.array([2**63 - 1, 2**63 - 2])
    model = Model(np.zeros((2, 2)), np.array([2**63 - 2, 2**63 - 1], np.uint64))
    assert_array_equal(model.predict(np.zeros((2, 1))), [2**63 - 2] * 2)
    assert accuracy(model, opened(np.zeros((2, 1)), labels), SerialEngine()) == 0.5
