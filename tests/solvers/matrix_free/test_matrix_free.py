"""The surrogate without matrices: few passes, also on rows with heavy tails and tiny classes."""

from contextlib import suppress

import numpy as np
import pytest
from counting import follow_to
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from optimum_bounds import PlainObjective
from real_data import Data

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.solvers.matrix_free.preconditioner import Preconditioner, worth_blocks
from dsoftmax.solvers.matrix_free.solver import REFUSALS, MatrixFree
from dsoftmax.solvers.protocol import Answer
from dsoftmax.testing.solvers import check_solver, convex_problem
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings


def heavy_tails(rng, n=6000, p=20, K=6):
    """Rows of which few hold most of the leverage, and classes of 4 to thousands of rows."""
    X = (rng.normal(size=(n, p)) * rng.lognormal(sigma=1.5, size=(n, 1))).astype(np.float32)
    logits = X @ rng.normal(size=(p, K)) + rng.gumbel(size=(n, K)) * 3
    logits += [4, 3, 2, 0, -6, -9]
    y = logits.argmax(axis=1)
    y[:4] = 5
    return X / X.std(axis=0), y


def test_its_states_keep_the_contract():
    assert check_solver(MatrixFree.of(convex_problem())) < 350  # of a sample with other minima


def test_it_needs_fewer_passes_than_l_bfgs_where_tails_are_heavy(rng, small_sample):
    X, y = heavy_tails(rng)
    data, plain = Data("heavy tails", X, y), PlainObjective.of(X, y, 1.0)
    found = train(opened(X, y), SerialEngine(), Settings(solver="matrix-free", tol=1e-8))
    assert found.converged, found.status
    bounds = plain.bounds(found.model.theta)
    assert bounds.looseness < 1e-6
    goal = bounds.value * (1 + 1e-6)
    ours = follow_to(data, 1.0, "matrix-free", plain, goal, 60)
    assert plain.value(ours.thetas[-1]) <= goal
    for other in ("lbfgs", "lbfgs-kronecker"):
        path = follow_to(data, 1.0, other, plain, goal, 2 * ours.n_passes)
        assert plain.value(path.thetas[-1]) > goal


@pytest.mark.parametrize("intercept", [True, False])
def test_its_optimum_is_that_of_the_dense_surrogate(rng, small_sample, intercept):
    X, y = heavy_tails(rng, 2000, 8, 6)
    thetas = [
        train(
            opened(X, y),
            SerialEngine(),
            Settings(solver=solver, tol=1e-9, fit_intercept=intercept, class_weight="balanced"),
        ).model.theta
        for solver in ("matrix-free", "surrogate")
    ]
    assert_allclose(*thetas, rtol=1e-4, atol=1e-5)


def test_a_step_is_refused_until_it_is_short_enough_and_then_the_solver_is_stuck():
    """Every point but the start has a larger F."""
    solver = MatrixFree.of(convex_problem((2, 2)))
    theta = np.ones((2, 2))
    state = solver.start(theta, Answer(1.0, np.full((2, 2), 0.1)))
    dampings = []
    while not state.stuck:
        state, query = solver.ask(state)
        worse = tuple(Answer(9.0, np.ones((2, 2))) for _ in query.trials)
        state = solver.tell(state, Answer(9.0, np.ones((2, 2)), trials=worse))
        assert_array_equal(state.theta, theta)
        dampings.append(state.damping)
        assert len(dampings) <= REFUSALS + 2
    assert (np.diff(dampings[1:-1]) > 0).all()


class Recording:
    """A sample that records the points at which moments are taken, and has class blocks of I."""

    n_rows = 10**6

    def __init__(self):
        self.at, self.blocks = [], 0

    def moments(self, theta):
        self.at.append(theta)
        return np.eye(len(theta))

    def class_blocks(self, theta, most_rows, number):
        self.blocks += 1
        return np.tile(np.diag([4.0, 1.0]), (len(theta), 1, 1))


def test_moments_are_tempered_until_class_blocks_replace_them():
    problem = convex_problem((3, 2))
    kronecker, local = MatrixFree.of(problem).kronecker, Recording()
    preconditioner = Preconditioner(local, kronecker, np.zeros(3), np.zeros((3, 2)))
    theta = np.ones((3, 2))
    for number in range(3):
        preconditioner.at(theta, number)
    assert_allclose([one[0, 0] for one in local.at], 0.1)
    assert local.blocks == 0
    solve = preconditioner.at(theta, 3)
    assert local.blocks == 1
    assert_allclose(solve(theta), np.tile([0.25, 1.0], (3, 1)), rtol=1e-5)


def test_class_blocks_are_formed_only_where_the_sample_makes_them_cheap():
    assert worth_blocks(23, 119, 50_000)
    assert not worth_blocks(10, 785, 1000)  # a thousand gradients cost less
    assert not worth_blocks(1000, 1025, 10**6)  # 8 GB


def bits(result):
    return (
        result.run.state.theta.tobytes(),
        result.run.state.gradient.tobytes(),
        result.run.n_passes,
    )


@pytest.mark.parametrize(("l1_ratio", "tol"), [(0.0, 1e-7), (0.7, 1e-4)])
def test_engines_cores_and_resumed_runs_have_the_same_bits(
    rng, small_sample, monkeypatch, l1_ratio, tol
):
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2**15)
    monkeypatch.setattr("dsoftmax.objective.on_sample.SLICED_WORK", 1)  # four slices of the sample
    source = opened(*heavy_tails(rng))
    settings = Settings(solver="matrix-free", tol=tol, l1_ratio=l1_ratio)
    assert len(source.chunk_rows) > 1
    expected = train(source, SerialEngine(), settings)
    assert expected.run.n_passes > 4
    assert bits(train(source, ThreadsEngine(3), settings)) == bits(expected)
    monkeypatch.setattr("dsoftmax.objective.on_sample.available_cores", lambda: 1)
    for passes in range(1, expected.run.n_passes):
        runs = []
        with suppress(Stopped):
            train(source, SerialEngine(), settings, watchers=[stopping(passes, runs)])
        found = train(source, SerialEngine(), settings, resume=runs[-1])
        assert bits(found) == bits(expected)


class Stopped(Exception):  # noqa: N818
    """Ends a run after a pass."""


def stopping(passes, runs):
    def watch(record, now):
        runs.append(now)
        if now[0].n_passes == passes:
            raise Stopped

    return watch
