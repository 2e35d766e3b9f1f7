"""A grid of models that share their passes.

It equals a loop of single fits, and takes hardly more passes than its slowest model.
"""

import dataclasses

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose
from opening import opened
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from dsoftmax.data.groups import group_keys
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError, OptionError
from dsoftmax.solvers.table import SOLVERS
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

CS = np.array([0.01, 0.1, 1.0])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(600, 5))
    return X, (X @ rng.normal(size=(5, 3)) + rng.gumbel(size=(600, 3))).argmax(axis=1)


def held_out(numbers, n_folds):
    """The rows that each fold holds out, by numbers of rows or groups, in plain Python."""
    which = np.array([reference.fold(int(number), n_folds) for number in numbers])
    return [which == fold for fold in range(n_folds)]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_scores_equal_a_loop_of_fits_by_scikit_learn(data, class_weight):
    X, y = data
    w = np.random.default_rng(0).uniform(0.5, 2, len(y))
    settings = Settings(tol=1e-9, class_weight=class_weight)
    found = train(opened(X, y, w), SerialEngine(), settings, Grid(CS, 4))
    assert found.converged
    for fold, mask in enumerate(held_out(range(len(y)), 4)):
        for number, C in enumerate(CS):
            theirs = LogisticRegression(C=C, tol=1e-10, max_iter=5000, class_weight=class_weight)
            theirs.fit(X[~mask], y[~mask], w[~mask])
            assert_allclose(
                found.of_fold(fold, number).model.theta[:, :-1], theirs.coef_, atol=1e-6
            )
            P = theirs.predict_proba(X[mask])
            assert_allclose(
                found.log_loss[fold, number], log_loss(y[mask], P, sample_weight=w[mask]), atol=1e-6
            )
            assert_allclose(
                found.accuracy[fold, number], theirs.score(X[mask], y[mask], w[mask]), atol=1e-12
            )
    best = LogisticRegression(
        C=found.best.C, tol=1e-10, max_iter=5000, class_weight=class_weight
    ).fit(X, y, w)
    assert_allclose(found.model.theta[:, :-1], best.coef_, atol=1e-6)
    assert found.best.C == CS[np.argmax(found.accuracy.mean(axis=0))]


GROUPS = {
    "numbers": np.arange(600) // 20 - 5,
    "words": np.array([f"scene {i % 37}" for i in range(600)]),
}


@pytest.mark.parametrize("sampled", ["sampled", "whole"])
@pytest.mark.parametrize("groups", GROUPS)
def test_scores_over_groups_equal_a_loop_of_fits_by_scikit_learn(data, groups, sampled, request):
    if sampled == "sampled":
        request.getfixturevalue("small_sample")
    (X, y), values = data, GROUPS[groups]
    masks = held_out(group_keys(values), 3)
    for value in np.unique(values):
        assert sum(mask[values == value].any() for mask in masks) == 1
    found = train(opened(X, y, groups=values), SerialEngine(), Settings(tol=1e-9), Grid(CS, 3))
    assert found.converged
    for fold, mask in enumerate(masks):
        for number, C in enumerate(CS):
            theirs = LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(X[~mask], y[~mask])
            assert_allclose(
                found.of_fold(fold, number).model.theta[:, :-1], theirs.coef_, atol=1e-6
            )
            assert_allclose(
                found.log_loss[fold, number],
                log_loss(y[mask], theirs.predict_proba(X[mask])),
                atol=1e-6,
            )
            assert_allclose(
                found.accuracy[fold, number], theirs.score(X[mask], y[mask]), atol=1e-12
            )


@pytest.mark.parametrize("solver", ["surrogate", "lbfgs-kronecker", "lbfgs"])
def test_the_grid_takes_hardly_more_passes_than_its_slowest_member(data, solver, small_sample):
    source = opened(*data)
    settings = Settings(tol=1e-6, solver=solver, max_iter=500)
    found = train(source, SerialEngine(), settings, Grid(CS, 3))
    alone = [
        train(source, SerialEngine(), dataclasses.replace(settings, C=C)).run.n_passes for C in CS
    ]
    slowest = max(one.run.n_passes for one in found.models)
    assert found.n_passes == len(found.history) == slowest
    assert found.n_passes <= 1.3 * max(*alone, slowest)
    assert all(record.rows == 600 for record in found.history)


@pytest.mark.parametrize("groups", [None, "words"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_grid_resumed_after_any_pass_has_the_same_bits(data, solver, groups, small_sample):
    source, grid = opened(*data, groups=groups and GROUPS[groups]), Grid(CS[:2], 2)
    settings, seen = Settings(tol=1e-6, solver=solver, max_iter=6), []
    whole = train(
        source, SerialEngine(), settings, grid, watchers=[lambda record, runs: seen.append(runs)]
    )
    for runs in (seen[0], seen[len(seen) // 2], seen[-1]):
        again = train(source, SerialEngine(), settings, grid, resume=runs)
        assert again.n_passes == whole.n_passes
        assert again.scores.tobytes() == whole.scores.tobytes()
        for one, two in zip(again.models, whole.models, strict=True):
            assert one.model.theta.tobytes() == two.model.theta.tobytes()


@pytest.mark.parametrize("groups", [None, *GROUPS])
def test_threads_give_the_bits_of_one(data, groups, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 1000)
    source = opened(*data, groups=groups and GROUPS[groups])
    assert len(source.chunk_rows) > 5
    one, two = (
        train(source, engine, Settings(), Grid(CS, 3))
        for engine in (SerialEngine(), ThreadsEngine(3))
    )
    assert one.log_loss.tobytes() == two.log_loss.tobytes()
    assert one.model.theta.tobytes() == two.model.theta.tobytes()


def test_a_model_that_ends_at_its_start_is_scored_all_the_same(data):
    found = train(opened(*data), SerialEngine(), Settings(tol=10.0), Grid(CS, 3))
    assert found.n_passes == 2
    shares = np.bincount(data[1]) / len(data[1])
    assert_allclose(found.log_loss.mean(), -np.sum(shares * np.log(shares)), rtol=0.02)


def test_a_fold_without_a_group_is_named_with_the_sizes_of_the_others(data):
    groups = np.arange(600) % 4
    which = [reference.fold(group, 5) for group in range(4)]
    rows, counts = ([which.count(fold) * each for fold in range(5)] for each in (150, 1))
    empty = [fold for fold in range(5) if fold not in which]
    assert empty
    with pytest.raises(DataError) as error:
        train(opened(*data, groups=groups), SerialEngine(), Settings(), Grid(CS, 5))
    for part in (
        f"hold {_listed(rows)} of 600 rows, at least {_listed(counts)} groups",
        f"fold {_listed(empty)} has no row",
    ):
        assert part in str(error.value)
    assert "hash of its group" in str(error.value)


@pytest.mark.parametrize("n", [4, 6, 9])
def test_a_fold_without_rows_or_weight_is_named_without_groups_too(data, n):
    X, y = data[0][:n], np.arange(n) % 2
    which = np.array([reference.fold(row, 5) for row in range(n)])
    rows = np.bincount(which, minlength=5).tolist()
    empty = [fold for fold in range(5) if rows[fold] == 0]
    if not empty:  # give its rows no weight
        empty = [int(which[0])]
    weights = np.where(which == empty[0], 0.0, 1.0)
    with pytest.raises(DataError) as error:
        train(opened(X, y, weights), SerialEngine(), Settings(), Grid(CS, 5))
    assert f"The folds hold {_listed(rows)} of {n} rows: fold {_listed(empty)} has no row" in str(
        error.value
    )
    assert "Pass fewer folds, or more rows" in str(error.value)


def _listed(numbers):
    return ", ".join(map(str, numbers))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid(np.array([])), "expected positive numbers, at least one"),
        (Grid(np.array([1.0, -1.0])), "expected positive numbers, at least one"),
        (Grid(np.array([1.0, 1.0])), "values must be distinct"),
        (Grid(CS, 1), "at least 2"),
        (Grid(CS, 3, "f1"), "scoring='f1' is unknown"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_before_the_first_pass(data, grid, message):
    with pytest.raises(OptionError, match=message):
        train(opened(*data), SerialEngine(), Settings(), grid)
