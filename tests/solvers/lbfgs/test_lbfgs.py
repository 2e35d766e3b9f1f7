"""L-BFGS: passes, the memory of pairs, and the two-loop recursion against the textbook's matrix."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.solvers.algebra.pairs import Pairs
from dsoftmax.solvers.lbfgs.solver import LBFGS
from dsoftmax.solvers.protocol import Query
from dsoftmax.testing.solvers import Convex, check_solver


def test_it_needs_few_passes():
    assert check_solver(LBFGS()) < 160  # on four functions in 12 variables of condition 10, to 1e-9


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


def test_it_costs_one_pass_an_iteration_while_first_steps_are_accepted(rng):
    """The first step knows no curvature and lands too far; every later pass is an iteration."""
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


def test_it_keeps_the_newest_pairs(rng):
    states = run(LBFGS(memory=3), convex(rng), 10 * rng.normal(size=(2, 3)), 8)
    assert max(len(state.pairs) for state in states) == 3
    last, before = states[-1], states[-2]
    assert_array_equal(last.pairs.steps[-1], last.theta - before.theta)
    assert_array_equal(last.pairs.changes[-1], last.gradient - before.gradient)
