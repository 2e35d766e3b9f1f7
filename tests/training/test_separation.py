"""Classes that are separable without a penalty are named: completely, and in part."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.sparse
from allocated import measured_call
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.estimators.sklearn import ConvergenceWarning
from dsoftmax.objective import objective as objective_module
from dsoftmax.objective.separation import find_direction
from dsoftmax.solvers.table import SOLVERS
from dsoftmax.training.budget import sizes_of
from dsoftmax.training.ending import Kind
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.separation import may_search, say_separated, search_bytes
from dsoftmax.training.settings import Settings


def fitted(X, y, weights=None, **options):
    return train(opened(X, y, weights), SerialEngine(), Settings(**{"C": np.inf} | options))


def separable(X, y, intercept=True):
    """Whether a linear program finds a direction with margins ≥ 0, some of them positive."""
    X = np.column_stack([X, np.ones(len(X))]) if intercept else np.asarray(X, float)
    d = X.shape[1]
    K = int(y.max()) + 1
    rows, others = np.nonzero(np.arange(K) != y[:, None])
    margins = np.zeros((len(rows), K, d))
    each = np.arange(len(rows))
    margins[each, y[rows]] += X[rows]
    margins[each, others] -= X[rows]
    A = margins.reshape(len(rows), -1)
    A = A / np.maximum(np.abs(A).max(axis=0), 1e-300)
    found = scipy.optimize.linprog(
        -A.mean(axis=0), A_ub=-A, b_ub=np.zeros(len(A)), bounds=(-1, 1), method="highs"
    )
    return -found.fun > 1e-9


def random_case(seed):
    """Small rows of many kinds: about half of them are separable, mostly in part."""
    rng = np.random.default_rng(seed)
    n, p, K = rng.integers(12, 150), rng.integers(1, 5), rng.integers(2, 5)
    kind = seed % 5
    if kind == 0:
        X = rng.integers(0, 2, (n, p)).astype(float)
    elif kind == 1:
        X = rng.integers(-2, 3, (n, p)).astype(float)
    elif kind == 2:
        X = np.column_stack([rng.normal(size=(n, p)), rng.random(n) < 0.1])
    elif kind == 3:  # standardised and rotated dummy columns
        X = np.column_stack([rng.normal(size=(n, p)), rng.random((n, 2)) < 0.15])
        X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
        X = X @ np.linalg.qr(rng.normal(size=(p + 2, p + 2)))[0]
    else:  # heavy tails and units, with a column twice
        X = rng.standard_t(2, size=(n, p)) * 10 ** rng.uniform(-3, 3, p)
        X = np.column_stack([X, X[:, 0]])
    slopes = rng.normal(size=(K, X.shape[1])) * rng.choice([0, 1, 3]) / (X.std(axis=0) + 1e-9)
    y = (X @ slopes.T + rng.gumbel(size=(n, K))).argmax(axis=1)
    return X, np.unique(y, return_inverse=True)[1]


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("max_iter", [3, 100])
def test_every_solver_names_what_a_linear_program_finds(solver, max_iter):
    expected = []
    for seed in range(14):
        X, y = random_case(1000 * len(solver) + max_iter + seed)
        if not y.any():
            continue
        intercept, sparse = seed % 7 != 0, seed % 3 == 0
        rows = scipy.sparse.csr_array(X) if sparse else X
        found = fitted(rows, y, solver=solver, max_iter=max_iter, fit_intercept=intercept)
        expected.append(separable(X, y, intercept))
        assert (found.ending.kind is Kind.SEPARATED) == expected[-1], (seed, found.status)
        assert not (found.converged and expected[-1])
    assert 1 < sum(expected) < len(expected) - 1


@pytest.fixture
def rare(rng):
    """Many rows: a sample has a tenth of them. A rare dummy column belongs to class 1 alone."""
    n = 20_000
    X = rng.normal(size=(n, 4))
    y = (X[:, :3] + rng.gumbel(size=(n, 3))).argmax(axis=1)
    dummy = rng.random(n) < 1e-3
    return np.column_stack([X, dummy]), np.where(dummy, 1, y)


RARE = (
    "a linear function separates some rows of class 1 from classes 0 and 2 (quasi-separation), by "
    "feature 4. Without a penalty there is no finite optimum: F falls towards its infimum as θ "
    "grows. Pass a finite C."
)


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (np.asarray, {}),
        (scipy.sparse.csr_array, {}),
        (standardised, {}),
        (lambda X: standardised(X) + 1e4, {}),
        (lambda X: X.astype(np.float32), {}),
        (lambda X: X * [1e6, 1.0, 1e-6, 1.0, 1e3], {}),
        (np.asarray, {"fit_intercept": False}),
        (np.asarray, {"class_weight": "balanced"}),
        (np.asarray, {"l1_ratio": 0.5}),
        *[(np.asarray, {"solver": name}) for name in SOLVERS],
    ],
)
def test_a_rare_feature_of_one_class_is_named_by_a_pass_over_all_rows(rare, change, options):
    X, y = rare
    found = fitted(change(X), y, **options)
    assert found.ending.kind is Kind.SEPARATED
    assert found.status.endswith(RARE)


def test_rows_that_the_sample_lacks_refute_a_direction(rare):
    """A run is resumed on other labels: its sample does not know them."""
    X, y = rare
    one, other = np.flatnonzero(X[:, 4])[:2]
    runs = []
    train(
        opened(X, y),
        SerialEngine(),
        Settings(C=np.inf),
        watchers=[lambda _, now: runs.append(now[0])],
    )
    (suspect,) = [run for run in runs if run.suspect]
    for changes, kind in (({}, Kind.SEPARATED), ({one: 0, other: 2}, Kind.CONVERGED)):
        labels = y.copy()
        for row, label in changes.items():
            labels[row] = label
        rest = train(opened(X, labels), SerialEngine(), Settings(C=np.inf), resume=[suspect])
        assert rest.ending.kind is kind
        assert rest.n_passes == suspect.n_passes + 1


def test_rows_without_a_weight_refute_nothing(rare):
    X, y = rare
    weights, y = np.ones(len(y)), y.copy()
    broken = np.flatnonzero(X[:, 4])[:2]
    y[broken] = 0, 2
    assert fitted(X, y, weights).converged
    weights[broken] = 0
    assert fitted(X, y, weights).status.endswith(RARE)


def test_runs_that_are_resumed_or_on_threads_end_with_the_same_bits(rare):
    source, settings, runs = opened(*rare), Settings(C=np.inf, solver="lbfgs"), []
    whole = train(source, SerialEngine(), settings, watchers=[lambda _, now: runs.append(now[0])])
    assert runs[-2].suspect
    assert not runs[-1].suspect
    for run in runs[::4] + runs[-3:]:
        rest = train(source, SerialEngine(), settings, resume=[run])
        assert rest.status == whole.status
        assert_array_equal(rest.model.theta, whole.model.theta)
    threads = train(source, ThreadsEngine(2), settings)
    assert threads.status == whole.status
    assert_array_equal(threads.model.theta, whole.model.theta)


def test_folds_and_grids_name_only_models_without_a_penalty(rare):
    X, y = rare
    found = train(opened(X, y), SerialEngine(), Settings(), Grid(np.array([1.0, np.inf]), 2))
    kinds = {C: {one.ending.kind for one in found.models if one.C == C} for C in (1.0, np.inf)}
    assert kinds == {1.0: {Kind.CONVERGED}, np.inf: {Kind.SEPARATED}}
    with pytest.warns(ConvergenceWarning, match=r"by feature 4\."):
        SoftmaxRegressionCV(Cs=[np.inf], cv=2).fit(X, y)


@pytest.mark.parametrize("far", [0.0, 30.0, 60.0, 1000.0])
def test_a_point_far_along_a_direction_does_not_hide_it(rng, far):
    """Losses below the rounding of float64 must not pass for a proof that nothing separates."""
    X = np.column_stack([rng.normal(size=(300, 2)), np.arange(300) < 10])
    y = np.where(X[:, 2], 1, X[:, 0] + rng.logistic(size=300) > 0).astype(int)
    rotated = standardised(X) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    source, settings = opened(rotated, y), Settings(C=np.inf)
    run = train(source, SerialEngine(), settings).run
    objective = make_objective(source, SerialEngine(), settings, run.statistics, True, "numpy")
    found, margins = objective.centred().separator(run.state.theta + far * run.separator)
    assert found.shape == (2, 4)
    assert margins[1, 0] > 0


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_no_model_with_a_penalty_is_searched(rare, monkeypatch, l1_ratio):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(objective_module, "find_direction", refuse)
    assert fitted(*rare, C=1e6, l1_ratio=l1_ratio, tol=1e-3).ending.kind is not Kind.SEPARATED
    with pytest.raises(AssertionError):
        fitted(*rare)


def test_an_optimum_is_searched_once_and_costs_no_pass(rng, monkeypatch):
    X = rng.normal(size=(20_000, 4))
    y = (X[:, :3] + rng.gumbel(size=(20_000, 3))).argmax(axis=1)
    calls = []

    def counted(*given):
        calls.append(find_direction(*given))
        return calls[-1]

    monkeypatch.setattr(objective_module, "find_direction", counted)
    assert fitted(X, y).converged
    assert [found.shape for found in calls] == [(0, 0)]


@pytest.mark.parametrize("overlap", [1.0, 1e-2, 1e-4, 1e-6, 1e-8])
def test_classes_that_overlap_by_one_row_are_not_named(overlap, rng):
    x = np.concatenate([-rng.random(500) - 0.1, rng.random(500) + 0.1])
    y = np.repeat([0, 1], 500)
    x[500] = x[:500].max() - overlap
    assert fitted(x[:, None], y, max_iter=200).ending.kind is not Kind.SEPARATED
    x[500] = x[:500].max() + max(overlap, 1e-2)
    assert fitted(x[:, None], y, max_iter=200).ending.kind is Kind.SEPARATED


def test_a_class_that_is_predicted_perfectly_is_named_while_two_others_overlap(rng):
    y = np.repeat([0, 1, 2], 200)
    X = rng.normal(size=(600, 3))
    X[y == 0, 1] += 20
    labels = np.array(["bird", "cat", "dog"])
    frame = pd.DataFrame(X, columns=["height", "length", "weight"])
    with pytest.warns(ConvergenceWarning) as told:
        model = SoftmaxRegression(C=np.inf).fit(frame, labels[y])
    assert (
        "separates all rows of class 'bird' from classes 'cat' and 'dog' (quasi-separation), "
        "by feature"
    ) in str(told[0].message)
    assert "'length'" in str(told[0].message)
    assert model.status_ == str(told[0].message)


def test_a_class_without_rows_is_named_without_a_penalty_alone(rng):
    X, y = rng.normal(size=(300, 2)), rng.integers(0, 2, 300)
    found = fitted(X, y, classes=np.arange(3))
    assert "no row has class 2, whose intercept falls without end. Without" in found.status
    assert fitted(X, y, classes=np.arange(3), C=1.0).converged


def test_features_of_complete_separation_are_named(rng):
    y = np.repeat([0, 1], 100)
    X = rng.normal(size=(200, 5))
    X[:, 3] = 40 * y + rng.random(200)
    found = fitted(X, y)
    assert "a linear function separates the classes, " in found.status
    assert " 3" in found.status.split("feature")[1].split(".")[0]


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        ([[-np.inf, 1, 0], [0, -np.inf, 0]], "some rows of class 'a' from class 'b' (quasi"),
        ([[-np.inf, 2, -1], [3, -np.inf, -1]], "separates the classes, by"),
        (
            [[-np.inf, 1, 1, -1], [1, -np.inf, 0, 0], [1, 0, -np.inf, 0]],
            "separates all rows of class 'a' from classes 'b' and 'c' (quasi",
        ),
        (
            [[-np.inf, 1, 0, 0], [0, -np.inf, 1, 0], [0, 0, -np.inf, 0]],
            "some rows of class 'a' from class 'b' and some rows of class 'b' from class 'c' (",
        ),
    ],
)
def test_a_sentence_names_classes_from_margins(margins, expected):
    K = len(margins)
    classes = np.array(list("abc"))[:K]
    said = say_separated(np.array(margins, float), classes, np.array([1.0, 0.5]), None)
    assert expected in said
    assert "by features 0 and 1. Without a penalty" in said


def test_a_sentence_counts_the_features_and_classes_that_it_leaves_out():
    K = 12
    margins = np.zeros((K, K + 1))
    margins[0, 1:K] = 1
    said = say_separated(margins, np.arange(K), np.arange(1.0, 9.0), None)
    assert "from classes 1, 2, 3, 4 and 7 more (quasi-separation), mainly by features 7, 6" in said


@pytest.mark.parametrize(("p", "K"), [(3, 100), (120, 4), (499, 2)])
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_a_search_allocates_what_is_planned_for_it(rng, p, K, kind):
    X = rng.normal(size=(3000, p))
    y = (X[:, :1] @ rng.normal(size=(1, K)) + rng.gumbel(size=(3000, K))).argmax(axis=1)
    source, settings = opened(kind(X), y), Settings(C=np.inf, max_iter=2)
    run = train(source, SerialEngine(), settings).run
    sizes = sizes_of(run.statistics)
    objective = make_objective(source, SerialEngine(), settings, run.statistics, True, "numpy")
    objective = objective.centred()
    _, peak = measured_call(lambda: objective.separator(run.state.theta))
    assert peak <= search_bytes(sizes)
    assert may_search(sizes, None)
    assert not may_search(sizes, search_bytes(sizes))
    assert not may_search(replace(sizes, n_features=2000), None)
