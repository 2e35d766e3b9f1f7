"""The line search on convex functions of one variable that break careless ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsoftmax.solvers.algebra.line_search import C1, C2, DELTA, MAX_TRIALS, advance, begin


def search(f, slope, step=1.0, error=0.0):
    """Search from 0 to the verdict."""
    state = begin(f(0.0), slope(0.0), error, step)
    tried = []
    while not state.verdict:
        tried.append(state.step)
        state = advance(state, f(state.step), slope(state.step), error)
        assert len(tried) <= MAX_TRIALS
    return state, tried


def log_cosh(u):
    return abs(u) + math.log1p(math.exp(-2 * abs(u))) - math.log(2)


CONVEX = {
    "quadratic": (lambda t, a: 0.5 * (t - a) ** 2, lambda t, a: t - a),
    "quartic, flat at its minimum": (lambda t, a: (t - a) ** 4, lambda t, a: 4 * (t - a) ** 3),
    "log cosh, linear far away": (lambda t, a: log_cosh(t - a), lambda t, a: math.tanh(t - a)),
    "exp, steep beyond": (
        lambda t, a: math.exp(min(t - a, 700)) - t,
        lambda t, a: math.exp(min(t - a, 700)) - 1,
    ),
    "kink, smoothed": (
        lambda t, a: math.hypot(t - a, 1e-6),
        lambda t, a: (t - a) / math.hypot(t - a, 1e-6),
    ),
}


@pytest.mark.parametrize("name", CONVEX)
@given(st.floats(-4, 4), st.floats(-6, 6))
def test_the_weak_wolfe_conditions_hold_at_the_end(name, log_minimum, log_step):
    f, slope = CONVEX[name]
    a, step = 10**log_minimum, 10**log_step
    if name.startswith("exp"):
        a = log_minimum
        if slope(0.0, a) >= 0:
            return
    state, _ = search(lambda t: f(t, a), lambda t: slope(t, a), step)
    assert state.verdict == "accepted"
    F0, S0, t = f(0.0, a), slope(0.0, a), state.step
    assert slope(t, a) >= C2 * S0
    assert f(t, a) <= F0 + C1 * t * S0


def test_a_good_first_step_is_one_trial():
    _, tried = search(lambda t: 0.5 * (t - 1) ** 2, lambda t: t - 1)
    assert tried == [1.0]


def test_a_step_far_too_short_grows_and_one_far_too_long_shrinks():
    for step, most in ((1e-12, 13), (1e12, 12)):  # at most tenfold up, and by twenty down
        state, tried = search(lambda t: 0.5 * (t - 1) ** 2, lambda t: t - 1, step)
        assert state.verdict == "accepted"
        assert len(tried) <= most


@pytest.mark.parametrize("outside", [math.inf, math.nan, -math.inf])
def test_values_that_are_not_finite_shorten_the_step(outside):
    def f(t):
        return 0.5 * (t - 1e-3) ** 2 if t < 2e-3 else outside

    state, tried = search(f, lambda t: t - 1e-3 if t < 2e-3 else math.nan)
    assert state.verdict == "accepted"
    assert state.step < 2e-3
    assert len(tried) <= 6


@given(st.integers(0, 2**32 - 1), st.floats(-13, -8))
def test_the_gradient_decides_if_F_is_rounding(seed, log_distance):
    """F = 1 + (t − a)²/2 is rounded at 1e-12, far above the decrease left; F′ is right."""
    rng = np.random.default_rng(seed)
    a = 10**log_distance
    state, tried = search(
        lambda t: 1 + 0.5 * (t - a) ** 2 + 1e-12 * rng.uniform(-0.5, 0.5),
        lambda t: t - a,
        step=a * 10 ** rng.uniform(-2, 2),
        error=1e-12,
    )
    assert state.verdict == "accepted"
    assert len(tried) <= 10
    assert -C2 * a <= state.step - a <= (1 - 2 * DELTA) * a  # the approximate Wolfe condition


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda t: 0.0, lambda t: -1.0),  # F does not fall, F′ says it does
        (lambda t: t, lambda t: -1.0),  # F rises, F′ says it falls
        (lambda t: -1e-30 * t, lambda t: -1e-30),  # no minimum at all
        (lambda t: math.nan if t else 0.0, lambda t: math.nan if t else -1.0),
        (lambda t: math.inf if t else 0.0, lambda t: math.inf if t else -1.0),
    ],
)
def test_functions_that_lie_end_the_search_in_bounded_trials(f, slope):
    state, tried = search(f, slope)
    assert state.verdict == "failed"
    assert len(tried) <= MAX_TRIALS


def test_a_search_is_frozen_and_advance_is_pure():
    state = begin(1.0, -1.0, 0.0, 10.0)
    one, two = advance(state, 5.0, 3.0, 0.0), advance(state, 5.0, 3.0, 0.0)
    assert one == two
    assert state == begin(1.0, -1.0, 0.0, 10.0)
    assert state.low < one.step < 10.0
