"""Böhning's majorisation: F never goes up, the bound holds, the optimum is scikit-learn's."""

import itertools

import numpy as np
import pytest
import reference
import scipy.sparse
import sklearn_optima as optima
from collecting import collected
from numpy.testing import assert_allclose
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.objective.class_weights import class_weight_vector
from dsoftmax.objective.objective import Objective
from dsoftmax.solvers.protocol import Query
from dsoftmax.solvers.reference.bohning import Bohning
from dsoftmax.testing.solvers import check_solver, convex_problem
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings


def test_it_keeps_the_contract_in_as_many_passes_as_the_fixed_step():
    assert check_solver(Bohning.of(convex_problem())) < 1200


def problem_of(X, y, C=1.0, class_weight=None, fit_intercept=True):
    source, engine = opened(X, y), SerialEngine()
    statistics = collected(engine, source, None, "exact")
    weights = class_weight_vector(class_weight, statistics)
    return Objective(
        engine, source, statistics, C, weights, fit_intercept, np.dtype("f8")
    ).problem()


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 7.0}])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_quadratic_lies_above_the_literal_hessian(class_weight, sparse, rng):
    """v·B·v ≥ v·∇²F·v for what the step solves with, at points far and near."""
    X, y = optima.overlapping(3, n=40, p=3)
    problem = problem_of(scipy.sparse.csr_array(X) if sparse else X, y, 1.0, class_weight)
    solve = Bohning.of(problem).kronecker.inverse(0.5 * np.eye(3))
    B = np.linalg.inv(np.stack([solve(one.reshape(3, 4)).ravel() for one in np.eye(12)]))
    c = np.ones(3)
    if class_weight is not None:
        c = (
            len(y) / (3 * np.bincount(y))
            if class_weight == "balanced"
            else np.array([7.0, 1.0, 1.0])
        )
    weights = c[y]
    for size in (0.0, 0.3, 3.0):
        H = reference.hessian(size * rng.normal(size=(3, 4)), X, weights) / weights.sum() + np.diag(
            problem.penalty.ravel()
        )
        assert np.linalg.eigvalsh(B - H)[0] > -1e-9 * np.linalg.norm(B)


@pytest.mark.parametrize(
    "options", [{}, {"class_weight": "balanced"}, {"fit_intercept": False}, {"C": np.inf}]
)
@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0, 1.0), (1e3, 1.0, 1e-3, 30.0)])
def test_F_never_goes_up_on_any_scale(options, scales):
    X, y = optima.overlapping(4, scales=scales)
    result = train(
        opened(X, y),
        SerialEngine(),
        Settings(**{"C": 1.0, **options}, solver="bohning", tol=1e-6, max_iter=120),
    )
    values = [record.objective for record in result.history]
    assert all(after <= before + 1e-13 for before, after in itertools.pairwise(values))
    assert [record.iteration for record in result.history] == list(
        range(len(values))
    )  # a pass is a step
    assert values[-1] < values[0] - 0.05


@pytest.mark.parametrize("K", [2, 3])
def test_the_optimum_is_that_of_scikit_learn_on_any_scale(K):
    scales = np.array([1e3, 1.0, 1e-3, 30.0])
    X, y = optima.overlapping(K)
    least, theta = optima.best(X, y, C=1e4)
    ours = optima.history("bohning", X, y, C=1e4, tol=1e-9, max_iter=3000)
    assert ours.run.state.value - least < 1e-10
    assert_allclose(ours.model.theta[:, :-1], theta[:, :-1], atol=1e-4)
    scaled = optima.history("bohning", X * scales, y, C=np.inf, tol=1e-7, max_iter=3000)
    assert abs(scaled.run.state.value - optima.best(X, y, C=np.inf)[0]) < 1e-9


def test_steps_do_not_depend_on_the_scale_without_a_penalty():
    """The metric turns with the features, which gradient descent's does not."""
    X, y = optima.overlapping(3)
    plain, scaled = (
        [one.objective for one in optima.history("bohning", rows, y, C=np.inf, max_iter=20).history]
        for rows in (X, X * [1e3, 1.0, 1e-3, 30.0])
    )
    assert_allclose(scaled, plain, rtol=1e-7)
    descent = optima.history(
        "gradient-descent", X * [1e3, 1.0, 1e-3, 30.0], y, C=np.inf, max_iter=20
    )
    assert descent.history[-1].objective > plain[-1] + 0.01


def test_sparse_rows_fall_back_to_the_fixed_step_of_gradient_descent():
    X, y = optima.overlapping(3)
    rows = scipy.sparse.csr_array(X)
    ours, theirs = (
        optima.history(name, rows, y, max_iter=15) for name in ("bohning", "gradient-descent")
    )
    assert_allclose(ours.model.theta, theirs.model.theta, rtol=1e-9)


def test_a_start_that_is_known_costs_no_pass():
    solver = Bohning.of(convex_problem())
    state = solver.start(np.zeros((3, 4)), None)
    _, query = solver.ask(state)
    assert not query.theta.any()
    assert isinstance(query, Query)
