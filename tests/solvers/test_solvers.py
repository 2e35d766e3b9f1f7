"""Every solver keeps the contract and reaches scikit-learn's optimum; pass counts are what they are said to be."""

import dataclasses
import itertools

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import OptionError
from dsoftmax.solvers.lbfgs.pairs import Pairs
from dsoftmax.solvers.lbfgs.solver import LBFGS
from dsoftmax.solvers.protocol import Answer, Query
from dsoftmax.solvers.reference.gradient_descent import GradientDescent
from dsoftmax.solvers.table import SOLVERS, solver_entry
from dsoftmax.testing.solvers import Convex, check_solver, convex_problem
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_keeps_the_contract(name):
    check_solver(solver_entry(name).make(convex_problem()))


def test_lbfgs_needs_few_passes():
    assert check_solver(LBFGS()) < 160  # on four functions in 12 variables of condition 10, to 1e-9


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_reaches_the_optimum_of_scikit_learn(name):
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    theirs = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(X, y)
    best = np.column_stack([theirs.coef_, theirs.intercept_])
    ours = train(
        opened(X, y), SerialEngine(), Settings(C=0.1, solver=name, tol=1e-7, max_iter=5000)
    )
    assert ours.converged, ours.status
    F, F_best = (reference.objective(theta, X, y, C=0.1) for theta in (ours.model.theta, best))
    assert F - F_best < 1e-11
    assert_allclose(ours.model.theta[:, :-1], best[:, :-1], atol=1e-4)


def run(solver, function, theta, n_passes):
    state = solver.start(theta, function.answer(Query(theta)))
    states = [state]
    for _ in range(n_passes):
        state, query = solver.ask(state)
        state = solver.tell(state, function.answer(query))
        states.append(state)
    return states


def convex(rng, quadratic=False):
    return Convex(rng.normal(size=(2, 3)), np.linalg.qr(rng.normal(size=(6, 6)))[0], quadratic)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_fixed_step_never_increases_F_and_moves_by_the_gradient(seed, quadratic):
    rng = np.random.default_rng(seed)
    function, theta = convex(rng, quadratic), 10 * rng.normal(size=(2, 3))
    states = run(GradientDescent(1.0), function, theta, 40)
    for before, after in itertools.pairwise(states):
        assert after.value <= before.value * (1 + 1e-14)
        assert_array_equal(after.theta, before.theta - 1.0 * before.gradient)
        assert after.n_iter == before.n_iter + 1


def test_lbfgs_costs_one_pass_an_iteration_while_first_steps_are_accepted(rng):
    """The first step, of length 1, knows no curvature and lands beyond; from there each pass is an iteration."""
    function = convex(rng, quadratic=True)
    states = run(LBFGS(), function, function.best + 0.1 * rng.normal(size=(2, 3)), 12)
    assert [state.n_iter for state in states] == [0, *range(12)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_the_two_loop_recursion_is_the_bfgs_matrix(seed, n):
    rng = np.random.default_rng(seed)
    A = np.diag(rng.uniform(0.5, 2, 6))
    steps = rng.normal(size=(n, 2, 3))
    changes = (steps.reshape(n, 6) @ A).reshape(n, 2, 3)
    g = rng.normal(size=(2, 3))
    S, Y = steps.reshape(n, 6), changes.reshape(n, 6)
    H = np.eye(6) * (S[-1] @ Y[-1]) / (Y[-1] @ Y[-1])
    for s, y in zip(S, Y, strict=True):  # Nocedal and Wright, eq. 7.16
        rho = 1 / (y @ s)
        H = (np.eye(6) - rho * np.outer(s, y)) @ H @ (
            np.eye(6) - rho * np.outer(y, s)
        ) + rho * np.outer(s, s)
    pairs = Pairs()
    for s, y in zip(rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 2, 3)), strict=True):
        pairs = pairs.joined_by(s, y, n)  # all forgotten in the end
    for s, y in zip(steps, changes, strict=True):
        pairs = pairs.joined_by(s, y, n)
    assert_allclose(pairs.inverse_product(g).ravel(), H @ g.ravel(), rtol=1e-8, atol=1e-8)


def test_lbfgs_keeps_the_newest_pairs(rng):
    states = run(LBFGS(memory=3), convex(rng), 10 * rng.normal(size=(2, 3)), 8)
    assert max(len(state.pairs) for state in states) == 3
    last, before = states[-1], states[-2]
    assert_array_equal(last.pairs.steps[-1], last.theta - before.theta)
    assert_array_equal(last.pairs.changes[-1], last.gradient - before.gradient)


@pytest.mark.parametrize("name", SOLVERS)
def test_hyper_parameters_and_states_are_frozen(name):
    solver = solver_entry(name).make(convex_problem((2, 2)))
    state = solver.start(np.zeros((2, 2)), None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.n_iter = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.step = 3


@pytest.mark.parametrize("name", SOLVERS)
def test_a_zero_gradient_leads_nowhere_but_to_finite_numbers(name):
    solver = solver_entry(name).make(convex_problem((2, 2)))
    theta = np.ones((2, 2))
    answer = Answer(1.0, np.zeros((2, 2)))
    state, _ = solver.ask(solver.start(theta, answer))
    state = solver.tell(state, answer)
    assert_array_equal(solver.ask(state)[1].theta, theta)
    assert_array_equal(state.theta, theta)


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs-kronecker"])
def test_infinite_trials_are_rejected_until_the_step_is_short(name):
    """F is finite only where every |θ| < 1e-3: the first trial lands outside."""
    solver = solver_entry(name).make(convex_problem((2, 2)))

    def answer(theta):
        if abs(theta).max() >= 1e-3:
            return Answer(np.nan, np.full_like(theta, np.nan))
        return Answer(0.5 * float(np.sum((theta + 5e-4) ** 2)) * 1e4, (theta + 5e-4) * 1e4)

    state = solver.start(np.zeros((2, 2)), answer(np.zeros((2, 2))))
    for _ in range(40):
        state, query = solver.ask(state)
        state = solver.tell(state, answer(query.theta))
        assert np.isfinite(state.value)
    assert_allclose(state.theta, -5e-4, rtol=1e-6)


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs-kronecker"])
def test_a_gradient_that_points_uphill_ends_as_stuck_after_bounded_passes(name):
    solver = solver_entry(name).make(convex_problem((2, 2)))
    g = np.ones((2, 2))

    def answer(theta):
        return Answer(-float(np.sum(theta)), g)  # F grows along −g

    state = solver.start(np.zeros((2, 2)), answer(np.zeros((2, 2))))
    for _ in range(60):
        if state.stuck:
            break
        state, query = solver.ask(state)
        state = solver.tell(state, answer(query.theta))
    assert "no step" in state.stuck


def test_an_unknown_solver_is_named_with_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'lbfgs'"):
        solver_entry("lbgfs")
