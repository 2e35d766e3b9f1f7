"""The minimisation between two passes: it finds minima, within its budget, and says if it was cut.

The functions are those of `dsoftmax.testing.solvers`, whose minimum is known.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dsoftmax.solvers.matrix_free import minimise as inner
from dsoftmax.solvers.matrix_free.minimise import minimise
from dsoftmax.solvers.protocol import Query
from dsoftmax.testing.solvers import Convex


def identity(theta, number):
    return np.copy


def size(direction):
    return float(np.sqrt(np.mean(direction**2)))


class Counted:
    """A convex function that counts its evaluations."""

    def __init__(self, rng, quadratic=False):
        turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]
        self.convex, self.points = Convex(rng.normal(size=(3, 4)), turn, quadratic), []

    def __call__(self, theta):
        self.points.append(theta)
        answer = self.convex.answer(Query(theta))
        return answer.value, answer.gradient


@pytest.mark.parametrize("quadratic", [True, False])
def test_it_ends_close_to_the_minimum(rng, monkeypatch, quadratic):
    monkeypatch.setattr(inner, "CLOSE", 1e-7)
    monkeypatch.setattr(inner, "LITTLE", 0.0)
    function = Counted(rng, quadratic)
    found = minimise(function, rng.normal(size=(3, 4)), identity, 500, 1e-15, np.inf, size)
    assert_allclose(found.theta, function.convex.best, atol=1e-5)
    assert not found.cut_short
    assert found.n_gradients == len(function.points) < 200
    assert found.value == function(found.theta)[0]


@pytest.mark.parametrize("budget", [1, 2, 5])
def test_it_spends_no_more_than_its_budget_and_says_that_it_was_cut_short(rng, budget):
    function, start = Counted(rng), 3 * rng.normal(size=(3, 4))
    found = minimise(function, start, identity, budget, 1e-15, np.inf, size)
    assert found.n_gradients == len(function.points) == budget
    assert found.cut_short == (budget > 1)  # with one gradient nothing was minimised
    assert found.value <= function(start)[0]


def test_the_first_step_moves_logits_by_one_at_most(rng):
    function, start = Counted(rng), 30 * rng.normal(size=(3, 4))
    minimise(function, start, identity, 2, 1e-15, np.inf, lambda d: 1000 * size(d))
    assert_allclose(1000 * size(function.points[1] - start), 1)


def test_it_stops_where_a_function_falls_without_end():
    falling = lambda theta: (-float(theta.sum()), -np.ones_like(theta))  # noqa: E731
    found = minimise(falling, np.zeros((1, 2)), identity, 500, 0.0, 100.0, size)
    assert found.n_gradients < 20
    assert not found.cut_short


def test_a_preconditioner_is_asked_for_again_at_other_points(rng):
    asked = []

    def preconditioner(theta, number):
        asked.append((number, theta))
        return np.copy

    function = Counted(rng)
    minimise(function, 3 * rng.normal(size=(3, 4)), preconditioner, 60, 1e-15, np.inf, size)
    assert [number for number, _ in asked] == list(range(len(asked)))
    assert len(asked) >= 2
    assert not np.array_equal(asked[0][1], asked[1][1])
