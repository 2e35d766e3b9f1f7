"""Passes over real sets to their optimum, as upper bounds; no L-BFGS ever needs fewer.

A relative gap is (F − F*)/F*, in plain NumPy and float64. The bounds of F* come from a long run
and are proven in plain NumPy too (``benchmarks/optimum_bounds.py``). scikit-learn's solutions test
that they hold. The default must reach the lower bound, L-BFGS must miss the upper one, so
that loose bounds can only make these tests fail.
"""

from functools import cache

import diagonal_lbfgs
import numpy as np
import pytest
from counting import Path, follow, follow_to, look_for_optimum
from numpy.testing import assert_allclose
from opening import opened
from optimum_bounds import Bounds, PlainObjective
from real_data import DATA, load
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.solvers.auto import AUTO, MATRIX_FREE
from dsoftmax.solvers.table import SOLVERS
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread")

GAP = 1e-6
KNOWN = 1e-8
"""Largest distance of the bounds of F*, as a fraction of F*."""
MOST = {  # passes at C = 1, that of statistics included
    "digits": 5,
    "covtype-60k raw": 15,
    "covtype-60k standardised": 15,
    "covtype-60k rms": 5,
    "shuttle raw": 25,
    "landsat raw": 6,
    "landsat rms": 6,
    "banking77-embedded": 28,
    "kddcup99-60k standardised": 9,
    "kddcup99-60k raw": 12,
}
MOST_OUT_OF_CORE = {  # passes at C = 1 of the default where every pass must read
    "covtype-products standardised": 12,
    "banking77-embedded": 12,
}
MOST_WITH_L1 = [  # set, C, l1_ratio, gap, passes; proximal-newton needs 20 and more on the second
    ("banking77-tfidf", 10.0, 0.5, 1e-6, 4),
    ("kddcup99-60k standardised", 1.0, 0.5, 1e-6, 9),
]
STRONG = (
    *MOST,
    "shuttle standardised",
    "shuttle rms",
    "banking77-tfidf",
    "covtype-products standardised",
)
WEAK = (
    "digits",
    "covtype-60k raw",
    "covtype-60k standardised",
    "shuttle raw",
    "shuttle standardised",
    "landsat raw",
    "kddcup99-60k raw",
    "kddcup99-60k standardised",
    "covtype-products standardised",
)
"""Sets that are compared with λ = 1e-4 too; this is C = 1 for 10,003 rows."""

missing = pytest.mark.skipif(
    DATA is None, reason="DSOFTMAX_DATA does not name the folder of the real sets"
)


def sets(names, *more):
    """Parameters that are skipped if their set is missing."""
    return [
        pytest.param(name, *more, marks=() if name == "digits" else (pytest.mark.data, missing))
        for name in names
    ]


@cache
def problem(name, weak):
    """A set and its C: 1, or λ = 1e-4 in the mean's scale."""
    data = load(name)
    C = 1e4 / data.n_rows if weak else 1.0
    return data, C, PlainObjective.of(data.X, data.y, C)


@cache
def run(name, weak) -> tuple[Bounds, Path]:
    """Bounds of the optimum, and the path of the default."""
    data, C, plain = problem(name, weak)
    bounds, path = look_for_optimum(data, C, plain, seconds=120, unknown=KNOWN / 10, dtype=None)
    assert bounds.looseness <= KNOWN
    return bounds, path


@cache
def passes_of_the_default(name, weak) -> int:
    bounds, path = run(name, weak)
    passes = path.passes(problem(name, weak)[2], bounds.lower, GAP)
    assert passes is not None
    return passes


@pytest.mark.parametrize("name", sets(MOST))
def test_the_default_is_at_the_optimum_after_few_passes(name):
    assert passes_of_the_default(name, False) <= MOST[name]


@pytest.mark.parametrize("name", sets(MOST_OUT_OF_CORE))
def test_out_of_core_the_default_is_at_the_optimum_after_few_passes(name):
    """Plain L-BFGS is not there after four times as many."""
    data, C, plain = problem(name, False)
    bounds, path = look_for_optimum(
        data, C, plain, seconds=120, unknown=KNOWN / 10, dtype=None, solver=MATRIX_FREE
    )
    assert bounds.looseness <= KNOWN
    passes = path.passes(plain, bounds.lower, GAP)
    assert passes <= MOST_OUT_OF_CORE[name]
    goal = bounds.value * (1 + GAP)
    plain_path = follow_to(data, C, "lbfgs", plain, goal, 4 * passes)
    assert plain.value(plain_path.thetas[-1]) > goal


@pytest.mark.parametrize(
    ("name", "C", "l1_ratio", "gap", "most"),
    [pytest.param(*one, marks=(pytest.mark.data, missing)) for one in MOST_WITH_L1],
)
def test_with_an_l1_part_the_default_is_at_the_optimum_after_few_passes(
    name, C, l1_ratio, gap, most
):
    """F* is bounded by strong convexity, or by duality if the penalty is L1 alone."""
    data = load(name)
    plain = PlainObjective.of(data.X, data.y, C, l1_ratio)

    def proven(record, run):
        return plain.bounds(run.theta).looseness <= gap / 2

    path = follow(data, C, AUTO, proven, 2 * most, l1_ratio=l1_ratio)
    assert path.solver == MATRIX_FREE
    bounds = plain.bounds(path.thetas[-1])
    assert bounds.looseness <= gap / 2
    passes = path.passes(plain, bounds.lower, gap)
    assert passes is not None
    assert passes <= most


@pytest.mark.parametrize("other", ["lbfgs", diagonal_lbfgs.NAME])
@pytest.mark.parametrize(("name", "weak"), [*sets(STRONG, False), *sets(WEAK, True)])
def test_no_lbfgs_is_there_after_the_passes_of_the_default(name, weak, other, monkeypatch):
    monkeypatch.setitem(SOLVERS, diagonal_lbfgs.NAME, diagonal_lbfgs.ENTRY)
    passes = passes_of_the_default(name, weak)
    data, C, plain = problem(name, weak)
    goal = run(name, weak)[0].value * (1 + GAP)
    path = follow_to(data, C, other, plain, goal, passes)
    assert path.n_passes == passes
    assert plain.value(path.thetas[-1]) > goal


@pytest.mark.parametrize(
    ("name", "weak"),
    [*sets(["digits", "shuttle standardised", "landsat rms", "covtype-60k rms"], False)],
)
def test_the_bounds_of_the_optimum_hold_for_scikit_learn(name, weak):
    data, C, plain = problem(name, weak)
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=200, solver="newton-cholesky").fit(
        data.X.astype(float), data.y
    )
    value = plain.value(np.column_stack([theirs.coef_, theirs.intercept_]))
    bounds, _ = run(name, weak)
    rounding = 1e-13 * value
    assert bounds.lower - rounding <= value <= bounds.value + rounding


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_has_the_objective_and_the_coefficients_of_scikit_learn(solver):
    X, y = load_digits(return_X_y=True)
    X /= 16
    plain = PlainObjective.of(X, y, 0.002)
    theirs = LogisticRegression(C=0.002, tol=1e-10, solver="newton-cholesky").fit(X, y)
    ours = train(
        opened(X, y),
        SerialEngine(),
        Settings(C=0.002, solver=solver, tol=1e-8, max_iter=20_000),
    )
    assert ours.converged, ours.status
    best = plain.value(np.column_stack([theirs.coef_, theirs.intercept_]))
    assert plain.value(ours.model.theta) == pytest.approx(best, rel=1e-8)
    assert ours.run.state.value == pytest.approx(best, rel=1e-8)
    assert_allclose(ours.model.theta[:, :-1], theirs.coef_, atol=1e-6)
    assert_allclose(
        ours.model.theta[:, -1], theirs.intercept_ - theirs.intercept_.mean(), atol=1e-5
    )
