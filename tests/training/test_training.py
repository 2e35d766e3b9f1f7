"""The loop of passes: counted, recorded, stopped with a sentence, and resumed to the same bits."""

import dataclasses
import json

import numpy as np
import pytest
import stored
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from sklearn.linear_model import LogisticRegression

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError, MemoryLimitError, OptionError
from dsoftmax.runs.checkpoint import from_arrays, read_arrays, to_arrays, write_arrays
from dsoftmax.solvers.table import SOLVERS
from dsoftmax.sums.work import Ongoing
from dsoftmax.training.loop import train
from dsoftmax.training.run import Run
from dsoftmax.training.settings import Settings


class Passes:
    """An engine that counts its passes, and may break in one of them."""

    n_threads = 1
    ongoing, process_limit = Ongoing(), None

    def __init__(self, breaks_in=None):
        self.n, self.breaks_in = 0, breaks_in

    def total(self, visit, source):
        self.n += 1
        if self.n == self.breaks_in:
            raise KeyboardInterrupt
        return SerialEngine().total(visit, source)

    def reserve(self, n_bytes):
        pass

    def describe(self):
        return "counting"

    def close(self):
        pass


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 4))
    y = (X @ rng.normal(size=(4, 3)) + rng.gumbel(size=(200, 3))).argmax(axis=1)
    return X, y


@pytest.fixture
def source(data):
    return opened(*data)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_that_is_stopped_after_any_pass_and_resumed_has_the_same_bits(
    source, tmp_path, name, small_sample
):
    settings = Settings(solver=name, tol=1e-8, max_iter=8)
    runs = []
    whole = train(source, SerialEngine(), settings, watchers=[lambda record, now: runs.extend(now)])
    assert len(runs) == whole.run.n_passes > 5
    for number, run in enumerate(runs, 1):
        path = tmp_path / f"{number}.npz"
        write_arrays(path, {f"state.{name}": array for name, array in to_arrays(run.state).items()})
        state = from_arrays(
            type(run.state), {name[6:]: array for name, array in read_arrays(path).items()}
        )
        engine = Passes()
        rest = train(source, engine, settings, resume=[dataclasses.replace(run, state=state)])
        assert engine.n == whole.run.n_passes - number
        assert rest.model.theta.tobytes() == whole.model.theta.tobytes()
        assert rest.status == whole.status
        assert rest.run.n_passes == whole.run.n_passes
        assert [r.pass_ for r in rest.history] == list(range(number + 1, whole.run.n_passes + 1))
        assert [r.objective for r in rest.history] == [r.objective for r in whole.history[number:]]


def test_a_run_that_breaks_in_a_pass_loses_that_pass_alone(source):
    settings = Settings(solver="lbfgs")
    whole, saved = train(source, SerialEngine(), settings), []
    with pytest.raises(KeyboardInterrupt):
        train(
            source, Passes(breaks_in=6), settings, watchers=[lambda record, now: saved.extend(now)]
        )
    assert saved[-1].n_passes == 5
    again = train(source, SerialEngine(), settings, resume=saved[-1:])
    assert again.model.theta.tobytes() == whole.model.theta.tobytes()
    assert again.status == whole.status


@pytest.mark.parametrize("name", SOLVERS)
def test_every_pass_is_counted_and_recorded(source, name):
    engine = Passes()
    result = train(source, engine, Settings(solver=name, max_iter=6))
    assert result.run.n_passes == engine.n == len(result.history)
    first = result.history[0]
    assert (first.pass_, first.iteration) == (
        1,
        0,
    )  # the statistics, which hold the answer at the start
    assert np.isfinite([first.objective, first.gradient_max]).all()
    for number, record in enumerate(result.history, 1):
        assert record.pass_ == number
        assert (record.rows, record.bytes) == (200, 200 * 4 * 8)
        assert record.seconds > 0
        assert list(record.as_dict()) == [
            "pass",
            "iteration",
            "objective",
            "gradient_max",
            "gap",
            "held_loss",
            "solver",
            "running",
            "seconds",
            "rows",
            "bytes",
            "kept",
            "work",
        ]
    assert result.history[-1].objective == result.run.state.value == result.model.about["objective"]
    assert result.history[-1].gradient_max == np.abs(result.run.state.gradient).max()
    about = result.history[-1].as_dict()
    work, solver = about.pop("work"), about.pop("solver")
    assert solver == name
    assert all(type(value) in (int, float) for value in about.values())
    assert work == json.loads(json.dumps(work))
    assert work[""]["rows"] == about["rows"]


def test_it_converges_to_scikit_learn_and_says_so(data, source):
    theirs = LogisticRegression(C=0.5, tol=1e-9, max_iter=1000).fit(*data)
    result = train(source, ThreadsEngine(2), Settings(C=0.5, tol=1e-9))
    assert result.converged
    assert_allclose(result.model.theta[:, :-1], theirs.coef_, atol=1e-6)
    assert_allclose(
        result.model.theta[:, -1] - result.model.theta[0, -1],
        theirs.intercept_ - theirs.intercept_[0],
        atol=1e-6,
    )
    assert_allclose(result.model.theta.sum(axis=0), 0, atol=1e-14)
    run = result.run
    assert result.status == (
        f"Converged after {run.state.n_iter} iterations, {run.n_passes} passes: "
        f"max|∇F| = {run.gradient_max:.2e} ≤ tol = 1e-09; "
        f"F − F* is about {run.gap:.1e} (an estimate)."
    )


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("max_iter", [0, 1, 3])
def test_max_iter_counts_accepted_steps(source, name, max_iter, small_sample):
    result = train(source, SerialEngine(), Settings(solver=name, max_iter=max_iter, tol=1e-12))
    assert not result.converged
    assert result.run.state.n_iter == max_iter
    assert result.status.startswith(
        f"Stopped at max_iter = {max_iter} iterations, {result.run.n_passes} passes: max|∇F| = "
    )
    assert result.status.endswith("Increase max_iter, or scale the features.")


def test_max_iter_zero_is_the_start_after_one_pass(source, data):
    engine = Passes()
    result = train(source, engine, Settings(max_iter=0))
    assert engine.n == 1
    assert_array_equal(result.model.theta[:, :-1], 0)
    assert_allclose(result.model.predict_proba(data[0])[0], np.bincount(data[1]) / 200)


def test_a_start_at_the_optimum_costs_one_pass_more_than_the_statistics(source):
    first = train(source, SerialEngine(), Settings(tol=1e-8))
    engine = Passes()
    second = train(source, engine, Settings(tol=1e-7), theta=first.model.theta)
    assert (engine.n, second.converged, second.run.state.n_iter) == (2, True, 0)
    assert_allclose(second.model.theta, first.model.theta, atol=1e-15)


def test_a_tolerance_met_at_the_start_needs_no_further_pass(source):
    result = train(source, SerialEngine(), Settings(tol=10.0))
    assert (result.run.n_passes, result.converged) == (1, True)


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs-kronecker"])
def test_products_change_to_float64_once_float32_makes_no_progress(data, name):
    X, y = data[0].astype("f4") * 3, data[1]
    runs, source = [], opened(X, y)
    settings = Settings(tol=1e-9, max_iter=3000, solver=name)
    result = train(
        source, SerialEngine(), settings, watchers=[lambda record, now: runs.extend(now)]
    )
    assert result.converged, result.status
    assert not runs[0].double
    assert runs[-1].double
    assert [run.double for run in runs] == sorted(run.double for run in runs)
    best = train(opened(X.astype("f8"), y), SerialEngine(), settings)
    if (
        name == "lbfgs"
    ):  # few passes are lost in the noise of float32; only the pairs are collected anew
        assert result.run.n_passes < 2 * best.run.n_passes + 5
    assert_allclose(result.model.theta, best.model.theta, atol=1e-6)
    change = [run.double for run in runs].index(True)
    for number in (change - 1, change, change + 1):
        again = train(source, SerialEngine(), settings, resume=[runs[number]])
        assert again.model.theta.tobytes() == result.model.theta.tobytes()


def test_a_tolerance_below_rounding_ends_with_a_sentence(source):
    result = train(source, SerialEngine(), Settings(tol=0.0, max_iter=10_000))
    assert not result.converged
    assert result.run.n_passes < 60
    assert "the gradient is as small as rounding lets it be; max|∇F| = " in result.status
    assert result.run.gradient_max < 1e-15


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_start_where_F_is_not_finite_ends_with_a_sentence(data, name, dtype, bad):
    theta = np.zeros((3, 5))
    theta[0, 0] = bad
    with np.errstate(all="ignore"):
        result = train(
            opened(data[0].astype(dtype), data[1]),
            Passes(breaks_in=9),
            Settings(solver=name),
            theta=theta,
        )
    assert not result.converged
    assert "F is not finite" in result.status


@pytest.mark.parametrize("kind", ["numpy", "csr_array", "zarr v3", "dask", "zarr v2 big-endian"])
def test_the_end_is_the_same_to_the_last_bit_on_any_number_of_threads(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2000)
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    source = opened(*stored.KINDS[kind](tmp_path))
    ends = [
        train(source, engine, Settings(max_iter=6))
        for engine in (SerialEngine(), ThreadsEngine(2), ThreadsEngine(7))
    ]
    assert len({end.model.theta.tobytes() for end in ends}) == 1
    assert len({end.status for end in ends}) == 1


def test_intercepts_that_are_not_fitted_stay_at_zero(source):
    result = train(source, SerialEngine(), Settings(fit_intercept=False))
    assert_array_equal(result.model.theta[:, -1], 0)


def test_given_classes_that_no_row_has_are_classes_of_the_model(source, data):
    result = train(source, SerialEngine(), Settings(classes=np.array([0, 1, 2, 7])))
    assert result.model.classes.tolist() == [0, 1, 2, 7]
    assert result.model.predict_proba(data[0])[:, 3].max() < 0.01


def test_the_model_says_where_it_came_from(source):
    about = train(
        source, SerialEngine(), Settings(C=np.inf, max_iter=2, solver="lbfgs")
    ).model.about
    assert (about["C"], about["solver"], about["n_rows"], about["n_iter"]) == (
        "inf",
        "lbfgs",
        200,
        2,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "newtom"}, "solver='newtom' is unknown. Did you mean 'newton'"),
        ({"C": 0}, "C=0; expected a positive number, or inf"),
        ({"C": -1.0}, "C=-1.0"),
        ({"C": np.nan}, "C=nan"),
        ({"C": "1"}, "C='1'"),
        ({"C": True}, "C=True"),
        ({"tol": -1e-3}, "tol=-0.001; expected a number that is at least 0"),
        ({"tol": np.nan}, "tol=nan"),
        ({"max_iter": -1}, "max_iter=-1; expected a whole number"),
        ({"max_iter": 1.5}, "max_iter=1.5"),
        ({"max_iter": True}, "max_iter=True"),
        ({"dtype": "float16"}, "dtype='float16'; expected 'float32', 'float64', or None"),
        ({"dtype": "flaot32"}, "dtype='flaot32'"),
        ({"class_weight": "balance"}, "class_weight='balance' is unknown"),
    ],
)
def test_settings_that_make_no_sense_are_refused(source, settings, message):
    engine = Passes()
    with pytest.raises(OptionError, match=message):
        train(source, engine, Settings(**settings))
    assert engine.n == (1 if "class_weight" in settings else 0)


def test_a_start_of_another_shape_is_refused(source):
    with pytest.raises(
        DataError, match=r"shape \(3, 4\); expected \(3, 5\), for 3 classes and 4 features"
    ):
        train(source, SerialEngine(), Settings(), theta=np.zeros((3, 4)))


def test_a_run_is_frozen_and_watchers_only_watch(source):
    seen = []

    def watch(record, runs):
        (run,) = runs
        assert isinstance(run, Run)
        with pytest.raises(dataclasses.FrozenInstanceError):
            run.n_passes = 0
        seen.append(record)

    result = train(source, SerialEngine(), Settings(max_iter=3), watchers=[watch, watch])
    assert seen[::2] == seen[1::2] == result.history


@pytest.mark.parametrize("name", ["surrogate", "newton"])
def test_a_solver_that_needs_more_memory_than_is_free_is_refused_by_name(source, name, monkeypatch):
    monkeypatch.setattr("dsoftmax.training.budget.free_bytes", lambda: 1000)
    with pytest.raises(MemoryLimitError, match=f"solver='{name}' would allocate .* solver='auto'"):
        train(source, SerialEngine(), Settings(solver=name))
