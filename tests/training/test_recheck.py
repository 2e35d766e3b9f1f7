"""A run that is resumed notices that a row, a label or a weight has changed in between."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import RunMismatchError
from dsoftmax.solvers.table import AUTO, SOLVERS
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

L1 = [(name, 0.5) for name in ("proximal-newton", "matrix-free")]
ALL = [(name, 0.0) for name in (AUTO, *SOLVERS) if name != "proximal-newton"] + L1


def rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(900, 5)).astype(np.float32)
    y = (X[:, :3] + rng.gumbel(size=(900, 3))).argmax(axis=1)
    return X, y, np.ones(900)


def change(kind, X, y, weights):
    if kind == "one feature":
        X[450, 2] += 1e-3
    elif kind == "two labels":  # the classes keep their counts
        i, j = 450 + np.flatnonzero(y[450:] == 0)[0], 450 + np.flatnonzero(y[450:] == 1)[0]
        y[[i, j]] = y[[j, i]]
    elif kind == "two weights":
        weights[450:452] = 0.5, 1.5


def stopped(solver, l1_ratio, arrays, n_passes):
    """The runs after some passes, as a checkpoint has them."""
    found = []

    def watch(record, runs):
        found.append(runs)
        return record.pass_ == n_passes

    settings = Settings(solver=solver, l1_ratio=l1_ratio, tol=1e-9)
    train(opened(*arrays), SerialEngine(), settings, watchers=[watch])
    return settings, found[n_passes - 1]


@pytest.mark.parametrize("kind", ["one feature", "two labels", "two weights"])
@pytest.mark.parametrize(("solver", "l1_ratio"), ALL)
def test_a_change_after_the_first_step_is_noticed(solver, l1_ratio, kind):
    settings, runs = stopped(solver, l1_ratio, rows(), 2)
    if not runs[0].state.n_iter:
        settings, runs = stopped(solver, l1_ratio, rows(), 5)
    assert runs[0].state.n_iter
    changed = rows()
    change(kind, *changed)
    with pytest.raises(RunMismatchError, match="have changed"):
        train(opened(*changed), SerialEngine(), settings, resume=runs)


@pytest.mark.parametrize(("solver", "l1_ratio"), ALL)
def test_the_same_data_are_no_change(solver, l1_ratio):
    for n_passes in (1, 2):
        settings, runs = stopped(solver, l1_ratio, rows(), n_passes)
        resumed = train(opened(*rows()), SerialEngine(), settings, resume=runs)
        once = train(opened(*rows()), SerialEngine(), settings)
        assert_array_equal(resumed.model.theta, once.model.theta)


@pytest.mark.parametrize("solver", [AUTO, "lbfgs"])
def test_other_data_are_noticed_before_the_first_step(solver):
    settings, runs = stopped(solver, 0.0, rows(), 1)
    X, y, weights = rows()
    X[300:600] *= -1
    with pytest.raises(RunMismatchError, match="have changed"):
        train(opened(X, y, weights), SerialEngine(), settings, resume=runs)


def test_the_check_reads_nothing_more():
    settings, runs = stopped("lbfgs", 0.0, rows(), 3)
    resumed = train(opened(*rows()), SerialEngine(), settings, resume=runs)
    once = train(opened(*rows()), SerialEngine(), settings)
    assert resumed.n_passes == once.n_passes
    assert [one.rows for one in resumed.history] == [one.rows for one in once.history[3:]]
