"""A model predicts what its coefficients say."""

import numpy as np
import pytest
import scipy.sparse
from estimator_cases import OUTPUTS
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import DataError, OptionError
from dsoftmax.results.model import Model, centred, theta_from
from dsoftmax.results.outputs import labels, probabilities


def model_of(rng, classes, p=4):
    return Model(rng.normal(size=(len(classes), p + 1)), np.array(classes))


def test_predictions_follow_the_coefficients(rng):
    model, X = model_of(rng, ["a", "bee", "é"]), rng.normal(size=(100, 4))
    Z = X @ model.theta[:, :-1].T + model.theta[:, -1]
    assert_allclose(model.decision_function(X), Z, rtol=1e-12)
    assert_allclose(model.predict_proba(X), softmax(Z, axis=1), rtol=1e-11)
    assert_array_equal(model.predict(X), model.classes[Z.argmax(axis=1)])
    assert model.predict(X).dtype == model.classes.dtype
    assert_allclose(model.predict_log_proba(X), log_softmax(Z, axis=1), rtol=1e-11)
    assert_allclose(model.decision_function(scipy.sparse.csr_array(X)), Z, rtol=1e-12)
    assert model.decision_function(X.astype("f4")).dtype == np.float32
    assert model.decision_function(X.astype("f4"), dtype="float64").dtype == np.float64
    assert labels(model, X[:0]).shape == (0,)


def test_two_classes_have_one_row_of_coefficients(rng):
    model, X = model_of(rng, ["a", "b"]), rng.normal(size=(100, 4))
    found = model.decision_function(X)
    assert_allclose(found, X @ model.coef_[0] + model.intercept_[0], rtol=1e-10, atol=1e-12)
    assert_array_equal(model.predict(X), np.where(found > 0, "b", "a"))
    theta = theta_from(model.coef_, model.intercept_)
    assert_allclose(theta[1] - theta[0], model.theta[1] - model.theta[0], rtol=1e-12)


def test_another_number_of_features_is_refused(rng):
    with pytest.raises(DataError, match="X has 3 features, but the model is expecting 4"):
        model_of(rng, [-1, 5, 2**40]).predict(np.zeros((2, 3)))


@pytest.mark.parametrize("dtype", ["int8", "float16", "nonsense", ">c16", 3])
@pytest.mark.parametrize("output", OUTPUTS)
def test_another_dtype_than_those_of_products_is_refused(rng, output, dtype):
    model, X = model_of(rng, [0, 1, 2]), rng.normal(size=(5, 4))
    estimator = SoftmaxRegression().fit(X, [0, 1, 2, 0, 1]).set_params(dtype=dtype)
    message = f"dtype={dtype!r}; expected 'float32', 'float64', or None"
    with pytest.raises(OptionError, match=message):
        getattr(model, output)(X, dtype=dtype)
    with pytest.raises(OptionError, match=message):
        getattr(estimator, output)(X)


def test_centring_changes_no_probability(rng):
    theta, X = rng.normal(size=(3, 5)), rng.normal(size=(20, 4))
    one, two = Model(theta, np.arange(3)), Model(centred(theta), np.arange(3))
    assert_allclose(two.predict_proba(X), one.predict_proba(X), rtol=1e-12)
    assert_allclose(centred(theta).sum(axis=0), 0, atol=1e-15)


@pytest.mark.parametrize("K", [2, 3])
def test_centring_after_an_l1_penalty_keeps_zeros(rng, K):
    theta, X = rng.normal(size=(K, 5)), rng.normal(size=(20, 4))
    theta[0] = 0
    found = centred(theta, keep_zeros=True)
    assert_allclose(
        Model(found, np.arange(K)).predict_proba(X),
        Model(theta, np.arange(K)).predict_proba(X),
        rtol=1e-12,
    )
    assert_allclose(found[:, -1].sum(), 0, atol=1e-15)
    if K == 2:
        assert_array_equal(found[1] - found[0], theta[1])
    else:
        assert_array_equal(found[:, :-1], theta[:, :-1])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("offset", "size", "dtype"),
    [(1e5, 1, "f4"), (5e6, 1e3, "f4"), (60_000, 10, "u2"), (0, 1, "f4")],
)
def test_features_far_from_zero_have_precise_probabilities(rng, offset, size, dtype, sparse):
    X = (offset + size * rng.normal(size=(5000, 4))).astype(dtype)
    W = rng.normal(size=(3, 4)) / size
    theta = np.hstack([W, -W @ np.full((4, 1), offset)])
    model = Model(theta, np.arange(3))
    expected = softmax((X.astype(float) - offset) @ W.T, axis=1)
    found = model.predict_proba(scipy.sparse.csr_array(X) if sparse else X)
    assert found.dtype == np.float32
    assert_allclose(found, expected, atol=1e-6)
    assert probabilities(model, X[:0]).shape == (0, 3)
