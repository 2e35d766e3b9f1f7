"""Truncated Newton in memory: SciPy finds the same minimum."""

import numpy as np
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from dsoftmax.solvers.algebra.minimise import Function, minimise
from dsoftmax.testing.solvers import convex_problem


def test_the_minimum_is_that_of_scipy(rng):
    local = convex_problem((3, 4)).local
    function = Function(local.value_and_gradient, local.products, 1e-15)
    start = 5 * rng.normal(size=(3, 4))
    found, fell = minimise(function, start, np.copy)
    theirs = minimize(
        lambda t: local.value_and_gradient(t.reshape(3, 4))[0],
        start.ravel(),
        jac=lambda t: local.value_and_gradient(t.reshape(3, 4))[1].ravel(),
        method="BFGS",
        options={"gtol": 1e-10},
    )
    assert_allclose(found.ravel(), theirs.x, atol=1e-5)
    assert_allclose(fell, local.value_and_gradient(start)[0] - theirs.fun, rtol=1e-8)


def test_a_function_without_a_minimum_is_left_at_the_first_step(rng):
    local = convex_problem((3, 4)).local
    C = -np.diag(rng.uniform(1, 2, 12))

    def value_and_gradient(theta):
        value, gradient = local.value_and_gradient(theta)
        bent = (C @ theta.ravel()).reshape(3, 4)
        return value + 0.5 * np.sum(bent * theta), gradient + bent

    def products(theta):
        of_local = local.products(theta)
        return lambda V: of_local(V) + (C @ V.ravel()).reshape(3, 4)

    start = rng.normal(size=(3, 4))
    found, fell = minimise(
        Function(value_and_gradient, products, 1e-15, most=100.0), start, np.copy
    )
    assert np.isfinite(found).all()
    assert 0 < fell <= 100
