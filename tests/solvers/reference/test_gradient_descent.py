"""Gradient descent with a fixed step, the reference for every other solver."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dsoftmax.solvers.protocol import Query
from dsoftmax.solvers.reference.gradient_descent import GradientDescent
from dsoftmax.testing.solvers import Convex


def run(solver, function, theta, n_passes):
    state = solver.start(theta, function.answer(Query(theta)))
    states = [state]
    for _ in range(n_passes):
        state, query = solver.ask(state)
        state = solver.tell(state, function.answer(query))
        states.append(state)
    return states


def convex(rng, quadratic=False):
    return Convex(rng.normal(size=(2, 3)), np.linalg.qr(rng.normal(size=(6, 6)))[0], quadratic)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_fixed_step_never_increases_F_and_moves_by_the_gradient(seed, quadratic):
    rng = np.random.default_rng(seed)
    function, theta = convex(rng, quadratic), 10 * rng.normal(size=(2, 3))
    states = run(GradientDescent(1.0), function, theta, 40)
    for before, after in itertools.pairwise(states):
        assert after.value <= before.value * (1 + 1e-14)
        assert_array_equal(after.theta, before.theta - 1.0 * before.gradient)
        assert after.n_iter == before.n_iter + 1
