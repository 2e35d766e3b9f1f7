"""Problems and exact sums for the tests of the compiled kernels."""

import numpy as np
import pytest
import scipy.sparse
import strategies
from numpy.testing import assert_allclose
from scipy.special import log_softmax, softmax

from dsoftmax.kernels.compiled import fused
from dsoftmax.kernels.compiled.availability import available
from dsoftmax.kernels.tiles import compute_dtype

NEEDS_NUMBA = pytest.mark.skipif(
    not available(), reason="numba is not installed: pip install 'dsoftmax[fast]'"
)
NARROW, WIDE, PRODUCTS = (9, 5), (80, 7), (70, 66)
"""Shapes (p, K), one for each way of dense rows."""


def dense(rng, n, p, K, dtype="f4"):
    """Return θ, X, y and weights with moderate logits."""
    X = strategies.values(rng, (n, p), dtype)
    scale = {"i": 100.0, "u": 250.0}.get(np.dtype(dtype).kind, 1.0) * np.sqrt(p)
    theta = rng.normal(size=(K, p + 1)) / scale
    return theta, X, rng.integers(0, K, n), rng.random(n) * 2


def exact(theta, X, y, weights):
    """Return J, ∇J and the sums of the sizes of their terms, in float64 by NumPy and SciPy."""
    Xa = np.hstack(
        [
            np.asarray(X.toarray() if scipy.sparse.issparse(X) else X, float),
            np.ones((X.shape[0], 1)),
        ]
    )
    w = np.ones(len(y)) if weights is None else weights
    Z = Xa @ theta.T
    R = w[:, None] * (softmax(Z, axis=1) - np.eye(len(theta))[y])
    losses = -log_softmax(Z, axis=1)[np.arange(len(y)), y]
    # The rounding of a logit is in proportion to this.
    reach = 1 + (np.abs(Xa) @ np.abs(theta).T).max(initial=0)
    return (
        w @ losses,
        R.T @ Xa,
        reach * (w.sum() + w @ losses),
        reach * (w @ np.abs(Xa)).max(initial=1),
    )


def assert_exact(theta, X, y, weights, dtype=None):
    """Assert that the compiled value and gradient are the exact ones to rounding."""
    J, G = fused.value_and_gradient(theta, X, y, weights, dtype and np.dtype(dtype))
    products = np.dtype(dtype) if dtype else compute_dtype(X.dtype)
    eps = float(np.finfo(products).eps)
    value, gradient, value_size, gradient_size = exact(theta, X, y, weights)
    # Errors are random in sums of p products and of K exponentials.
    steps = 8 * np.sqrt(X.shape[1] + len(theta))
    assert isinstance(J, float)
    assert G.dtype == np.float64
    assert G.flags.c_contiguous
    assert_allclose(J, value, rtol=0, atol=steps * eps * value_size)
    assert_allclose(G, gradient, rtol=0, atol=steps * eps * gradient_size)
