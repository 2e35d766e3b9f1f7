"""Newton-CG: what a pass does beside its product, scikit-learn's optimum, and fewer passes than plain L-BFGS where scales differ."""

import numpy as np
import pytest
import scipy.sparse
import sklearn_optima as optima
from numpy.testing import assert_allclose
from sklearn.datasets import load_wine

from dsoftmax.solvers.protocol import Answer, Query
from dsoftmax.solvers.reference.newton_cg import NewtonCG
from dsoftmax.testing.solvers import Convex, check_solver, convex_problem


def test_it_keeps_the_contract_in_few_passes():
    assert check_solver(NewtonCG.of(convex_problem())) < 260


def run(solver, function, theta, n_passes):
    state = solver.start(theta, function.answer(Query(theta)))
    queries, states = [], [state]
    for _ in range(n_passes):
        state, query = solver.ask(state)
        queries.append(query)
        state = solver.tell(state, function.answer(queries[-1]))
        states.append(state)
    return queries, states


def test_a_quadratic_in_m_variables_takes_about_m_products(rng):
    """Conjugate gradients end after m products (Nocedal and Wright 2006, theorem 5.1), and trials lose none of them."""
    function = Convex(rng.normal(size=(2, 3)), np.linalg.qr(rng.normal(size=(6, 6)))[0], True)
    _, states = run(NewtonCG.of(convex_problem((2, 3))), function, 5 * rng.normal(size=(2, 3)), 12)
    assert abs(states[-1].gradient).max() < 1e-6


def test_every_pass_asks_for_a_product_and_for_a_value(rng):
    function = Convex(rng.normal(size=(3, 4)), np.linalg.qr(rng.normal(size=(12, 12)))[0], False)
    queries, states = run(NewtonCG.of(convex_problem()), function, 5 * rng.normal(size=(3, 4)), 25)
    assert all(query.direction is not None for query in queries)
    inner = [
        (query, state)
        for query, state in zip(queries, states, strict=False)
        if np.array_equal(query.theta, state.theta)
    ]
    assert inner
    for query, state in inner:
        assert (query.trials is not None) == bool(state.step.any())


@pytest.mark.parametrize("options", [{}, {"C": np.inf}, {"fit_intercept": False}, {"C": 1e-3}])
@pytest.mark.parametrize("K", [2, 4])
def test_the_optimum_is_that_of_scikit_learn(options, K):
    X, y = optima.overlapping(K)
    least, theta = optima.best(X, y, **options)
    ours = optima.history("newton-cg", X, y, tol=1e-8, **options)
    assert ours.converged, ours.status
    assert ours.run.state.value - least < 1e-12
    assert_allclose(ours.model.theta[:, :-1], theta[:, :-1], atol=1e-5 * (1 + abs(theta).max()))


def test_weights_are_repetitions():
    X, y = optima.overlapping(3)
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    often = np.repeat(np.arange(len(y)), weights.astype(int))
    ours = optima.history("newton-cg", X, y, weights=weights, tol=1e-8)
    assert abs(ours.run.state.value - optima.best(X[often], y[often])[0]) < 1e-12


@pytest.mark.parametrize("C", [1.0, np.inf])
def test_sparse_rows_reach_the_same_optimum(C):
    X, y = optima.overlapping(3)
    X = np.where(np.random.default_rng(5).random(X.shape) < 0.3, X, 0.0)
    ours = optima.history("newton-cg", scipy.sparse.csr_array(X), y, C=C, tol=1e-8)
    assert abs(ours.run.state.value - optima.best(X, y, C=C)[0]) < 1e-12


def test_scales_of_the_features_hardly_matter():
    """A ⊗ G knows them; plain L-BFGS is lost."""
    X, y = optima.overlapping(3)
    scales = np.array([1e3, 1.0, 1e-3, 30.0])
    least, _ = optima.best(X, y, C=np.inf)
    plain, scaled = (
        optima.history("newton-cg", rows, y, C=np.inf, tol=1e-6) for rows in (X, X * scales)
    )
    assert optima.passes_to(scaled, least, 1e-6) <= optima.passes_to(plain, least, 1e-6) + 2 <= 16
    lost = optima.history("lbfgs", X * scales, y, C=np.inf, max_iter=40)
    assert lost.history[-1].objective - least > 1e-6 * least


def test_raw_features_with_a_penalty():
    X, y = load_wine(return_X_y=True)
    least, _ = optima.best(X, y)
    ours = optima.history("newton-cg", X, y, tol=1e-7)
    assert optima.passes_to(ours, least, 1e-3) <= 170
    assert ours.run.state.value - least < 1e-8


def test_trials_that_are_not_finite_are_refused():
    solver = NewtonCG.of(convex_problem((2, 2)))

    def answer(query):
        def one(theta, **more):
            if abs(theta).max() >= 1e-3:
                return Answer(np.nan, np.full_like(theta, np.nan), **more)
            return Answer(0.5e4 * float(np.sum((theta + 5e-4) ** 2)), (theta + 5e-4) * 1e4, **more)

        product = query.direction * (1e4 if abs(query.theta).max() < 1e-3 else np.nan)
        trials = () if query.trials is None else tuple(one(theta) for theta in query.trials)
        return one(query.theta, product=product, trials=trials)

    state = solver.start(np.zeros((2, 2)), Answer(0.5e4, np.full((2, 2), 5.0)))
    for _ in range(40):
        state, query = solver.ask(state)
        state = solver.tell(state, answer(query))
        assert np.isfinite(state.value)
    assert_allclose(state.theta, -5e-4, rtol=1e-6)


def test_a_gradient_that_points_uphill_ends_as_stuck():
    solver = NewtonCG.of(convex_problem((2, 2)))
    g = np.ones((2, 2))

    def answer(query):
        trials = (
            ()
            if query.trials is None
            else tuple(Answer(-float(np.sum(theta)), g) for theta in query.trials)
        )
        return Answer(-float(np.sum(query.theta)), g, product=query.direction, trials=trials)

    state = solver.start(np.zeros((2, 2)), Answer(0.0, g))
    for _ in range(60):
        if state.stuck:
            break
        state, query = solver.ask(state)
        state = solver.tell(state, answer(query))
    assert "no step" in state.stuck
