"""The bytes that kernels say they allocate, against those that they allocate."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from compiled_cases import NEEDS_NUMBA, dense

from dsoftmax.kernels.choose import KERNELS

KERNEL = pytest.mark.parametrize("kernel", ["numpy", pytest.param("fused", marks=NEEDS_NUMBA)])


def allocated(function, *args):
    """Return the peak of the bytes that NumPy allocates; it does not see numba's own."""
    function(*args)
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@KERNEL
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("p", "K", "sparse"),
    [
        (12, 8, False),
        (784, 10, False),
        (384, 150, False),
        (5, 4000, False),
        (300, 20, True),
        (20_000, 60, True),
    ],
)
def test_value_and_gradient_allocate_no_more_than_they_say(rng, p, K, sparse, dtype, kernel):
    theta, X, y, w = dense(rng, 2000, 1 if sparse else p, K, dtype)
    if sparse:
        X = scipy.sparse.random_array(
            (2000, p), density=0.005, format="csr", dtype=np.dtype(dtype), rng=rng
        )
        theta = rng.normal(size=(K, p + 1))
    peak = allocated(KERNELS[kernel].value_and_gradient, theta, X, y, w)
    copies = 1 if sparse and kernel == "fused" else 6  # of θ, in the order of the products
    said = KERNELS[kernel].gradient_bytes(p, K, np.dtype(dtype), sparse)
    assert peak < said + copies * theta.nbytes


@KERNEL
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("p", "K", "sparse"), [(3, 5, False), (40, 7, False), (150, 4, True)])
def test_the_hessian_allocates_no_more_than_it_says(rng, p, K, sparse, dtype, kernel):
    theta, X, _, w = dense(rng, 4000, p, K, dtype)
    X = scipy.sparse.csr_array(X * (rng.random(X.shape) < 0.1)) if sparse else X
    pairs = KERNELS[kernel].hessian_pairs
    said = KERNELS[kernel].hessian_bytes(p, K, np.dtype(dtype), sparse)
    assert allocated(pairs, theta, X, w) < said + pairs(theta, X, w).nbytes + theta.nbytes
