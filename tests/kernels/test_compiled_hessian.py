"""The compiled Hessian against that of NumPy."""

import numpy as np
import pytest
import scipy.sparse
import strategies
from compiled_cases import NARROW, NEEDS_NUMBA, dense
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.kernels.compiled import fused, shapes
from dsoftmax.kernels.hessian import hessian_pairs, hessian_products

pytestmark = NEEDS_NUMBA


def curvature_size(theta, X, weights):
    """Return bounds of the entries of `hessian_pairs`, Σ sᵢ|x̃ᵢₐx̃ᵢ꜀|/4, which scale its rounding."""
    Xa = np.abs(np.hstack([np.asarray(X, float), np.ones((len(X), 1))]))
    found = (Xa * weights[:, None]).T @ Xa / 4
    return found[np.triu_indices(len(found))]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
@pytest.mark.parametrize(
    ("p", "K"), [(1, 2), (3, 2), NARROW, (40, 7), (65, 10), (100, 4), (128, 2)]
)
@pytest.mark.parametrize("n", [0, 1, 17, 5000])
def test_the_hessian_equals_that_of_numpy(rng, n, p, K, dtype):
    theta, X, _, w = dense(rng, n, p, K, dtype)
    assert shapes.curves(p, K, False)
    for products in ("f4", "f8") if dtype == "f4" else ("f8",):
        found = fused.hessian_pairs(theta, X, w, np.dtype(products))
        expected = hessian_pairs(theta, X, w, np.dtype("f8"))
        reach = 1 + (np.abs(X.astype(float)) @ np.abs(theta[:, :-1]).T).max(initial=0)
        tolerance = 30 * np.finfo(products).eps * reach
        assert np.all(
            np.abs(found - expected) <= tolerance * (curvature_size(theta, X, w) + 1e-300)
        )
    assert_array_equal(fused.hessian_pairs(theta, X), fused.hessian_pairs(theta, X, np.ones(n)))


@pytest.mark.parametrize(("p", "K"), [(1, 2), NARROW, (65, 10), (200, 3)])
@pytest.mark.parametrize("n", [0, 1, 17, 1000])
def test_products_of_the_hessian_equal_those_of_numpy(rng, n, p, K):
    theta, X, _, w = dense(rng, n, p, K, "f8")
    of_fused, of_numpy = fused.hessian_products(theta, X, w), hessian_products(theta, X, w)
    for _ in range(2):
        V = rng.normal(size=theta.shape)
        assert_allclose(of_fused(V), of_numpy(V), rtol=1e-10, atol=1e-10 * (1 + n))


@pytest.mark.parametrize("kind", strategies.DENSE)
def test_no_layout_changes_a_bit_of_the_hessian(rng, kind):
    theta, X, _, w = dense(rng, 700, *NARROW, "f8")
    V, moved = rng.normal(size=theta.shape), strategies.layout(X, kind)
    assert_array_equal(fused.hessian_pairs(theta, moved, w), fused.hessian_pairs(theta, X, w))
    assert_array_equal(
        fused.hessian_products(theta, moved, w)(V), fused.hessian_products(theta, X, w)(V)
    )


def test_numpy_computes_hessians_that_the_loops_cannot(rng):
    theta, X, _, w = dense(rng, 50, *NARROW, "f4")
    for data in (scipy.sparse.csr_array(X), X.astype("f2"), X.astype(">f4")):
        assert_array_equal(fused.hessian_pairs(theta, data, w), hessian_pairs(theta, data, w))
    for p, K in [(4, 200), (129, 2), (4, 14)]:
        theta, X, _, w = dense(rng, 50, p, K, "f8")
        assert not shapes.curves(p, K, False)
        assert_array_equal(fused.hessian_pairs(theta, X, w), hessian_pairs(theta, X, w))
    theta, X, _, w = dense(rng, 50, 257, 2, "f8")
    assert not shapes.multiplies(257, 2, False)
    assert_array_equal(
        fused.hessian_products(theta, X, w)(theta), hessian_products(theta, X, w)(theta)
    )
