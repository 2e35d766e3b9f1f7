"""Kronecker products and their inverses, against dense matrices made by literal loops."""

import numpy as np
import pytest
import reference
import scipy.linalg
from collecting import collected
from numpy.testing import assert_allclose
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.solvers.algebra.kronecker import (
    EIGEN_CLASSES,
    Kronecker,
    class_masses,
    kronecker_matrix,
    shift_matrix,
    times_moments,
)
from dsoftmax.solvers.protocol import Problem
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.settings import Settings


def spd(rng, n):
    A = rng.normal(size=(n, n))
    return A @ A.T + np.eye(n)


def problem(gram, K, penalty=0.1, intercept=True):
    shape = (K, len(gram))
    free = np.ones(shape, bool)
    free[:, -1] = intercept
    return Problem(lambda: 1.0, np.full(shape, penalty), free, gram, np.eye(K))


def by_loops(A, G, penalty=0.0):
    """A ⊗ G + λI, entry by entry: row and column (k, i) and (l, j) have the entry A_kl·G_ij."""
    K, d = len(A), len(G)
    found = np.zeros((K * d, K * d))
    for k in range(K):
        for other in range(K):
            for i in range(d):
                for j in range(d):
                    found[k * d + i, other * d + j] = A[k][other] * G[i][j]
    for place in range(K * d):
        found[place, place] += penalty
    return found


@pytest.mark.parametrize("K", [2, 3, 7])
def test_the_matrix_of_shifts_curves_the_mean_over_the_classes_alone(rng, K):
    c, V = rng.random(5), rng.normal(size=(K, 5))
    shifts = np.tile(c * V.mean(axis=0), (K, 1))
    assert_allclose(shift_matrix(c, K) @ V.ravel(), shifts.ravel(), rtol=1e-12, atol=1e-14)
    assert_allclose(shift_matrix(c, K) @ (V - V.mean(axis=0)).ravel(), 0, atol=1e-14)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_matrix_and_the_product_are_those_of_loops(rng, diagonal, intercept):
    full, A, V = spd(rng, 5), spd(rng, 3), rng.normal(size=(3, 5))
    full = np.diag(np.diag(full)) if diagonal else full
    found = Kronecker.of(problem(np.diag(full).copy() if diagonal else full, 3, 0.1, intercept))
    expected = by_loops(A, full, 0.1)
    for k in range(3):
        if not intercept:
            expected[5 * k + 4, :] = expected[:, 5 * k + 4] = 0
    assert_allclose(found.matrix(A), expected, rtol=1e-12)
    assert_allclose(found.product(A)(V).ravel(), expected @ V.ravel(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_norm_by_the_inverse_is_that_of_loops(rng, diagonal, intercept):
    full, one, other = spd(rng, 5), spd(rng, 3), spd(rng, 3)
    full = np.diag(np.diag(full)) if diagonal else full
    given = problem(np.diag(full).copy() if diagonal else full, 3, 0.1, intercept)
    V = rng.normal(size=(3, 5)) * given.free
    found = Kronecker.of(given)
    for A in (one, other, one):  # each A has its own eigenvectors
        free = np.flatnonzero(given.free.ravel())
        B = by_loops(A, full, 0.1)[np.ix_(free, free)]
        expected = V.ravel()[free] @ np.linalg.solve(B, V.ravel()[free])
        assert_allclose(found.inverse(A).norm(V), expected, rtol=1e-10)
        assert_allclose(np.sum(found.inverse(A)(V) * V), expected, rtol=1e-10)


def test_a_penalty_may_differ_by_entry(rng):
    A, G, penalty = spd(rng, 2), spd(rng, 3), rng.uniform(size=(2, 3))
    expected = by_loops(A, G)
    for place, one in enumerate(penalty.ravel()):
        expected[place, place] += one
    assert_allclose(kronecker_matrix(A, G, penalty), expected, rtol=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_inverse_of_one_term(rng, diagonal):
    G, A, right = spd(rng, 5), spd(rng, 3), rng.normal(size=(3, 5))
    G = np.diag(G).copy() if diagonal else G
    dense = by_loops(A, np.diag(G) if diagonal else G, 0.1)
    found = Kronecker.of(problem(G, 3)).inverse(A)(right)
    assert_allclose(found.ravel(), np.linalg.solve(dense, right.ravel()), rtol=1e-9)


def test_entries_that_are_not_free_stay_zero(rng):
    G, A, right = spd(rng, 5), spd(rng, 3), rng.normal(size=(3, 5))
    right[:, -1] = 0
    found = Kronecker.of(problem(G, 3, intercept=False)).inverse(A)(right)
    dense = by_loops(A, G[:-1, :-1], 0.1)
    assert_allclose(found[:, -1], 0)
    assert_allclose(found[:, :-1].ravel(), np.linalg.solve(dense, right[:, :-1].ravel()), rtol=1e-9)


def test_at_the_log_priors_one_term_is_the_hessian(rng):
    X, y = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    engine, source = SerialEngine(), opened(X, y)
    objective = make_objective(
        source,
        engine,
        Settings(C=0.5),
        collected(engine, source, None, "exact"),
        True,
        "numpy",
    )
    known = objective.problem()
    theta, _ = objective.start()
    expected = np.asarray(reference.hessian(theta, X)) / 60
    found = kronecker_matrix(known.moments, known.gram, 0.0)
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("penalty", [0.3, 1e-6, 0.0])
def test_the_diagonal_of_independent_classes_stands_for_their_moments(rng, diagonal, penalty):
    """A = diag c − ccᵀ/Σc has a diagonal from which c follows, so the inverses are the same."""
    K, d = 6, 4
    c, G = rng.uniform(0.1, 2, K), spd(rng, d)
    G = np.diag(G).copy() if diagonal else G
    A = np.diag(c) - np.outer(c, c) / c.sum()
    kronecker = Kronecker(G, penalty, np.ones((K, d), bool))
    V = rng.normal(size=(K, d))
    V -= V.mean(axis=0)  # a gradient has no part along shifts of all classes
    expected = kronecker.inverse(A)(V)
    found = kronecker.inverse(np.diag(A).copy())(V)
    if penalty == 0:  # a shift of all classes has no curvature, and any part of it will do
        found, expected = found - found.mean(axis=0), expected - expected.mean(axis=0)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-8 * np.abs(expected).max())
    assert_allclose(times_moments(np.diag(A).copy(), V), A @ V, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("K", [EIGEN_CLASSES, EIGEN_CLASSES + 1])
def test_many_classes_with_a_diagonal_gram_are_inverted_by_the_diagonal_of_their_moments(rng, K):
    """Both ways are exact for independent classes, and only few classes see another A."""
    c, G, V = rng.uniform(0.1, 2, K), rng.uniform(0.5, 2, 3), rng.normal(size=(K, 3))
    kronecker = Kronecker(G, 0.3, np.ones((K, 3), bool))
    independent = np.diag(c) - np.outer(c, c) / c.sum()
    dense = by_loops(independent, np.diag(G), 0.3)
    expected = np.linalg.solve(dense, V.ravel()).reshape(K, 3)
    assert_allclose(kronecker.inverse(independent)(V), expected, rtol=1e-5, atol=1e-9)
    assert_allclose(
        kronecker.inverse(independent).norm(V), np.sum(expected * V), rtol=1e-5, atol=1e-9
    )
    other = independent + 0.1 * (np.ones((K, K)) - np.eye(K))
    changed = np.abs(kronecker.inverse(other)(V) - kronecker.inverse(independent)(V)).max()
    assert (changed > 1e-3) == (K == EIGEN_CLASSES)


def test_the_masses_of_classes_give_back_their_curvatures(rng):
    curvatures = rng.uniform(0.1, 1, 50)
    c = class_masses(curvatures)
    assert_allclose(c * (1 - c / c.sum()), curvatures, rtol=1e-9)


def test_many_classes_need_no_matrix_of_classes(rng, monkeypatch):
    """The gap and the preconditioner of 5,000 classes take K numbers, and little time or memory."""
    K, d = 5000, 3
    asked = []
    monkeypatch.setattr(scipy.linalg, "eigh", lambda A: asked.append(A.shape) or np.linalg.eigh(A))
    kronecker = Kronecker(spd(rng, d), 1e-3, np.ones((K, d), bool))
    found = kronecker.inverse(rng.random(K))(rng.normal(size=(K, d)))
    assert np.isfinite(found).all()
    assert asked == [(d, d)]
