"""Quadratics with an L1 penalty: coordinate descent finds the same minimum and the same zeros."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.solvers.proximal_newton.sparse_quadratic import Budget, Quadratic, minimise


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("condition", [10.0, 1e3])
def test_the_quadratic_is_minimised_with_its_zeros(dense, condition):
    """Against coordinate descent, one entry at a time."""
    rng = np.random.default_rng(2)
    Q = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    B, w = Q * np.geomspace(1, 1 / condition, 20) @ Q.T, np.full(20, 0.03)
    g = -B @ (rng.normal(size=20) * (np.arange(20) % 2)) + 0.01 * rng.normal(size=20)
    w[3] = 0
    x = np.zeros(20)
    for _ in range(20_000):
        before = x.copy()
        for j in range(20):
            u = x[j] - (g[j] + B[j] @ x) / B[j, j]
            x[j] = np.sign(u) * max(abs(u) - w[j] / B[j, j], 0)
        if abs(x - before).max() < 1e-14:
            break
    shape = (4, 5)
    quadratic = Quadratic(
        lambda V: (B @ V.ravel()).reshape(shape),
        np.diag(B).reshape(shape),
        B if dense else None,
        w.reshape(shape),
        np.ones(shape, bool),
        Budget(100_000),
    )
    found = minimise(quadratic, np.zeros(shape), g.reshape(shape), 1e-24).ravel()
    assert_allclose(found, x, atol=1e-6 * abs(x).max())
    assert_array_equal(found == 0, x == 0)
    assert 0 < np.sum(x == 0) < 20
