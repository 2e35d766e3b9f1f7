"""The bytes that the first pass says it allocates on a leaf, against those that it allocates."""

import numpy as np
import pytest
import scipy.sparse
from allocated import measured, said
from compiled_cases import NEEDS_NUMBA

from dsoftmax.data.block import Block
from dsoftmax.data.leaves import leaf_rows
from dsoftmax.first_pass.held_out import folds
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.first_pass.sample import Draw
from dsoftmax.first_pass.visit import Collect

MULTIPLE, SLACK = 5, 4 * 2**20
"""Factor and bytes by which a visit may say more than it allocates."""
K = 6
DRAW = Draw(0.1, 8 * 2**20)  # a tenth of a leaf of any dtype


def check(rng, X, **options):
    n = X.shape[0]
    block = Block(X, rng.integers(0, K, n), rng.random(n))
    visit = Collect(encoder=Encoder(np.arange(K)), **options)
    peak = measured(visit, block)
    kernels, planned = said(visit, block)
    assert peak <= planned
    assert kernels <= MULTIPLE * peak + SLACK


@pytest.mark.parametrize(
    "options",
    [{}, {"gram": 1.0}, {"held_out": folds(3)}, {"draw": DRAW}, {"draw": DRAW, "gram": 1.0}],
)
@pytest.mark.parametrize(("p", "stored"), [(1, "f4"), (12, "u2"), (80, "f8"), (600, "f4")])
def test_the_first_pass_over_dense_rows_allocates_what_it_says(rng, p, stored, options):
    check(rng, (rng.random((leaf_rows(p), p)) * 100).astype(stored), **options)


@pytest.mark.parametrize("kernel", ["numpy", pytest.param("fused", marks=NEEDS_NUMBA)])
@pytest.mark.parametrize("options", [{}, {"held_out": folds(3)}])
@pytest.mark.parametrize("p", [300, 20_000])
def test_the_first_pass_over_sparse_rows_allocates_what_it_says(rng, p, options, kernel):
    X = scipy.sparse.random_array(
        (2**15, p), density=20 / p, format="csr", dtype=np.float32, rng=rng
    )
    check(rng, X, kernel=kernel, **options)
