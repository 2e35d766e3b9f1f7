"""Newton on a sampled surrogate: few passes, honest models, and Hessians only where they are needed; what is minimised in memory."""

import numpy as np
import pytest
import zarr
from numpy.testing import assert_allclose
from opening import opened
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import MemoryLimitError
from dsoftmax.solvers.algebra.conjugate_gradients import conjugate_gradients
from dsoftmax.solvers.algebra.low_rank import rank_one_fit
from dsoftmax.solvers.algebra.minimise import Function, minimise
from dsoftmax.solvers.protocol import Query
from dsoftmax.solvers.surrogate.curvature import MOST_TAKEN, Gauge
from dsoftmax.solvers.surrogate.solver import CHEAP_ENTRIES, Surrogate
from dsoftmax.testing.solvers import convex_problem
from dsoftmax.training.loop import train
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.settings import Settings


def test_data_that_are_the_sample_need_one_look():
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


def test_hessians_are_asked_for_only_where_steps_disappoint(rng, small_sample):
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


def test_the_surrogate_has_the_gradient_of_the_data_and_falls_as_promised(rng, small_sample):
    X, y = make_rows(rng)
    source, engine = opened(X, y), SerialEngine()
    found = train(source, engine, Settings(tol=1e-9, max_iter=4, solver="surrogate"))
    objective = make_objective(
        source, engine, Settings(), found.run.statistics, True, found.run.kernel
    )
    state, _ = Surrogate.of(objective.problem()).ask(found.run.state)
    fell = state.value - np.array(
        [objective.answer(Query(theta))[0].value for theta in state.trials]
    )
    assert np.all(fell <= 1.5 * state.promised + 1e-12)


def test_memory_without_room_for_a_sample_is_refused_by_name_and_passed_over_by_auto(
    rng, monkeypatch
):
    X, y = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    engine = SerialEngine(process_bytes() + 256 * 2**20)
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_ROWS", 10**6)
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_BYTES", 0)
    with pytest.raises(MemoryLimitError, match="too small for one"):
        train(opened(X, y), engine, Settings(solver="surrogate"))
    found = train(opened(X, y), engine, Settings())
    assert found.converged
    assert found.run.solver == "lbfgs-kronecker"


@pytest.mark.parametrize(
    ("stored", "solver"), [(False, "lbfgs-kronecker"), (True, "lbfgs-kronecker-sum")]
)
def test_auto_finds_the_curvatures_of_a_sum_where_passes_cost_reading_alone(
    rng, tmp_path, stored, solver
):
    X, y = rng.normal(size=(3000, 60)).astype(np.float32), rng.integers(0, 20, 3000)
    if stored:
        group = zarr.create_group(tmp_path / "rows.zarr")
        X, y = (
            group.create_array("X", data=X, chunks=(500, 60)),
            group.create_array("y", data=y + 1, chunks=(500,)),
        )
    assert train(opened(X, y), SerialEngine(), Settings(max_iter=0)).run.solver == solver


def test_the_rank_one_matrix_fits_what_was_seen(rng):
    H = rng.normal(size=(6, 6))
    H = H + H.T
    steps = rng.normal(size=(3, 2, 3))
    lacks = (steps.reshape(3, 6) @ H).reshape(3, 2, 3)
    C = rank_one_fit(steps, lacks, 6)
    assert_allclose(C, C.T, atol=1e-12)
    assert_allclose(C @ steps.reshape(3, 6).T, lacks.reshape(3, 6).T, rtol=1e-8)


def test_what_is_added_to_the_sample_never_takes_more_than_there_is(rng):
    """Features of any scale: the smallest curvatures lie far below the rounding of the largest."""
    shape = (3, 5)
    size = np.tile(10.0 ** np.array([-4, -2, 0, 3, 0]), 3)
    half = rng.normal(size=(15, 15)) * size[:, None]
    H = half @ half.T
    gauge = Gauge(np.ones(shape, bool), np.ones(shape))
    for least in (-0.5, -3.0):
        values = np.array([least, -0.2, *rng.uniform(0, 3, 13)])
        C, share = gauge.bounded((half * values) @ half.T, H)
        inner = np.linalg.solve(half, np.linalg.solve(half, C).T)
        kept = np.maximum(values, -MOST_TAKEN)
        assert_allclose(np.linalg.eigvalsh(inner), np.sort(kept), atol=1e-5)
        assert_allclose(share, 1 + kept.min(), atol=1e-5)


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


def test_what_the_sample_does_not_see_is_added_whole():
    shape = (2, 3)
    H, C = np.diag([1.0, 0, 1, 1, 0, 1]), np.diag([0.5, 3, 0, 0, 3, -0.25])
    found, share = Gauge(np.ones(shape, bool), np.zeros(shape)).bounded(C, H)
    assert_allclose(found, C, atol=1e-8)
    assert_allclose(share, 0.75, atol=1e-2)  # the pinned shifts add a little to H


def test_a_function_without_a_minimum_is_left_at_the_first_step(rng):
    local = convex_problem((3, 4)).local
    C = -np.diag(rng.uniform(1, 2, 12))

    def value_and_gradient(theta):
        value, gradient = local.value_and_gradient(theta)
        bent = (C @ theta.ravel()).reshape(3, 4)
        return value + 0.5 * np.sum(bent * theta), gradient + bent

    def products(theta):
        of_local = local.products(theta)
        return lambda V: of_local(V) + (C @ V.ravel()).reshape(3, 4)

    start = rng.normal(size=(3, 4))
    found, fell = minimise(
        Function(value_and_gradient, products, 1e-15, most=100.0), start, np.copy
    )
    assert np.isfinite(found).all()
    assert 0 < fell <= 100


def test_conjugate_gradients_end_along_a_direction_that_is_flat_to_rounding():
    A = np.diag([1.0, 1e-300])
    found, n_products = conjugate_gradients(lambda V: A @ V, np.array([1.0, 1.0]), np.copy)
    assert np.isfinite(found).all()
    assert n_products <= 2


def test_conjugate_gradients_solve(rng):
    A = rng.normal(size=(8, 8))
    A = A @ A.T + np.eye(8)
    right = rng.normal(size=(2, 4))
    found, n_products = conjugate_gradients(
        lambda V: (A @ V.ravel()).reshape(2, 4), right, np.copy, 1e-10, 50
    )
    assert_allclose(found.ravel(), np.linalg.solve(A, right.ravel()), rtol=1e-7)
    assert n_products <= 10


def test_what_is_minimised_in_memory_ends_where_scipy_ends(rng):
    local = convex_problem((3, 4)).local
    function = Function(local.value_and_gradient, local.products, 1e-15)
    start = 5 * rng.normal(size=(3, 4))
    found, fell = minimise(function, start, np.copy)
    theirs = minimize(
        lambda t: local.value_and_gradient(t.reshape(3, 4))[0],
        start.ravel(),
        jac=lambda t: local.value_and_gradient(t.reshape(3, 4))[1].ravel(),
        method="BFGS",
        options={"gtol": 1e-10},
    )
    assert_allclose(found.ravel(), theirs.x, atol=1e-5)
    assert_allclose(fell, local.value_and_gradient(start)[0] - theirs.fun, rtol=1e-8)
