"""Kronecker products and their inverses, against dense matrices made by literal loops."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from collecting import collected
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.kernels.curvature import NEGLIGIBLE, NEGLIGIBLE_REST, curvatures
from dsoftmax.solvers.algebra.class_groups import MOST_ENTRIES, n_groups
from dsoftmax.solvers.algebra.class_groups import groups as group_table
from dsoftmax.solvers.algebra.kronecker import Kronecker, kronecker_matrix
from dsoftmax.solvers.algebra.kronecker_sum import KroneckerSum, sum_bytes
from dsoftmax.solvers.lbfgs.solver import LBFGS
from dsoftmax.solvers.protocol import Problem, Query
from dsoftmax.training.loop import train
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


def test_the_inverse_of_a_sum(rng):
    grams, moments = [spd(rng, 4) for _ in range(3)], [spd(rng, 3) for _ in range(3)]
    upper = np.triu_indices(4)
    packed = np.array([G[upper] for G in grams], np.float32)
    dense = sum(by_loops(A, G, 0.2 / 3) for A, G in zip(moments, grams, strict=True))
    right = rng.normal(size=(3, 4))
    found = KroneckerSum(np.array(moments), packed, 0.2, np.ones((3, 4), bool)).inverse(right)
    exact = np.linalg.solve(dense, right.ravel()).reshape(3, 4)
    error = (found - exact).ravel()
    assert np.sqrt(error @ dense @ error) < 0.1 * np.sqrt(exact.ravel() @ dense @ exact.ravel())


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_rounded_grams_of_dependent_features_have_an_inverse(rng, scale):
    """float32 cannot tell a constant from the intercept, nor a feature from its near copy."""
    X = rng.normal(size=(500, 5))
    X = scale * np.column_stack([X, X[:, 0] * (1 + 1e-9), np.ones(500)])
    moments, grams = curvatures(
        rng.normal(size=(3, 8)) / [*[scale] * 7, 1], X, None, group_table(-np.ones((3, 3)), 6)
    )
    packed = (grams / np.trace(moments, axis1=1, axis2=2)[:, None]).astype(np.float32)
    right = rng.normal(size=(3, 8)) * [*[scale] * 7, 1]
    found = KroneckerSum(moments, packed, 0.0, np.ones((3, 8), bool)).inverse(right)
    assert np.isfinite(found).all()
    assert np.sum(found * right) > 0


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("groups", [3, 4, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_curvatures_equal_the_loops(rng, dtype, groups, weighted):
    X, theta = rng.normal(size=(50, 4)).astype(dtype), rng.normal(size=(3, 5))
    w = rng.uniform(0.5, 2, 50) * (rng.random(50) < 0.8) if weighted else np.ones(50)
    pairs = [(0, 2), (1, 2), (0, 1)][: groups - 3]
    table = np.repeat(np.arange(3)[:, None], 3, axis=1)
    for number, (k, other) in enumerate(pairs, 3):
        table[k, other] = table[other, k] = number
    moments, grams = curvatures(theta, X, w if weighted else None, table)
    expected_A, expected_G = np.zeros((groups, 3, 3)), np.zeros((groups, 5, 5))
    for i in range(50):
        p = np.array(reference.probabilities(theta, X[i]))
        x, own, rest = (
            np.append(X[i].astype(float), 1.0),
            int(np.argmax(p)),
            np.diag(p) - np.outer(p, p),
        )
        for number, (k, other) in enumerate(pairs, 3):
            if p[k] * p[other] > NEGLIGIBLE:
                part = np.zeros((3, 3))
                part[k, k] = part[other, other] = p[k] * p[other]
                part[k, other] = part[other, k] = -p[k] * p[other]
                expected_A[number] += w[i] * part
                expected_G[number] += w[i] * np.trace(part) * np.outer(x, x)
                rest -= part
        expected_A[own] += w[i] * rest
        if np.trace(rest) > NEGLIGIBLE_REST:
            expected_G[own] += w[i] * np.trace(rest) * np.outer(x, x)
    upper = np.triu_indices(5)
    tolerance = 1e-5 if dtype == "f4" else 1e-12
    assert_allclose(moments, expected_A, rtol=tolerance, atol=tolerance)
    assert_allclose(grams, expected_G[:, upper[0], upper[1]], rtol=tolerance, atol=tolerance)
    assert_allclose(
        np.trace(moments, axis1=1, axis2=2).sum(),
        sum(expected_A[g].trace() for g in range(groups)),
        rtol=tolerance,
    )


def test_with_all_pairs_the_sum_is_the_hessian(rng, monkeypatch):
    monkeypatch.setattr("dsoftmax.kernels.curvature.NEGLIGIBLE", 0.0)
    monkeypatch.setattr("dsoftmax.kernels.curvature.NEGLIGIBLE_REST", 1e-9)
    X, theta = rng.normal(size=(40, 3)), rng.normal(size=(4, 4))
    moments, grams = curvatures(theta, X, None, group_table(-np.ones((4, 4)), 10))
    upper, found = np.triu_indices(4), np.zeros((16, 16))
    for A, packed in zip(moments, grams, strict=True):
        G = np.zeros((4, 4))
        G[upper] = packed
        G = G + np.triu(G, 1).T
        found += by_loops(A, G) / np.trace(A) if np.trace(A) > 1e-9 else 0
    assert_allclose(found, reference.hessian(theta, X), rtol=1e-7, atol=1e-7)


def test_the_pairs_that_curve_most_are_groups():
    A = -np.array([[0, 5, 1, 3], [5, 0, 2, 9], [1, 2, 0, 4], [3, 9, 4, 0.0]])
    found = group_table(A, 6)
    assert_array_equal(np.diag(found), [0, 1, 2, 3])
    assert (found[1, 3], found[3, 1], found[0, 1], found[1, 0]) == (4, 4, 5, 5)
    assert_array_equal(found[0, [2, 3]], [0, 0])
    assert_array_equal(found[2, [0, 1, 3]], [2, 2, 2])
    assert_array_equal(group_table(A, 4), np.repeat(np.arange(4)[:, None], 4, axis=1))
    assert sorted(set(group_table(A, 10).ravel().tolist())) == list(range(10))


def test_a_pass_answers_with_the_curvatures_to_rounding(rng):
    X, y = rng.normal(size=(400, 4)) * [1, 10, 100, 0.1], rng.integers(0, 3, 400)
    engine, source = ThreadsEngine(2), opened(X, y)
    objective = make_objective(source, engine, Settings(), collected(engine, source), True, "numpy")
    theta = rng.normal(size=(3, 5)) / 50
    table = group_table(-np.ones((3, 3)), 5)
    answer, _ = objective.answer(Query(theta, curvatures=table))
    moments, grams = curvatures(theta, X, None, table)
    assert_allclose(answer.group_moments, moments / 400, rtol=1e-9)
    assert_allclose(
        answer.group_grams,
        grams / np.trace(moments, axis1=1, axis2=2)[:, None],
        rtol=1e-6,
        atol=1e-9,
    )


def test_groups_are_as_many_as_work_and_memory_allow():
    assert n_groups(10**9, 10, 784) == 40  # 785 · 786 / 2 entries each, of 3 · 2²²
    assert n_groups(10**9, 10, 54) == 55  # all classes and pairs
    assert n_groups(10**9, 1000, 784) == 1  # fewer than there are classes
    assert n_groups(1000, 10, 784) == 1
    assert n_groups(10**9, 10, 5000) == 1
    assert n_groups(10_003, 77, 384) == 1
    assert sum_bytes(10**9, 1000, 784) == 0
    assert sum_bytes(10**9, 10, 784) > 2 * 4 * MOST_ENTRIES


def test_groups_save_passes_and_lead_to_the_same_optimum(monkeypatch):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 20)) * 2
    y = rng.integers(0, 6, 6000)
    X = centres[y] + rng.normal(size=(6000, 20)) * np.linspace(0.3, 3, 20) * (1 + y[:, None] % 3)
    settings = Settings(C=10.0, tol=1e-7, max_iter=400, solver="lbfgs-kronecker-sum")
    grouped = train(opened(X, y), ThreadsEngine(2), settings)
    assert LBFGS.preconditioned_by_sum(problem(np.eye(21), 6)).n_groups == 1  # of no rows
    assert len(grouped.run.state.group_moments) == 21
    single = train(opened(X, y), ThreadsEngine(2), replace(settings, solver="lbfgs-kronecker"))
    assert grouped.converged
    assert single.converged
    assert grouped.run.n_passes < single.run.n_passes
    assert_allclose(grouped.model.theta, single.model.theta, atol=2e-3)  # where F is flat to 1e-10
