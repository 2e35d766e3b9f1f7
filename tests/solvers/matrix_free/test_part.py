"""Inverses of parts of a Hessian, against dense linear algebra."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dsoftmax.solvers.algebra.kronecker import Kronecker, class_masses
from dsoftmax.solvers.matrix_free import part as parts
from dsoftmax.solvers.matrix_free.part import BlockPart, DensePart, SparsePart

K, D = 5, 4


def moments(rng):
    P = rng.dirichlet(np.ones(K), 50)
    return np.diag(P.mean(axis=0)) - P.T @ P / 50


def positive(rng, n):
    half = rng.normal(size=(n, n))
    return half @ half.T


def dense_part(rng):
    A, G = moments(rng), positive(rng, D)
    shifted = A + parts.SHIFT * np.diag(A).mean() * np.ones((K, K)) / K
    part = DensePart(Kronecker(G, 0.3, np.ones((K, D), bool)), A)
    return part, np.kron(shifted, G) + 0.3 * np.eye(K * D)


def sparse_part(rng):
    A, G = moments(rng), rng.uniform(0.5, 2, D)
    c = class_masses(np.diag(A))
    part = SparsePart(Kronecker(G, 0.3, np.ones((K, D), bool)), A)
    return part, np.kron(np.diag(c) - np.outer(c, c) / c.sum(), np.diag(G)) + 0.3 * np.eye(K * D)


def block_part(rng):
    blocks = np.stack([positive(rng, D) + np.eye(D) for _ in range(K)])
    dense = np.zeros((K, D, K, D))
    for k in range(K):
        dense[k, :, k, :] = blocks[k]
    return BlockPart(blocks), dense.reshape(K * D, K * D)


@pytest.mark.parametrize("make", [dense_part, sparse_part, block_part])
@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_a_part_is_inverted_as_if_the_other_entries_rested(rng, monkeypatch, make, share):
    monkeypatch.setattr(parts, "PRECISION", 1e-12)
    part, dense = make(rng)
    inside, right = rng.random((K, D)) < share, rng.normal(size=(K, D))
    places = np.flatnonzero(inside)
    expected = np.zeros(K * D)
    expected[places] = np.linalg.solve(dense[np.ix_(places, places)], right.ravel()[places])
    assert_allclose(part.solve(right, inside), expected.reshape(K, D), rtol=1e-8, atol=1e-10)
    assert_allclose(part.product(right).ravel(), dense @ right.ravel(), rtol=1e-10, atol=1e-12)


def test_all_classes_may_move_without_a_ridge_penalty(rng):
    """The shift of all classes has no curvature, and its step stays finite."""
    part = SparsePart(Kronecker(np.ones(D), 0.0, np.ones((K, D), bool)), moments(rng))
    found = part.solve(np.ones((K, D)), np.ones((K, D), bool))
    assert np.isfinite(found).all()
    assert (found > 0).all()
