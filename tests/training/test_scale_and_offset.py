"""Convergence knows no units: neither the scale nor the offset of a feature decides it."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from opening import opened

from dsoftmax import SoftmaxRegression
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.estimators.sklearn import ConvergenceWarning
from dsoftmax.training.ending import Kind
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings


def rows(n=2000, p=4, K=3, size=1.0):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, p))
    return Z, (Z @ (size * rng.normal(size=(K, p))).T + rng.gumbel(size=(n, K))).argmax(axis=1)


def fitted(X, y, **options):
    return train(opened(X, y), SerialEngine(), Settings(**options))


@pytest.mark.parametrize("scale", [1e-3, 1e-5, 1e-8, 1e6, 1e12])
@pytest.mark.parametrize("C", [np.inf, 1e12])
def test_without_a_penalty_the_unit_of_the_features_changes_no_result(scale, C):
    Z, y = rows()
    plain, scaled = fitted(Z, y, C=C), fitted(Z * scale, y, C=C * scale**-2)
    assert scaled.converged, scaled.status
    assert_allclose(scaled.model.theta[:, :-1] * scale, plain.model.theta[:, :-1], atol=2e-3)
    assert scaled.run.state.value == pytest.approx(plain.run.state.value, rel=1e-6)


def test_a_wide_model_of_small_features_is_no_constant():
    Z, y = rows(3000, 120, 10, 0.3)
    plain, small = fitted(Z, y, C=np.inf), fitted(Z * 1e-4, y, C=np.inf)
    assert small.run.state.n_iter > 0
    assert small.run.state.value == pytest.approx(plain.run.state.value, rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((800, 6, 3), {"C": 0.1, "l1_ratio": 1.0}),
        ((2000, 60, 20), {}),  # over a thousand entries, in memory
        ((2000, 60, 20), {"solver": "matrix-free"}),
        ((2000, 6, 3), {}),
        ((2000, 6, 3), {"solver": "lbfgs"}),
    ],
)
@pytest.mark.parametrize("offset", [18.0, 1000.0, 10_000.0])
def test_the_offset_of_the_features_costs_no_pass(shape, options, offset):
    Z, y = rows(*shape, 0.3)
    plain, moved = fitted(Z, y, **options), fitted(Z + offset, y, **options)
    assert moved.converged, moved.status
    assert moved.run.n_passes <= plain.run.n_passes + 1
    assert_allclose(moved.model.theta[:, :-1], plain.model.theta[:, :-1], atol=1e-5)


@pytest.mark.parametrize(("offset", "scale"), [(1.7e9, 1e5), (0.0, 1e12)])
def test_at_the_optimum_of_large_units_a_run_has_converged(offset, scale):
    """Rounding alone keeps max|∇F| above tol there."""
    Z, y = rows()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        estimator = SoftmaxRegression().fit(offset + scale * Z, y)
    best = SoftmaxRegression(C=scale**2, tol=1e-10).fit(Z, y)
    assert estimator.objective_ == pytest.approx(best.objective_, abs=1e-9)


def test_the_distance_of_an_optimum_that_rounding_hides_is_not_called_small():
    """Digits of the features are lost: the run may stop far away, and must say so."""
    Z, y = rows()
    for power in (8, 10, 12):
        X = 10.0**power + Z
        best = fitted(X - 10.0**power, y, C=np.inf, tol=1e-9)
        found = fitted(X, y, C=np.inf)
        assert found.run.gap >= 0.1 * (found.run.state.value - best.run.state.value)


def test_a_small_gradient_far_from_the_optimum_ends_no_run():
    Z, y = rows()
    found = fitted(Z * 1e-6, y, C=np.inf)
    first = found.history[0]
    assert first.gradient_max < Settings().tol < first.gap
    assert found.run.state.n_iter > 0


@pytest.mark.parametrize("n", [100, 20_000])
@pytest.mark.parametrize("solver", ["auto", "lbfgs", "lbfgs-kronecker", "matrix-free", "newton"])
def test_separated_classes_are_named_before_the_gradient_is_small(rng, n, solver):
    """Of many rows the gradient is below tol long before F proves that all are right."""
    y = np.repeat([0, 1, 2], n)
    X = np.eye(3)[y] + rng.uniform(-0.2, 0.2, size=(3 * n, 3))
    found = fitted(X, y, C=np.inf, solver=solver, max_iter=300)
    assert (found.ending.kind, found.converged) == (Kind.SEPARATED, False)
    with pytest.warns(ConvergenceWarning, match="separates the classes"):
        SoftmaxRegression(C=np.inf).fit(X, y)
