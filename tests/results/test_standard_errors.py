"""Standard errors against statsmodels' MNLogit and Logit, and against the formula written out."""

import numpy as np
import pytest
import reference
import scipy.sparse
import statsmodels.api as sm
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from dsoftmax import SoftmaxRegression
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import DataError, MemoryLimitError, OptionError

EXACT = {"tol": 1e-11, "max_iter": 300, "solver": "newton"}


def make_data(K, n=400, p=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * [1.0, 30.0, 0.01][:p] + 2
    y = (
        0.5 * (X - 2) / [1.0, 30.0, 0.01][:p] @ rng.normal(size=(p, K)) + rng.gumbel(size=(n, K))
    ).argmax(axis=1)
    return X, y


def columns(found):
    """Our arrays in statsmodels' layout: a row a feature, the constant first, a column a class."""
    names = ("value", "standard_error", "z", "p_value", "low", "high")
    return {
        name: np.column_stack([getattr(found.intercept, name), getattr(found.coef, name)]).T
        for name in names
    }


def assert_same(ours, theirs, rtol=1e-6):
    low, high = np.moveaxis(np.asarray(theirs.conf_int()), -1, 0)
    expected = (theirs.params, theirs.bse, theirs.tvalues, theirs.pvalues, low.T, high.T)
    for (name, values), other in zip(columns(ours).items(), expected, strict=True):
        other = np.asarray(other).reshape(values.shape)
        assert_allclose(values, other, rtol=rtol, atol=1e-6 * abs(other).max(), err_msg=name)


@pytest.mark.parametrize("K", [3, 4])
def test_everything_equals_statsmodels_against_a_reference(K):
    X, y = make_data(K)
    theirs = sm.MNLogit(y, sm.add_constant(X)).fit(disp=0, method="newton", maxiter=100, tol=1e-9)
    ours = SoftmaxRegression(C=np.inf, **EXACT).fit(X, y).uncertainty(X, y, reference=0)
    assert_same(ours, theirs)
    assert_array_equal(ours.classes, range(1, K))
    assert_allclose(
        ours.covariance, permuted(np.asarray(theirs.cov_params()), K - 1), rtol=1e-5, atol=1e-10
    )
    assert ours.distance < 1e-5


def permuted(covariance, rows):
    """statsmodels has the constant first in each row, we have it last."""
    d = len(covariance) // rows
    order = np.concatenate([r * d + np.r_[1:d, 0] for r in range(rows)])
    return covariance[np.ix_(order, order)]


def test_another_reference_is_statsmodels_with_the_classes_renamed():
    X, y = make_data(3)
    renamed = np.array([1, 2, 0])[y]  # class 2 becomes the first, which is statsmodels' reference
    theirs = sm.MNLogit(renamed, sm.add_constant(X)).fit(
        disp=0, method="newton", maxiter=100, tol=1e-9
    )
    labels = np.array(["a", "b", "c"])
    estimator = SoftmaxRegression(C=np.inf, **EXACT).fit(X, labels[y])
    ours = estimator.uncertainty(X, labels[y], reference="c")
    assert_same(ours, theirs)
    assert ours.classes.tolist() == ["a", "b"]


@pytest.mark.parametrize("reference_class", [None, 0])
def test_two_classes_equal_statsmodels_logit(reference_class):
    X, y = make_data(2)
    theirs = sm.Logit(y, sm.add_constant(X)).fit(disp=0, method="newton", maxiter=100, tol=1e-9)
    estimator = SoftmaxRegression(C=np.inf, **EXACT).fit(X, y)
    ours = estimator.uncertainty(X, y, reference=reference_class, level=0.95)
    assert_same(ours, theirs)
    assert_array_equal(ours.coef.value, estimator.coef_)
    assert_array_equal(ours.intercept.value, estimator.intercept_)


def test_the_level_is_that_of_statsmodels():
    X, y = make_data(2)
    theirs = (
        sm.Logit(y, sm.add_constant(X))
        .fit(disp=0, method="newton", maxiter=100, tol=1e-9)
        .conf_int(alpha=0.2)
    )
    ours = columns(SoftmaxRegression(C=np.inf, **EXACT).fit(X, y).uncertainty(X, y, level=0.8))
    assert_allclose(np.column_stack([ours["low"], ours["high"]]), theirs, rtol=1e-6)


def test_weights_are_repetitions_of_rows():
    X, y = make_data(3, n=200)
    weights = np.random.default_rng(1).integers(0, 4, 200)
    often = np.repeat(np.arange(200), weights)
    theirs = sm.MNLogit(y[often], sm.add_constant(X[often])).fit(
        disp=0, method="newton", maxiter=100, tol=1e-9
    )
    ours = (
        SoftmaxRegression(C=np.inf, **EXACT)
        .fit(X, y, weights)
        .uncertainty(X, y, weights, reference=0)
    )
    assert_same(ours, theirs)


def test_without_intercept_equals_statsmodels_without_constant():
    X, y = make_data(3)
    theirs = sm.MNLogit(y, X).fit(disp=0, method="newton", maxiter=100, tol=1e-9)
    ours = (
        SoftmaxRegression(C=np.inf, fit_intercept=False, **EXACT)
        .fit(X, y)
        .uncertainty(X, y, reference=0)
    )
    assert_allclose(ours.coef.standard_error.T, theirs.bse, rtol=1e-6)
    assert_allclose(ours.coef.p_value.T, theirs.pvalues, rtol=1e-6)
    assert np.isnan(ours.intercept.standard_error).all()


def test_centred_rows_are_a_linear_map_of_statsmodels_contrasts():
    X, y = make_data(3)
    theirs = sm.MNLogit(y, sm.add_constant(X)).fit(disp=0, method="newton", maxiter=100, tol=1e-9)
    estimator = SoftmaxRegression(C=np.inf, **EXACT).fit(X, y)
    ours = estimator.uncertainty(X, y)
    rows = (np.eye(3) - 1 / 3)[:, 1:]  # θ less its mean, from the differences to class 0
    there = (
        np.kron(rows, np.eye(4))
        @ permuted(np.asarray(theirs.cov_params()), 2)
        @ np.kron(rows, np.eye(4)).T
    )
    assert_allclose(ours.covariance, there, rtol=1e-5, atol=1e-10)
    assert_allclose(ours.coef.value, estimator.coef_, rtol=1e-12)
    assert ours.coef.standard_error.shape == (3, 3)
    assert ours.intercept.standard_error.shape == (3,)


@pytest.mark.parametrize("K", [2, 3])
def test_with_a_penalty_it_is_the_sandwich_of_the_literal_hessian(K):
    X, y = make_data(K, n=60)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    estimator = SoftmaxRegression(C=0.3, **EXACT).fit(X, y)
    H = reference.hessian(estimator.model_.theta, X)
    strength = 1 / (0.3 / 2 if K == 2 else 0.3)
    penalised = H + np.diag(np.tile([strength] * 3 + [0.0], K))
    inverse = np.linalg.pinv(
        penalised
    )  # singular along the shift of the intercepts alone, which changes nothing
    expected = inverse @ H @ inverse
    contrast = np.kron(np.array([[-1.0, 1.0]]) if K == 2 else np.eye(3) - 1 / 3, np.eye(4))
    assert_allclose(
        estimator.uncertainty(X, y).covariance,
        contrast @ expected @ contrast.T,
        rtol=1e-6,
        atol=1e-12,
    )


def test_any_storage_gives_the_same(tmp_path):
    X, y = make_data(3)
    estimator = SoftmaxRegression(C=np.inf, **EXACT).fit(X, y)
    stored = zarr.create_array(tmp_path / "X", data=X, chunks=(50, 3))
    expected = estimator.uncertainty(X, y).coef.standard_error
    for other in (stored, scipy.sparse.csr_array(X)):
        assert_allclose(estimator.uncertainty(other, y).coef.standard_error, expected, rtol=1e-9)


def test_it_is_one_pass():
    X, y = make_data(3)
    engine, passes = SerialEngine(), []
    estimator = SoftmaxRegression(C=np.inf, engine=engine, **EXACT).fit(X, y)
    total = engine.total
    engine.total = lambda visit, source: passes.append(1) or total(visit, source)
    estimator.uncertainty(X, y)
    assert len(passes) == 1


def test_invalid_requests_are_refused():
    X, y = make_data(3)
    estimator = SoftmaxRegression(C=np.inf, **EXACT).fit(X, y)
    with pytest.raises(OptionError, match="reference=7 is no class"):
        estimator.uncertainty(X, y, reference=7)
    with pytest.raises(OptionError, match="level=95"):
        estimator.uncertainty(X, y, level=95)
    with pytest.raises(NotFittedError):
        SoftmaxRegression().uncertainty(X, y)
    with pytest.raises(OptionError, match="class_weight"):
        SoftmaxRegression(class_weight="balanced").fit(X, y).uncertainty(X, y)
    for l1_ratio in (1.0, 1e-3):
        with pytest.raises(OptionError, match="an L1 part has chosen"):
            SoftmaxRegression(l1_ratio=l1_ratio).fit(X, y).uncertainty(X, y)


def test_a_feature_that_depends_on_others_is_an_error():
    X, y = make_data(3)
    X = np.column_stack([X, X[:, 0] + X[:, 1]])
    estimator = SoftmaxRegression(C=np.inf, tol=1e-8, max_iter=300, solver="newton").fit(X, y)
    with pytest.raises(DataError, match="singular"):
        estimator.uncertainty(X, y)


def test_separable_classes_without_a_penalty_are_an_error_and_with_one_are_not():
    X = np.r_[np.linspace(-2, -1, 30), np.linspace(1, 2, 30)][:, None]
    y = (X[:, 0] > 0).astype(int)
    with pytest.warns(ConvergenceWarning, match="separates the classes"):
        estimator = SoftmaxRegression(C=np.inf, tol=1e-4).fit(X, y)
    with pytest.raises(DataError, match="are separable"):
        estimator.uncertainty(X, y)
    penalised = SoftmaxRegression(C=1.0, tol=1e-8).fit(X, y)
    assert 0 < penalised.uncertainty(X, y).coef.standard_error[0, 0] < 1


def test_a_hessian_that_does_not_fit_is_refused_before_the_pass():
    _, y = make_data(3)
    wide = np.random.default_rng(0).normal(size=(len(y), 3000)).astype(np.float32)
    estimator = SoftmaxRegression(
        memory_limit="600MiB", engine="serial", max_iter=1000, C=1e-4
    ).fit(wide, y)
    with pytest.raises(MemoryLimitError, match="need the Hessian"):
        estimator.uncertainty(wide, y)


def test_coefficients_far_from_the_optimum_of_these_rows_cause_a_warning():
    X, y = make_data(3)
    estimator = SoftmaxRegression(C=np.inf, **EXACT).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="standard errors from the optimum"):
        estimator.uncertainty(X[:200], y[:200])


def test_the_summary_has_a_line_for_every_coefficient():
    X, y = make_data(3)
    found = SoftmaxRegression(C=np.inf, **EXACT).fit(X, y).uncertainty(X, y, reference=0)
    lines = found.summary(["age", "weight", "height"]).splitlines()
    assert len(lines) == 2 * (2 + 4)
    assert lines[0] == "class 1 against 0"
    assert "[2.5%" in lines[1]
    assert "97.5%]" in lines[1]
    name, *numbers = lines[3].split()
    assert name == "age"
    ours = columns(found)
    assert_allclose(
        [float(one) for one in numbers], [values[1, 0] for values in ours.values()], rtol=1e-3
    )
    with pytest.raises(OptionError, match="expected 3"):
        found.summary(["age"])
