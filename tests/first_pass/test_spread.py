"""Standard deviations of the features, against StandardScaler and sums by hand."""

import numpy as np
import pytest
import scipy.sparse
from allocated import measured, said
from collecting import collected
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from sklearn.preprocessing import StandardScaler

from dsoftmax.data.block import Block
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.first_pass.held_out import folds
from dsoftmax.first_pass.spread import Spread
from dsoftmax.first_pass.visit import Collect
from dsoftmax.sums.totals import Totals
from dsoftmax.training.first_pass import collect_statistics

SQUARES = Collect(held_out=folds(3), scaled=True)


def scaled_by(X, y, weights=None, held_out=()):
    visit = Collect(held_out=held_out, scaled=True)
    return collect_statistics(opened(X, y, weights), SerialEngine(), visit)[0]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("offset", [0.0, 10.0, 1e5])
def test_they_are_those_of_scikit_learn(rng, sparse, offset):
    X = rng.normal(size=(300, 4)) * [1, 3, 0.2, 0] + offset
    X[:, 1] *= rng.uniform(size=300) < 0.5
    y, weights = rng.integers(0, 2, 300), rng.uniform(0, 2, 300) * (rng.uniform(size=300) < 0.9)
    rows = scipy.sparse.csr_array(X) if sparse else X
    found = scaled_by(rows, y, weights)
    mean = np.average(X, axis=0, weights=weights)
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    scale[3] = 1
    assert_allclose(found.scale, scale, rtol=1e-9)
    assert found.n_passes == (2 if offset == 1e5 else 1)
    with np.errstate(invalid="ignore"):
        theirs = StandardScaler(with_mean=False).fit(X, None, weights).scale_
    assert_allclose(found.scale, theirs, rtol=1e-9)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_feature_that_varies_only_in_rows_without_weight_is_constant(rng, sparse):
    X, y = rng.normal(size=(50, 2)), rng.integers(0, 2, 50)
    X[:, 1] = 0.1
    X[:5, 1] = 3.0
    weights = np.where(np.arange(50) < 5, 0.0, rng.uniform(1, 2, 50))
    found = scaled_by(scipy.sparse.csr_array(X) if sparse else X, y, weights)
    assert found.scale[1] == 1
    assert_allclose(found.scale[0] ** 2, np.cov(X[:, 0], aweights=weights, ddof=0), rtol=1e-12)


def test_stored_duplicates_are_one_value(rng):
    values, columns = rng.normal(size=60), np.zeros(60, int)
    X = scipy.sparse.csr_array((values, columns, np.arange(0, 61, 2)), shape=(30, 2))
    y = rng.integers(0, 2, 30)
    for moved in (0.0, 1e4):
        X.data[:] = values + moved
        assert_allclose(scaled_by(X, y).scale, [X.toarray()[:, 0].std(), 1], rtol=1e-9)
    assert X.nnz == 60


def test_without_scaling_nothing_is_collected(rng):
    found = collected(SerialEngine(), opened(rng.normal(size=(20, 2)) + 1e6, np.arange(20) % 2))
    assert found.scale.shape == (0,)
    assert found.n_passes == 1


@pytest.mark.parametrize("sparse", [False, True])
def test_leaves_add_up_to_the_same_bits_in_any_order(rng, sparse):
    X, weights = rng.normal(size=(400, 3)) + 5, rng.uniform(0, 2, 400)
    X = scipy.sparse.csr_array(X * (X > 5)) if sparse else X
    visit, blocks = Spread(np.full(3, 5.0), folds(3)), []
    for start in range(0, 400, 80):
        rows = slice(start, start + 80)
        blocks.append(Block(X[rows], np.zeros(80, int), weights[rows], start))
    found = []
    for order in (blocks, blocks[::-1]):
        totals = Totals()
        for block in order:
            totals.add(visit(block), block.n_rows)
        found.append(totals.result())
    for name, values in found[0].items():
        assert_array_equal(values, found[1][name])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("visit", [Spread(np.zeros(40), folds(3)), SQUARES])
def test_a_leaf_allocates_no_more_than_its_footprint(rng, sparse, visit):
    X = rng.normal(size=(20_000, 40)).astype(np.float32)
    X = scipy.sparse.csr_array(X * (X > 0)) if sparse else X
    block = Block(X, np.zeros(20_000, int), np.ones(20_000))
    assert measured(visit, block) <= said(visit, block)[1]
