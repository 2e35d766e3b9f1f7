"""Habits of scikit-learn: the dtype of coef_, sparsify and densify, no iterations at all."""

import pickle
import warnings

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from estimator_cases import OUTPUTS, make_data, stored
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV

DTYPES = ["f4", "f8", "f2", "i2", "u1", ">f4"]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_coefficients_have_the_dtype_of_scikit_learn(dtype, n_classes, tmp_path):
    X, y = make_data(n_classes)
    X = np.abs(X * 3).astype(dtype)
    theirs = LogisticRegression().fit(X, y)
    for rows in (X, da.from_array(X, chunks=(100, -1)), stored(tmp_path, dtype, X, (100, 5))):
        ours = SoftmaxRegression().fit(rows, y)
        assert ours.coef_.dtype == theirs.coef_.dtype
        assert ours.intercept_.dtype == theirs.intercept_.dtype
        assert ours.model_.theta.dtype == np.float64
    sparse = SoftmaxRegression().fit(scipy.sparse.csr_array(X.astype("f4")), y)
    assert sparse.coef_.dtype == np.float32


def test_predictions_and_starts_keep_the_digits_that_float32_does_not_show():
    X, y = make_data(3)
    X = X.astype("f4")
    ours = SoftmaxRegression(dtype="float64").fit(X, y)
    assert not np.array_equal(ours.coef_, ours.model_.coef_)
    for output in OUTPUTS:
        found = getattr(ours, output)(X)
        np.testing.assert_array_equal(found, getattr(ours.model_, output)(X, dtype="float64"))
    again = ours.set_params(warm_start=True, max_iter=0)
    before = ours.model_.theta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again.fit(X, y)
    np.testing.assert_allclose(again.model_.theta, before, rtol=0, atol=1e-15)
    ours.coef_ = ours.coef_ * 2
    expected = X @ (2 * before[:, :-1].T)
    found = ours.decision_function(X) - ours.intercept_
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), expected, atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sparse_coefficients_predict_as_dense_ones(n_classes, dtype):
    X, y = make_data(n_classes)
    X = X.astype(dtype)
    ours = SoftmaxRegression(l1_ratio=1.0, C=0.05, tol=1e-6).fit(X, y)
    theirs = LogisticRegression(l1_ratio=1.0, C=0.05, solver="saga", max_iter=5000).fit(X, y)
    dense = ours.coef_
    expected = {output: getattr(ours, output)(X) for output in OUTPUTS}
    assert ours.sparsify() is ours
    assert type(ours.coef_) is type(scipy.sparse.csr_array(theirs.coef_))
    assert ours.coef_.nnz == np.count_nonzero(dense) < dense.size
    for one in (ours, pickle.loads(pickle.dumps(ours)), ours.sparsify()):
        for output in OUTPUTS:
            np.testing.assert_array_equal(getattr(one, output)(X), expected[output])
        assert one.score(X, y) == np.mean(expected["predict"] == y)
    ours.coef_ = ours.coef_ * 0
    assert len(np.unique(ours.predict(X))) == 1
    ours.coef_ = scipy.sparse.csr_array(dense)
    assert ours.densify() is ours
    np.testing.assert_array_equal(ours.coef_, dense)
    np.testing.assert_array_equal(ours.densify().predict(X), expected["predict"])
    assert ours.sparsify().fit(X, y).coef_.shape == dense.shape


@pytest.mark.parametrize("method", ["sparsify", "densify"])
@pytest.mark.parametrize("estimator", [SoftmaxRegression(), SoftmaxRegressionCV()])
def test_only_a_fitted_estimator_is_sparsified(method, estimator):
    with pytest.raises(NotFittedError):
        getattr(estimator, method)()


@pytest.mark.parametrize("solver", ["auto", "lbfgs", "surrogate", "newton", "matrix-free"])
def test_without_iterations_the_coefficients_are_those_of_the_start(solver):
    X, y = make_data(3)
    with pytest.warns(UserWarning, match="max_iter = 0"):
        ours = SoftmaxRegression(max_iter=0, solver=solver).fit(X, y)
    np.testing.assert_array_equal(ours.coef_, 0)
    priors = np.log(np.bincount(y) / len(y))
    np.testing.assert_allclose(ours.intercept_, priors - priors.mean(), atol=1e-12)
    assert ours.n_iter_.tolist() == [0]
    start = np.random.default_rng(0).normal(size=(3, 5))
    start -= start.mean(axis=0)
    with pytest.warns(UserWarning, match="max_iter = 0"):
        ours.fit(X, y, coef_init=start, intercept_init=[0.5, -0.5, 0.0])
    np.testing.assert_allclose(ours.coef_, start, atol=1e-12)
    np.testing.assert_allclose(ours.intercept_, [0.5, -0.5, 0.0], atol=1e-12)
    assert ours.n_iter_.tolist() == [0]
