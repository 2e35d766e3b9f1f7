"""Rows in memory: L-BFGS is rehearsed on the sample, which decides what the run goes on with."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.solvers import rehearsal
from dsoftmax.solvers.protocol import Query
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

N_CLASSES = 20


@pytest.fixture
def easy(rng):
    """Features of independent normal values, 60 of them: θ has 1,220 entries."""
    X = rng.normal(size=(3000, 60))
    scores = X @ rng.normal(size=(60, N_CLASSES)) + rng.gumbel(size=(3000, N_CLASSES))
    return X, scores.argmax(axis=1)


@pytest.fixture
def hard(rng):
    """Rows of very different lengths, and classes that follow from the largest values."""
    X = rng.normal(size=(2000, 60)) * rng.lognormal(sigma=2.5, size=(2000, 1))
    scores = X @ rng.normal(size=(60, N_CLASSES)) + rng.gumbel(size=(2000, N_CLASSES))
    return X, scores.argmax(axis=1)


def trained(data, engine=None, grid=None, resume=None, seen=None, **settings):
    watchers = () if seen is None else [lambda record, runs: seen.append((record, runs))]
    asked = Settings(**{"tol": 1e-6, **settings})
    source = opened(*data)
    return train(source, engine or SerialEngine(), asked, grid, resume=resume, watchers=watchers)


def test_lbfgs_goes_on_from_the_end_of_a_rehearsal_that_arrived(easy):
    seen = []
    found = trained(easy, seen=seen)
    assert found.converged
    assert found.run.solver == "lbfgs-kronecker"
    assert "gradients on the sample" in found.run.why
    assert len(seen[0][1][0].state.pairs) > 0  # those of the sample, before any pass at a point
    asked = trained(easy, solver="lbfgs-kronecker")
    assert asked.run.why == "as asked"
    assert found.run.n_passes < asked.run.n_passes
    assert_allclose(found.run.state.value, asked.run.state.value, atol=2e-6)  # tol each
    assert seen[1][1][0].state.value < asked.history[3].objective


def test_the_surrogate_takes_over_if_the_rehearsal_did_not_arrive(hard):
    found = trained(hard, max_iter=3)
    assert found.run.solver == "matrix-free"
    assert found.run.double
    assert "does not arrive on the sample in 40 gradients" in found.run.why


def test_history_names_the_solver_of_every_pass(hard):
    found = trained(hard, max_iter=2)
    assert [record.as_dict()["solver"] for record in found.history] == ["matrix-free"] * len(
        found.history
    )


def test_nothing_is_rehearsed_where_the_solver_is_settled(easy, monkeypatch):
    monkeypatch.setattr(rehearsal, "MOST_GRADIENTS", -1)  # a rehearsal would fail
    assert trained(easy, max_iter=0).run.solver == "matrix-free"
    for solver in ("lbfgs-kronecker", "lbfgs"):
        assert trained(easy, max_iter=0, solver=solver).run.why == "as asked"
    X, y = easy
    few = "θ has 305 entries, no more than 1,000: a few passes and a sample in memory"
    assert trained((X[:, :4], y % 5), max_iter=0).run.solver == "surrogate"
    assert trained((X, y % 5), max_iter=0).run.why == few


def test_a_sample_with_fewer_rows_than_features_is_not_rehearsed(rng, monkeypatch):
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_BYTES", 0)  # a quarter of the rows
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_ROWS", 10)
    monkeypatch.setattr(rehearsal, "MOST_GRADIENTS", -1)  # a rehearsal would fail
    found = trained((rng.normal(size=(200, 300)), rng.integers(0, 5, 200)), max_iter=1)
    assert found.run.solver == "lbfgs-kronecker"
    assert found.run.why.endswith("; the sample has fewer rows than features")
    more = trained((rng.normal(size=(2000, 300)), rng.integers(0, 5, 2000)), max_iter=1)
    assert more.run.solver == "matrix-free"


def test_a_rehearsal_begins_at_the_coefficients_that_are_given(easy, monkeypatch):
    reference = trained(easy)
    best = reference.model.theta
    asked = []
    tell = rehearsal.LBFGS.ask

    def ask(self, state):
        state, query = tell(self, state)
        asked.append(query)
        return state, query

    monkeypatch.setattr(rehearsal.LBFGS, "ask", ask)
    seen = []
    source, settings = opened(*easy), Settings(tol=1e-6)
    found = train(
        source,
        SerialEngine(),
        settings,
        theta=best,
        watchers=[lambda record, runs: seen.append(runs)],
    )
    assert isinstance(asked[0], Query)
    assert_allclose(asked[0].theta[:, :-1], best[:, :-1], atol=1e-12)
    assert found.run.n_passes < 12
    assert_allclose(found.run.state.value, reference.run.state.value, atol=2e-6)


@pytest.mark.parametrize("kind", ["easy", "hard"])
def test_engines_and_resumed_runs_have_the_same_bits(kind, request, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2**16)
    data, seen = request.getfixturevalue(kind), []
    whole = trained(data, seen=seen, max_iter=3)
    threads = trained(data, ThreadsEngine(3), max_iter=3)
    assert threads.model.theta.tobytes() == whole.model.theta.tobytes()
    for _, runs in seen[:-1]:
        again = trained(data, resume=runs, max_iter=3)
        assert again.model.theta.tobytes() == whole.model.theta.tobytes()
        assert again.run.n_passes == whole.run.n_passes
        assert again.run.why == whole.run.why


def test_each_model_of_a_grid_has_a_rehearsal_of_its_own(hard):
    seen, grid = [], Grid(np.array([1e-7, 100.0]), 2)
    whole = trained(hard, grid=grid, seen=seen, max_iter=2)
    assert {(one.C, one.run.solver) for one in whole.models} == {
        (1e-7, "lbfgs-kronecker"),
        (100.0, "matrix-free"),
    }
    assert {entry["solver"] for entry in whole.history[-1].models} == {
        "lbfgs-kronecker",
        "matrix-free",
    }
    for number, (_, runs) in enumerate(seen[:-1], 1):
        assert max(run.n_passes for run in runs) == number
        again = trained(hard, grid=grid, resume=runs, max_iter=2)
        for one, two in zip(again.models, whole.models, strict=True):
            assert one.model.theta.tobytes() == two.model.theta.tobytes()


def test_a_start_that_is_not_finite_ends_with_a_sentence(easy):
    found = train(opened(*easy), SerialEngine(), Settings(), theta=np.full((N_CLASSES, 61), np.nan))
    assert not found.converged
    assert found.status
