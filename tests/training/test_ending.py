"""Every rule that ends a run has a kind, and only the kind decides what follows."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.objective.coordinates import Coordinates
from dsoftmax.training.ending import Ending, Kind
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.settings import Settings
from dsoftmax.training.track import resume_track


@pytest.fixture
def noisy(rng):
    """Rows whose classes no linear function separates, too few to learn from without a penalty."""
    X = rng.normal(size=(300, 12))
    return opened(X, (X[:, :3] + 2 * rng.gumbel(size=(300, 3))).argmax(axis=1))


SEPARATED = opened(np.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, 0, 1, 1])
EARLY = Settings(
    C=np.inf, tol=0, max_iter=500, solver="lbfgs", validation_fraction=0.4, n_iter_no_change=3
)


@pytest.mark.parametrize(
    ("settings", "kind", "converged"),
    [
        (Settings(), Kind.CONVERGED, True),
        (Settings(max_iter=1, tol=1e-12), Kind.MAX_ITER, False),
        (Settings(max_iter=10_000, tol=0.0), Kind.ROUNDING, False),
        (EARLY, Kind.EARLY, True),
    ],
)
def test_a_run_ends_with_the_kind_of_its_rule(noisy, settings, kind, converged):
    result = train(noisy, SerialEngine(), settings)
    assert (result.ending.kind, result.ending.converged) == (kind, converged)
    assert result.converged == converged
    assert result.status == result.ending.sentence == result.model.about["status"]


def test_classes_that_a_linear_function_separates_end_a_run_without_a_penalty():
    result = train(SEPARATED, SerialEngine(), Settings(C=np.inf, tol=0.0, max_iter=1000))
    assert (result.ending.kind, result.ending.converged) == (Kind.SEPARATED, False)
    assert "Pass a finite C" in result.status


def test_the_best_point_on_the_held_out_rows_is_kept_for_its_kind_whatever_the_sentence(noisy):
    result = train(noisy, SerialEngine(), EARLY)
    run = result.run
    assert not np.array_equal(run.best, run.state.theta)
    objective = make_objective(
        noisy, SerialEngine(), EARLY, run.statistics, True, run.kernel, EARLY.held_out, 0
    )
    track = resume_track(EARLY, objective, run)
    best = Coordinates(run.shift).raw(run.best)
    for kind, theta in ((Kind.EARLY, best), (Kind.MAX_ITER, run.theta)):
        model = track.model(Ending(kind, True, "Stopped early, in other words."))
        assert_array_equal(model.theta, theta - theta.mean(axis=0))


def test_one_model_is_a_grid_of_one_and_its_history_names_no_models(noisy):
    result = train(noisy, SerialEngine(), Settings(C=0.3))
    (one,) = result.models
    assert (one.fold, one.C) == (None, 0.3)
    assert result.best is one
    assert (result.model, result.run, result.ending) == (one.model, one.run, one.ending)
    assert [(record.running, record.models) for record in result.history] == [
        (1, ())
    ] * result.run.n_passes
    assert "models" not in result.history[0].as_dict()


def test_the_history_of_a_grid_names_every_model_and_counts_those_that_run(noisy):
    grid = Grid(np.array([0.01, 1.0]), 2)
    result = train(noisy, SerialEngine(), Settings(tol=1e-7), grid)
    for record in result.history:
        found = [(one["fold"], one["C"]) for one in record.as_dict()["models"]]
        assert found == grid.models
    running = [record.running for record in result.history]
    assert running == sorted(running, reverse=True)
    assert (running[0], running[-1]) == (6, 0)
    last = max(result.models, key=lambda one: one.run.gradient_max)
    assert result.history[-1].gradient_max == last.run.gradient_max


def test_a_start_that_is_given_is_the_start_of_every_model_of_a_grid(noisy):
    settings, grid = Settings(max_iter=0, tol=0.0), Grid(np.array([0.1, 1.0]), 2)
    theta = np.arange(39.0).reshape(3, 13) / 50
    found = train(noisy, SerialEngine(), settings, grid, theta=theta)
    for one in found.models:
        assert_array_equal(one.run.theta, theta)
    alone = train(noisy, SerialEngine(), replace(settings, C=0.1), theta=theta)
    assert found.models[4].run.state.value == alone.run.state.value


def test_trials_that_are_rejected_do_not_end_a_run_before_it_has_a_best_point():
    rng = np.random.default_rng(3)
    X = rng.integers(0, 200, (60_000, 12)).astype("i2")
    truth = rng.normal(size=(12, 5)) / 120
    y = (X @ truth + rng.gumbel(size=(60_000, 5))).argmax(axis=1)
    settings = Settings(
        solver="lbfgs", tol=1e-9, max_iter=8, validation_fraction=0.2, n_iter_no_change=2
    )
    found = train(opened(X, y), SerialEngine(), settings)
    assert found.ending.kind is Kind.MAX_ITER
    iterations = [one.iteration for one in found.history]
    assert iterations.count(0) > 2 + settings.n_iter_no_change
    assert found.run.state.n_iter == 8
