"""The minimisation with an L1 part: minima, exact zeros, its budget, and functions without end."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.solvers.matrix_free import orthant
from dsoftmax.solvers.matrix_free.orthant import Composite, minimise_with_l1
from dsoftmax.solvers.matrix_free.part import BlockPart
from dsoftmax.solvers.protocol import Query
from dsoftmax.testing.solvers import Convex

SHAPE = (3, 4)


def identity(theta, number, pairs):
    return BlockPart(np.tile(np.eye(4), (3, 1, 1)))


def size(direction):
    return float(np.sqrt(np.mean(direction**2)))


def composite(rng, weights, quadratic=False, most=np.inf):
    """A convex function with an L1 part, and the points at which it is evaluated."""
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    convex, points = Convex(rng.normal(size=SHAPE), turn, quadratic), []

    def smooth(theta):
        points.append(theta)
        answer = convex.answer(Query(theta))
        return answer.value, answer.gradient

    return Composite(smooth, weights, np.ones(SHAPE, bool), 1e-15, most), points


def literal_minimum(function, theta):
    """Proximal gradient with the step 1/L = 1, until it stands still."""
    for _ in range(20_000):
        u = theta - function.smooth(theta)[1]
        following = np.sign(u) * np.maximum(abs(u) - function.weights, 0)
        if np.array_equal(following, theta):
            break
        theta = following
    return theta


@pytest.mark.parametrize("quadratic", [True, False])
@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_it_ends_close_to_the_minimum_with_its_zeros(rng, monkeypatch, quadratic, l1):
    monkeypatch.setattr(orthant, "CLOSE", 1e-7)
    monkeypatch.setattr(orthant, "LITTLE", 0.0)
    weights = np.full(SHAPE, l1)
    weights[:, -1] = 0
    function, points = composite(rng, weights, quadratic)
    found = minimise_with_l1(function, rng.normal(size=SHAPE), identity, 500, size)
    assert not found.cut_short
    assert found.n_gradients == len(points) < 200
    best = literal_minimum(function, np.zeros(SHAPE))
    assert_allclose(found.theta, best, atol=1e-5)
    assert_array_equal(found.theta == 0, best == 0)
    assert np.any(best == 0) == (l1 > 0)
    value = function.smooth(best)[0] + l1 * abs(best[:, :-1]).sum()
    assert_allclose(found.value, value, atol=1e-12)


@pytest.mark.parametrize("budget", [1, 2, 5])
def test_it_spends_no_more_than_its_budget_and_says_that_it_was_cut_short(rng, budget):
    function, points = composite(rng, np.full(SHAPE, 0.01))
    start = 3 * rng.normal(size=SHAPE)
    found = minimise_with_l1(function, start, identity, budget, size)
    assert found.n_gradients == len(points) == budget
    assert found.cut_short == (budget > 1)  # with one gradient nothing was minimised
    assert found.value <= function.at(start).value


def test_the_first_step_moves_logits_by_one_at_most(rng):
    function, points = composite(rng, np.full(SHAPE, 0.01))
    start = 30 * rng.normal(size=SHAPE)
    minimise_with_l1(function, start, identity, 2, lambda d: 1000 * size(d))
    assert_allclose(1000 * size(points[1] - start), 1)


def test_entries_that_are_not_free_stay(rng):
    function, _ = composite(rng, np.full(SHAPE, 0.01))
    free = np.ones(SHAPE, bool)
    free[0] = False
    fixed = Composite(function.smooth, np.where(free, 0.01, 0.0), free, 1e-15, np.inf)
    start = rng.normal(size=SHAPE)
    found = minimise_with_l1(fixed, start, identity, 50, size)
    assert_array_equal(found.theta[0], start[0])
    assert not np.array_equal(found.theta[1:], start[1:])


def test_it_stops_where_a_function_falls_without_end():
    function = Composite(
        lambda theta: (-float(theta.sum()), -np.ones_like(theta)),
        np.full(SHAPE, 0.5),
        np.ones(SHAPE, bool),
        0.0,
        100.0,
    )
    found = minimise_with_l1(function, np.zeros(SHAPE), identity, 500, size)
    assert found.n_gradients < 500
    assert not found.cut_short


def test_an_entry_that_would_change_its_sign_becomes_zero():
    """The minimum over both entries of ½(x−a)² + ¼|x| is soft thresholding."""
    target = np.array([[-2.0, 0.1]])
    function = Composite(
        lambda x: (0.5 * float(np.sum((x - target) ** 2)), x - target),
        np.full((1, 2), 0.25),
        np.ones((1, 2), bool),
        0.0,
        np.inf,
    )
    part = BlockPart(np.eye(2)[None])
    found = minimise_with_l1(function, np.array([[3.0, 3.0]]), lambda *_: part, 50, lambda d: 0.0)
    assert_array_equal(found.theta, [[-1.75, 0.0]])
