"""Every solver keeps the contract and reaches scikit-learn's optimum."""

import dataclasses

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import OptionError
from dsoftmax.solvers.protocol import Answer
from dsoftmax.solvers.table import SOLVERS, solver_entry
from dsoftmax.testing.solvers import check_solver, convex_problem
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_keeps_the_contract(name):
    check_solver(solver_entry(name).make(convex_problem()))


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


@pytest.mark.parametrize("name", SOLVERS)
def test_hyper_parameters_and_states_are_frozen(name):
    solver = solver_entry(name).make(convex_problem((2, 2)))
    state = solver.start(np.zeros((2, 2)), None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.n_iter = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.step = 3


@pytest.mark.parametrize("name", SOLVERS)
def test_a_zero_gradient_leads_to_the_same_point(name):
    solver = solver_entry(name).make(convex_problem((2, 2)))
    theta = np.ones((2, 2))
    answer = Answer(1.0, np.zeros((2, 2)))
    state, _ = solver.ask(solver.start(theta, answer))
    state = solver.tell(state, answer)
    assert_array_equal(solver.ask(state)[1].theta, theta)
    assert_array_equal(state.theta, theta)


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs-kronecker"])
def test_infinite_trials_are_rejected_until_the_step_is_short(name):
    """F is finite only for |θ| < 1e-3, and the first trial lands outside."""
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


def test_the_error_for_an_unknown_solver_names_the_nearest_and_all():
    with pytest.raises(OptionError, match="Did you mean 'lbfgs'") as found:
        solver_entry("lbgfs")
    assert all(repr(name) in str(found.value) for name in ("auto", *SOLVERS))


def test_auto_chooses_from_the_solvers_that_are_no_reference():
    chosen = {name for name, entry in SOLVERS.items() if not entry.reference}
    assert chosen == {"surrogate", "proximal-newton", "lbfgs-kronecker", "matrix-free"}
