"""Leverages are those of the hat matrix, also by sketches and by the diagonal."""

import numpy as np
import pytest
import scipy.sparse
from collecting import gram_of
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.first_pass.leverages import leverages

NO_GRAM = np.zeros((0, 0))


def test_leverages_are_those_of_the_hat_matrix(rng):
    X, w = rng.normal(size=(40, 5)) * 10.0 ** np.arange(5), rng.uniform(0.5, 2, 40)
    Xa = np.column_stack([X, np.ones(40)])
    hat = Xa @ np.linalg.inv((Xa.T * w) @ Xa) @ Xa.T
    assert_allclose(leverages(X, w, gram_of(X, w)), np.diag(hat), rtol=1e-6)


def test_leverages_of_features_that_depend_on_each_other_add_up_to_the_rank(rng):
    X = rng.normal(size=(30, 3))
    X = np.column_stack([X, X[:, 0] - 2 * X[:, 1], np.zeros(30), np.full(30, 7.0)])
    w = np.ones(30)
    assert_allclose(
        w @ leverages(X, w, gram_of(X, w)),
        np.linalg.matrix_rank(np.column_stack([X, np.ones(30)])),
        rtol=1e-6,
    )


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_without_a_gram_matrix_leverages_come_from_its_diagonal(rng, kind):
    X, w = rng.normal(size=(20, 4)) * [1, 10, 100, 1], rng.uniform(0.5, 2, 20)
    expected = [
        sum(X[i, j] ** 2 / sum(w * X[:, j] ** 2) for j in range(4)) + 1 / w.sum() for i in range(20)
    ]
    assert_allclose(leverages(kind(X), w, NO_GRAM), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
@pytest.mark.parametrize("p", [100, 600])
def test_the_order_in_memory_changes_no_bit_of_the_leverages(rng, dtype, p):
    X, weights = (100 * rng.normal(size=(5000, p))).astype(dtype), rng.random(5000)
    gram = np.hstack([X, np.ones((5000, 1))]).astype(float)
    for known in (NO_GRAM, gram.T @ gram):
        found = leverages(X, weights, known)
        assert_array_equal(leverages(np.asfortranarray(X), weights, known), found)
