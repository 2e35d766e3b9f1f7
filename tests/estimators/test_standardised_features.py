"""``scale="standard"``: the optimum of StandardScaler and LogisticRegression, as one model."""

import warnings

import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV, load_model, save_model
from dsoftmax.errors import OptionError

EXACT = {"scale": "standard", "tol": 1e-10, "max_iter": 1000, "engine": "serial"}
WITH_L1 = {"solver": "saga", "tol": 1e-11, "max_iter": 100_000}


def rows(K=3, n=500, sparse=False, offset=0.0):
    """Features of very different units, of which the last one is constant."""
    rng = np.random.default_rng(K)
    Z = rng.normal(size=(n, 4))
    y = (Z @ rng.normal(size=(4, K)) + rng.gumbel(size=(n, K))).argmax(axis=1)
    units = np.array([1, 10, 0.01, 1000])
    if sparse:
        return scipy.sparse.csr_array(Z * (Z > 0) * units), y, rng.uniform(0.2, 3, n)
    X = np.column_stack([Z * units + [0, 5, 1, -3000], np.full(n, 7.0)]) + offset
    return X, y, rng.uniform(0.2, 3, n) * (np.arange(n) % 7 > 0)


def pipeline(X, y, weights=None, **options):
    """Return scikit-learn's coefficients and intercepts in the units of X, and its scaler."""
    with np.errstate(invalid="ignore"):  # rounding makes the variance of a constant negative
        scaler = StandardScaler(with_mean=not scipy.sparse.issparse(X)).fit(X, None, weights)
    found = LogisticRegression(
        **{"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000} | options
    )
    found.fit(scaler.transform(X), y, weights)
    coef = found.coef_ / scaler.scale_
    moved = 0 if scaler.with_mean is False else coef @ scaler.mean_
    return coef, found.intercept_ - moved, scaler


def assert_same(ours, X, theirs, atol=1e-8):
    """Both models agree in the units of standardised features."""
    coef, intercept, scaler = theirs
    assert_allclose(ours.coef_ * scaler.scale_, coef * scaler.scale_, atol=atol)
    if len(coef) > 1:  # a shift of all intercepts changes no probability
        intercept = intercept - intercept.mean()
    assert_allclose(ours.coef_ @ scaler.mean_ + ours.intercept_, coef @ scaler.mean_ + intercept,
                    atol=atol)  # fmt: skip


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_that_of_the_pipeline(K, sparse, weighted):
    X, y, weights = rows(K, sparse=sparse)
    weights = weights if weighted else None
    theirs = pipeline(X, y, weights, C=0.1)
    ours = SoftmaxRegression(C=0.1, **EXACT).fit(X, y, weights)
    assert_same(ours, X, theirs)
    assert_allclose(ours.model_.scaling, [theirs[2].mean_, theirs[2].scale_], rtol=1e-10)
    Z = X / theirs[2].scale_ if not sparse else scipy.sparse.csr_array(X / theirs[2].scale_)
    plain = SoftmaxRegression(C=0.1, **(EXACT | {"scale": None})).fit(Z, y, weights)
    assert ours.objective_ == pytest.approx(plain.objective_, rel=1e-12)


@pytest.mark.parametrize(
    "solver", ["surrogate", "matrix-free", "lbfgs", "lbfgs-kronecker", "newton", "bohning"]
)
def test_every_solver_finds_it(solver):
    X, y, _ = rows()
    ours = SoftmaxRegression(C=0.1, solver=solver, **EXACT).fit(X, y)
    assert_same(ours, X, pipeline(X, y, C=0.1), 1e-7)


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_an_l1_part_is_on_scaled_coefficients(K, l1_ratio):
    X, y, _ = rows(K)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pipeline(X, y, C=0.02, l1_ratio=l1_ratio, **WITH_L1)
    ours = SoftmaxRegression(C=0.02, l1_ratio=l1_ratio, **EXACT).fit(X, y)
    assert_same(ours, X, theirs, 1e-7)
    assert (ours.coef_ == 0).any()
    assert_array_equal(ours.coef_ == 0, np.abs(theirs[0] * theirs[2].scale_) < 1e-9)


def test_float32_rows_have_the_optimum_of_their_exact_values():
    X, y, _ = rows()
    X = X.astype(np.float32)
    ours = SoftmaxRegression(**EXACT | {"tol": 1e-9}).fit(X, y)
    coef, _, scaler = pipeline(X.astype(np.float64), y)
    theta = ours.model_.theta[:, :-1]
    assert_allclose(theta * scaler.scale_, (coef - coef.mean(axis=0)) * scaler.scale_, atol=1e-7)


def test_means_far_above_the_spreads_take_one_more_pass():
    X, y, _ = rows(offset=0.0)
    X[:, 2] += 1e4  # 1,000,000 standard deviations
    ours = SoftmaxRegression(**EXACT | {"tol": 1e-8}).fit(X, y)
    theirs = pipeline(X, y)
    assert_allclose(ours.model_.scaling[1], theirs[2].scale_, rtol=1e-9)
    assert_allclose(ours.coef_ * theirs[2].scale_, theirs[0] * theirs[2].scale_, atol=1e-6)
    assert ours.history_[0]["pass"] == 2
    assert ours.history_[0]["rows"] == 2 * len(X)
    assert ours.n_passes_ == ours.history_[-1]["pass"] == len(ours.history_) + 1


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("offset", [0.0, 200.0])
def test_every_fold_is_scaled_by_the_rows_it_trains_on(sparse, offset):
    X, y, weights = rows(sparse=sparse)
    if offset and not sparse:
        X[:, 2] += offset  # takes the pass of the spreads
    ours = SoftmaxRegressionCV(Cs=[0.01, 1.0], cv=3, **EXACT | {"tol": 1e-8}).fit(X, y, weights)
    which = np.array([reference.fold(row, 3) for row in range(len(y))])
    for fold in range(3):
        kept = which != fold
        for number, C in enumerate([0.01, 1.0]):
            coef, _, scaler = pipeline(X[kept], y[kept], weights[kept], C=C)
            found = ours.coefs_paths_[fold, number, :, :-1]
            assert_allclose(found * scaler.scale_, coef * scaler.scale_, atol=1e-6)
    assert_allclose(ours.model_.scaling[1], pipeline(X, y, weights)[2].scale_, rtol=1e-9)


def test_a_feature_that_is_constant_in_the_rows_of_a_fold_has_scale_1_there():
    X, y, _ = rows()
    which = np.array([reference.fold(row, 3) for row in range(len(y))])
    X[:, 4] = np.where(which == 1, X[:, 0], 0.1)
    ours = SoftmaxRegressionCV(Cs=[1.0], cv=3, **EXACT | {"tol": 1e-8}).fit(X, y)
    for fold in range(3):
        kept = which != fold
        coef, _, scaler = pipeline(X[kept], y[kept])
        assert (scaler.scale_[4] == 1) == (fold == 1)
        found = ours.coefs_paths_[fold, 0, :, :-1]
        assert_allclose(found * scaler.scale_, coef * scaler.scale_, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_engines_give_the_same_bits(tmp_path, offset):
    X, y, weights = rows(offset=offset)
    stored = zarr.create_array(tmp_path / "X", data=X, chunks=(100, 5))
    fits = [
        SoftmaxRegression(**EXACT | {"engine": engine, "tol": 1e-6}).fit(data, y, weights).model_
        for engine, data in (("serial", stored), ("threads", stored), ("serial", X))
    ]
    assert len({one.theta.tobytes() for one in fits}) == 1
    assert len({one.scaling.tobytes() for one in fits}) == 1


def test_a_lazy_array_has_the_same_optimum():
    X, y, weights = rows()
    ours = SoftmaxRegression(**EXACT).fit(da.from_array(X, chunks=(100, 5)), y, weights)
    assert_same(ours, X, pipeline(X, y, weights))


def test_the_model_says_it_and_keeps_the_scales(tmp_path):
    X, y, _ = rows()
    model = SoftmaxRegression(**EXACT).fit(X, y).model_
    assert model.about["scale"] == "standard"
    save_model(model, tmp_path / "model.zarr")
    assert_array_equal(load_model(tmp_path / "model.zarr").scaling, model.scaling)
    assert SoftmaxRegression().fit(X[:, :2], y).model_.scaling is None


def test_standard_errors_are_those_of_the_scaled_penalty():
    X, y, _ = rows(2)
    X = X[:, :4]
    ours = SoftmaxRegression(C=0.1, **EXACT).fit(X, y)
    Z = StandardScaler().fit(X).transform(X)
    plain = SoftmaxRegression(C=0.1, **EXACT | {"scale": None}).fit(Z, y)
    found, expected = ours.uncertainty(X, y).coef, plain.uncertainty(Z, y).coef
    assert_allclose(found.standard_error * X.std(axis=0), expected.standard_error, rtol=1e-7)
    assert_allclose(found.z, expected.z, rtol=1e-6)


def test_a_separation_is_found_and_named_in_any_units():
    X, y, _ = rows(2)
    X[:, 3] = np.where(y == 1, 1, -1) * 1e-6 * (1 + np.abs(X[:, 0]))
    with pytest.warns(ConvergenceWarning, match="separates the classes.* feature.* 3"):
        SoftmaxRegression(C=np.inf, **EXACT).fit(X, y)


def test_a_warm_start_at_the_optimum_stays_there():
    X, y, _ = rows()
    first = SoftmaxRegression(**EXACT).fit(X, y)
    again = SoftmaxRegression(**EXACT | {"tol": 1e-8}).fit(
        X, y, coef_init=first.coef_, intercept_init=first.intercept_
    )
    assert again.n_iter_[0] == 0


def test_unknown_scales_and_fixed_intercepts_are_refused():
    X, y, _ = rows()
    with pytest.raises(OptionError, match="scale='minmax' is unknown; expected 'standard'"):
        SoftmaxRegression(scale="minmax").fit(X, y)
    with pytest.raises(OptionError, match="Fit intercepts, or scale the features before"):
        SoftmaxRegression(scale="standard", fit_intercept=False).fit(X, y)
