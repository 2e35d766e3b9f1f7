"""The bytes that a pass over a leaf says it allocates, against those that it allocates."""

import numpy as np
import pytest
import scipy.sparse
from allocated import measured, said
from compiled_cases import NEEDS_NUMBA

from dsoftmax.data.block import Block
from dsoftmax.data.leaves import leaf_rows
from dsoftmax.first_pass.held_out import HeldOut
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query

MULTIPLE, SLACK = 5, 4 * 2**20
"""Factor and bytes by which a visit may say more than it allocates.

It does not know the stored dtype, and some dtypes need a tile of NumPy's.
"""
DENSE = [(1, 2, "f4"), (12, 8, "u2"), (70, 66, "f8"), (784, 10, "u1")]
SPARSE = [(300, 20), (20_000, 60)]


def query(kind, theta):
    if kind == "trials":
        return Query(theta, trials=np.stack([theta, -theta]))
    if kind == "product":
        return Query(theta, theta)
    if kind == "margins":
        return Query(theta, separator=theta)
    return Query(theta, hessian=kind == "hessian", moments=kind == "moments")


def check(rng, X, K, kind, kernel):
    n, p = X.shape
    block = Block(X, rng.integers(0, K, n), rng.random(n))
    held = HeldOut(0, 0.3) if kind == "held out" else None
    theta = rng.normal(size=(K, p + 1)) / 100
    dtype = np.dtype("f8" if X.dtype == np.float64 else "f4")
    question = Question(query(kind, theta), np.ones(K), dtype, held)
    visit = Evaluate((question,), Encoder(np.arange(K)), kernel)
    peak = measured(visit, block)
    kernels, planned = said(visit, block)
    assert peak <= planned
    assert kernels <= MULTIPLE * peak + SLACK


KERNEL = pytest.mark.parametrize("kernel", ["numpy", pytest.param("fused", marks=NEEDS_NUMBA)])


@KERNEL
@pytest.mark.parametrize(
    "kind", ["gradient", "trials", "product", "moments", "held out", "margins"]
)
@pytest.mark.parametrize(("p", "K", "stored"), DENSE)
def test_a_pass_over_dense_rows_allocates_what_it_says(rng, p, K, stored, kind, kernel):
    check(rng, (rng.random((leaf_rows(p), p)) * 100).astype(stored), K, kind, kernel)


@KERNEL
@pytest.mark.parametrize(("p", "K"), SPARSE)
@pytest.mark.parametrize(
    "kind", ["gradient", "trials", "product", "moments", "held out", "margins"]
)
def test_a_pass_over_sparse_rows_allocates_what_it_says(rng, p, K, kind, kernel):
    X = scipy.sparse.random_array(
        (2**15, p), density=20 / p, format="csr", dtype=np.float32, rng=rng
    )
    check(rng, X, K, kind, kernel)


@KERNEL
@pytest.mark.parametrize("kind", ["hessian"])
@pytest.mark.parametrize(("p", "K", "stored"), [(1, 2, "f4"), (12, 8, "u2"), (80, 3, "f8")])
def test_a_pass_with_the_hessian_allocates_what_it_says(rng, p, K, stored, kind, kernel):
    check(rng, (rng.random((leaf_rows(p), p)) * 100).astype(stored), K, kind, kernel)
