"""Every solver for an L1 part finds the minimum and the zeros of saga and of literal loops."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import reference
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import OptionError
from dsoftmax.solvers.algebra.l1 import subgradient
from dsoftmax.solvers.protocol import Query
from dsoftmax.solvers.table import SOLVERS, solver_entry
from dsoftmax.testing.solvers import Convex, check_solver, convex_problem
from dsoftmax.training.loop import Settings, train

DATA = os.environ.get("DSOFTMAX_DATA")
OURS = {"tol": 1e-9, "engine": "serial"}


@pytest.fixture(params=[name for name in SOLVERS if SOLVERS[name].l1])
def solver(request):
    """The name of a solver that can minimise an L1 part."""
    return request.param


def problem(K, n=150, p=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * (rng.random((n, p)) < 0.6)
    W = rng.normal(size=(p, K)) * (rng.random((p, K)) < 0.5) * 2
    return X, (X @ W + rng.gumbel(size=(n, K))).argmax(axis=1)


def objective(coef, intercept, X, y, C, l1_ratio, weights=None, class_weights=None):
    """F by scikit-learn's formula: one row for two classes."""
    theta = np.column_stack([coef, intercept])
    if len(theta) == 1:
        theta = np.vstack([np.zeros_like(theta), theta])
    S = reference.total_weight(y, weights, class_weights)
    loss = reference.value(theta, X, y, reference.row_weights(y, weights, class_weights)) / S
    return loss + ((1 - l1_ratio) / 2 * np.sum(coef**2) + l1_ratio * np.sum(abs(coef))) / (C * S)


@pytest.mark.parametrize(
    ("K", "C", "l1_ratio", "options"),
    [
        (2, 0.3, 0.5, {}),
        (2, 0.1, 1.0, {"weights": True, "class_weight": "balanced"}),
        (2, 0.3, 0.7, {"fit_intercept": False, "csr": True}),
        (3, 0.2, 0.5, {"weights": True}),
        (3, 0.2, 1.0, {}),
        (3, 0.3, 0.9, {"class_weight": {0: 2.0, 2: 0.5}, "csr": True}),
        (4, 0.2, 0.6, {"fit_intercept": False, "weights": True, "class_weight": "balanced"}),
        (5, 0.2, 0.3, {"weights": True}),
    ],
)
def test_the_optimum_and_its_zeros_are_those_of_saga(K, C, l1_ratio, options, solver):
    X, y = problem(K)
    X = scipy.sparse.csr_array(X) if options.get("csr") else X
    weights = np.random.default_rng(1).uniform(0.2, 3, len(y)) if options.get("weights") else None
    common = {name: options[name] for name in ("fit_intercept", "class_weight") if name in options}
    saga = LogisticRegression(
        solver="saga", C=C, l1_ratio=l1_ratio, tol=1e-11, max_iter=200_000, random_state=0, **common
    )
    saga.fit(scipy.sparse.csr_matrix(X) if options.get("csr") else X, y, weights)
    ours = SoftmaxRegression(C=C, l1_ratio=l1_ratio, solver=solver, **OURS, **common).fit(
        X, y, weights
    )
    assert ours.status_.startswith("Converged")
    mass = [sum(reference.weight(weights, i) for i in range(len(y)) if y[i] == k) for k in range(K)]
    c = options.get("class_weight")
    if c == "balanced":
        c = [sum(mass) / (K * m) for m in mass]
    elif c is not None:
        c = [c.get(k, 1.0) for k in range(K)]
    F, best = (
        objective(m.coef_, m.intercept_, X, y, C, l1_ratio, weights, c) for m in (ours, saga)
    )
    assert F <= best + 1e-9
    assert_allclose(F, best, atol=1e-6)
    assert_allclose(ours.objective_, F, rtol=1e-12)
    assert_allclose(ours.coef_, saga.coef_, atol=1e-4)
    assert_allclose(ours.predict_proba(X), saga.predict_proba(X), atol=1e-4)
    assert_array_equal(ours.coef_ == 0, abs(saga.coef_) < 1e-6)
    assert 0 < np.mean(ours.coef_ == 0) < 1


@pytest.mark.parametrize("K", [2, 3])
def test_without_an_l1_part_it_finds_the_l2_optimum(K, solver):
    X, y = problem(K)
    theirs = LogisticRegression(C=0.5, tol=1e-11, max_iter=10_000).fit(X, y)
    ours = SoftmaxRegression(C=0.5, solver=solver, **OURS).fit(X, y)
    assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    assert np.all(ours.coef_ != 0)


@pytest.mark.parametrize("K", [2, 4])
def test_a_strong_l1_penalty_leaves_the_class_shares_alone(K, solver):
    """λ₁ above every entry of the gradient at W = 0, b = log shares."""
    X, y = problem(K)
    shares = np.bincount(y) / len(y)
    g = (np.eye(K)[y] - shares).T @ X
    model = SoftmaxRegression(C=0.99 / abs(g).max(), l1_ratio=1.0, solver=solver, **OURS).fit(X, y)
    assert_array_equal(model.coef_, 0)
    assert model.n_passes_ == 1
    assert_allclose(model.predict_proba(X[:1])[0], shares)
    just_not = SoftmaxRegression(C=1.01 / abs(g).max(), l1_ratio=1.0, solver=solver, **OURS).fit(
        X, y
    )
    assert np.any(just_not.coef_ != 0)


def test_the_start_of_the_one_row_form_has_the_share_of_both_classes(solver):
    X, y = problem(2)
    run = train(
        opened(X, y),
        SerialEngine(),
        Settings(l1_ratio=0.5, solver=solver, max_iter=0),
    ).run
    n = np.bincount(y)
    assert_array_equal(run.state.theta[0], 0)
    assert_allclose(run.state.theta[1], [*np.zeros(8), np.log(n[1] / n[0])])
    assert_array_equal(run.state.gradient[0], 0)


@pytest.mark.parametrize(("K", "l1_ratio"), [(2, 0.5), (3, 1.0), (4, 0.3)])
def test_a_run_that_is_stopped_after_any_pass_and_resumed_has_the_same_bits(
    K, l1_ratio, small_sample, solver
):
    X, y = problem(K, n=600)
    source, settings = (
        opened(X, y),
        Settings(C=0.3, l1_ratio=l1_ratio, solver=solver, tol=1e-8),
    )
    runs = []
    whole = train(source, SerialEngine(), settings, watchers=[lambda record, run: runs.append(run)])
    assert whole.converged
    assert len(runs) == whole.run.n_passes > 5
    for run in runs:
        rest = train(source, SerialEngine(), settings, resume=run)
        assert rest.model.theta.tobytes() == whole.model.theta.tobytes()
        assert rest.status == whole.status


@pytest.mark.parametrize("K", [2, 3])
def test_a_warm_start_at_the_optimum_stays_there(K, solver):
    X, y = problem(K)
    model = SoftmaxRegression(C=0.3, l1_ratio=0.5, warm_start=True, solver=solver, **OURS).fit(X, y)
    before = model.coef_.copy()
    model.set_params(tol=1e-8).fit(X, y)
    assert (model.n_iter_[0], model.n_passes_) == (0, 2)
    assert_allclose(model.coef_, before, atol=1e-14)
    assert_array_equal(model.coef_ == 0, before == 0)


def test_solvers_that_need_a_gradient_say_which_do_not():
    X, y = problem(3)
    for name in SOLVERS:
        if not SOLVERS[name].l1:
            with pytest.raises(
                OptionError, match=r"l1_ratio=0.5 has none\. Pass solver='.*' or solver='.*'"
            ):
                SoftmaxRegression(l1_ratio=0.5, solver=name).fit(X, y)


@pytest.mark.parametrize("l1_ratio", [-0.1, 1.1, np.nan, "0.5", None, True])
def test_an_l1_ratio_outside_0_and_1_is_refused(l1_ratio, solver):
    with pytest.raises(
        OptionError, match=r"l1_ratio=.*; expected a number from 0 \(L2 alone\) to 1 \(L1 alone\)"
    ):
        SoftmaxRegression(l1_ratio=l1_ratio, solver=solver, **OURS).fit(*problem(2))


def literal_minimum(function, weights, theta):
    """Proximal gradient with the step 1/L = 1, until it stands still."""
    for _ in range(20_000):
        u = theta - function.answer(Query(theta)).gradient
        following = np.sign(u) * np.maximum(abs(u) - weights, 0)
        if np.array_equal(following, theta):
            break
        theta = following
    return theta


@pytest.mark.parametrize("quadratic", [True, False])
@pytest.mark.parametrize("l1", [0.02, 0.2, 10.0])
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_it_finds_the_minimum_of_a_convex_function_with_an_l1_penalty(quadratic, l1, noise, solver):
    close = 1e-7 if noise else 1e-8
    rng = np.random.default_rng(4)
    function = Convex(
        rng.normal(size=(3, 4)), np.linalg.qr(rng.normal(size=(12, 12)))[0], quadratic, noise
    )
    solver = solver_entry(solver).make(dataclasses.replace(convex_problem(), l1=l1))
    weights = np.full((3, 4), l1)
    weights[:, -1] = 0
    state = solver.start(5 * rng.normal(size=(3, 4)), None)
    for _ in range(120):
        before, query = solver.ask(state)
        state = solver.tell(before, function.answer(query))
        assert not state.stuck
        assert not state.value > before.value + 2 * noise + 1e-15
        answer = function.answer(Query(state.theta))
        assert_allclose(state.value, answer.value + np.sum(weights * abs(state.theta)), rtol=1e-15)
        assert_array_equal(state.gradient, subgradient(answer.gradient, state.theta, weights))
        if abs(state.gradient).max() < close:
            break
    assert abs(state.gradient).max() < close
    best = literal_minimum(function, weights, np.zeros((3, 4)))
    assert_allclose(state.theta, best, atol=1e-6)
    assert_array_equal(state.theta == 0, best == 0)


def test_proximal_newton_keeps_the_contract_for_any_sample():
    for seed in (1, 4):
        assert (
            check_solver(solver_entry("proximal-newton").make(convex_problem(seed=seed))) < 250
        )  # on four functions, to 1e-9


@pytest.mark.parametrize(("l1_ratio", "most"), [(0.5, 6), (1.0, 6)])
def test_digits_need_a_handful_of_passes(l1_ratio, most):
    X, y = load_digits(return_X_y=True)
    model = SoftmaxRegression(l1_ratio=l1_ratio, solver="proximal-newton", tol=1e-6).fit(X / 16, y)
    assert model.status_.startswith("Converged")
    assert model.n_passes_ <= most


@pytest.mark.data
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    DATA is None, reason="DSOFTMAX_DATA does not name a folder with banking77_tfidf"
)
def test_banking77_needs_a_handful_of_passes():
    folder = Path(str(DATA)) / "banking77_tfidf"
    X = scipy.sparse.load_npz(folder / "X_train_tfidf.npz").tocsr()
    with np.load(folder / "labels.npz") as stored:
        y = stored[next(name for name in stored.files if "train" in name)]
    model = SoftmaxRegression(l1_ratio=0.5, solver="proximal-newton", tol=1e-6).fit(X, y)
    assert model.status_.startswith("Converged")
    assert model.n_passes_ <= 6
    assert np.mean(model.coef_ == 0) > 0.9


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@pytest.mark.parametrize("C", [0.01, 0.1, 1.0])
def test_the_gap_that_a_run_reports_is_about_the_gap(rng, C, l1_ratio, solver):
    X = rng.normal(size=(2000, 10))
    source = opened(X, (X @ rng.normal(size=(10, 3)) + rng.gumbel(size=(2000, 3))).argmax(axis=1))
    settings = Settings(C=C, l1_ratio=l1_ratio, solver=solver, tol=1e-9)
    best = train(source, SerialEngine(), settings).run.state.value
    for tol in (1e-2, 1e-4):
        run = train(source, SerialEngine(), dataclasses.replace(settings, tol=tol)).run
        gap = run.state.value - best
        assert 0.1 * gap - 1e-13 <= run.gap <= 10 * gap + 1e-13
