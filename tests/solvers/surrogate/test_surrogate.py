"""Newton on a sampled surrogate: few passes, true promises, and Hessians only when needed."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose
from opening import opened
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.solvers.protocol import Query
from dsoftmax.solvers.surrogate.solver import CHEAP_ENTRIES, Surrogate
from dsoftmax.training.loop import train
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.settings import Settings


def test_a_sample_of_all_rows_needs_one_pass_more():
    X, y = load_digits(return_X_y=True)
    found = train(opened(X, y), SerialEngine(), Settings(tol=1e-5, solver="surrogate"))
    assert found.converged
    assert found.run.n_passes == 2


def make_rows(rng, n=6000, p=8, K=4):
    X = rng.normal(size=(n, p)) * 10.0 ** rng.integers(-3, 4, p)
    return X, (X / X.std(axis=0) @ rng.normal(size=(p, K)) + rng.gumbel(size=(n, K))).argmax(axis=1)


@pytest.mark.parametrize("C", [1e-3, 1.0, np.inf])
def test_a_sample_of_an_eighth_leads_to_the_optimum_of_scikit_learn_in_few_passes(
    rng, small_sample, C
):
    X, y = make_rows(rng)
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=500, solver="newton-cholesky").fit(X, y)
    found = train(opened(X, y), SerialEngine(), Settings(C=C, tol=1e-6, solver="surrogate"))
    assert found.converged, found.status
    assert found.run.statistics.sample.n_rows < 1000
    assert found.run.n_passes <= 8
    scale = X.std(axis=0)
    centred = theirs.coef_ - theirs.coef_.mean(axis=0)
    assert_allclose(found.model.theta[:, :-1] * scale, centred * scale, atol=1e-4)


def test_hessians_are_asked_for_only_after_steps_that_disappoint(rng, small_sample):
    X, y = make_rows(rng, 12_000, 80, 6)
    assert 81 * 6 > CHEAP_ENTRIES
    source, engine, asked = opened(X, y), SerialEngine(), []

    def watch(record, runs):
        (run,) = runs
        asked.append(Surrogate.ask(solver_of(run), run.state)[1].hessian)

    def solver_of(run):
        objective = make_objective(source, engine, Settings(), run.statistics, True, run.kernel)
        return Surrogate.of(objective.problem())

    found = train(source, engine, Settings(tol=1e-6, solver="surrogate"), watchers=[watch])
    assert found.converged
    assert asked[0]  # nothing is known of the surrogate yet
    assert sum(asked) < found.run.n_passes / 2


@pytest.fixture
def on_the_way(rng, small_sample):
    """An objective, its solver, and the state of a run with trials that a pass has not answered."""
    X, y = make_rows(rng)
    source, engine = opened(X, y), SerialEngine()
    found = train(source, engine, Settings(tol=1e-9, max_iter=1, solver="surrogate"))
    statistics, kernel = found.run.statistics, found.run.kernel
    objective = make_objective(source, engine, Settings(), statistics, True, kernel).centred()
    solver = Surrogate.of(objective.problem())
    return X, y, objective, solver, solver.ask(found.run.state)[0]


def test_the_surrogate_has_the_gradient_of_all_rows(on_the_way):
    """∇m(θₜ) = ∇F(θₜ) by the literal loops, although the sample has an eighth of the rows."""
    X, y, _, solver, state = on_the_way
    H = solver.local.hessian(state.theta)
    nothing = np.zeros_like(H)
    _, models = solver._models(state, H, nothing, nothing, 1.0)
    expected = np.asarray(reference.gradient(state.theta, X - X.mean(axis=0), y)) / len(y)
    expected[:, :-1] += state.theta[:, :-1] / len(y)
    of_sample = solver.local.value_and_gradient(state.theta)[1]
    assert np.abs(of_sample - expected).max() > 0.01 * np.abs(of_sample).max()
    for model in models:
        value, gradient = model.function.value_and_gradient(state.theta)
        assert value == 0
        assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)


def test_F_falls_about_as_the_surrogate_promises(on_the_way):
    _, _, objective, _, state = on_the_way
    values = np.array([objective.answer(Query(theta))[0].value for theta in state.trials])
    assert np.all(state.promised > 1e-6)
    assert np.all(state.value - values >= 0.5 * state.promised)
    assert np.all(state.value - values <= 1.5 * state.promised)


@pytest.mark.parametrize(("least", "single"), [(1e-2, True), (1e-9, False)])
def test_hessians_with_small_curvatures_are_asked_for_in_double(rng, small_sample, least, single):
    X, y = make_rows(rng)
    X[:, 0] = X[:, 1] + least * X[:, 0] * X[:, 1].std() / X[:, 0].std()
    source, engine = opened(X, y), SerialEngine()
    found = train(source, engine, Settings(max_iter=2, tol=0.0, C=np.inf, solver="surrogate"))
    problem = make_objective(
        source, engine, Settings(C=np.inf), found.run.statistics, True, found.run.kernel
    ).problem()
    _, query = Surrogate.of(problem).ask(found.run.state)
    assert query.hessian
    assert query.single == single
