"""F and its derivatives, against loops, scikit-learn's objective and finite differences."""

import dataclasses
import pickle

import numpy as np
import pytest
import reference
import scipy.sparse
import strategies
from collecting import collected
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss
from sklearn.linear_model._linear_loss import LinearModelLoss
from sklearn.utils import compute_class_weight

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import DataError, OptionError
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.objective.class_weights import class_weight_vector
from dsoftmax.objective.objective import Objective
from dsoftmax.objective.visit import Evaluate, Part, Question, parts_at
from dsoftmax.solvers.protocol import Query
from dsoftmax.sums.totals import Totals

DOUBLE = np.dtype("f8")


def objective_of(
    X,
    y,
    weights=None,
    C=1.0,
    class_weight=None,
    fit_intercept=True,
    gram=True,
    classes=None,
    dtype=DOUBLE,
):
    source, engine = opened(X, y, weights), SerialEngine()
    statistics = collected(engine, source, classes, "exact" if gram else "")
    return Objective(
        engine,
        source,
        statistics,
        C,
        class_weight_vector(class_weight, statistics),
        fit_intercept,
        dtype,
    )


@st.composite
def cases(draw):
    """Draw a problem with every option of the objective."""
    problem = draw(strategies.problems(dtypes=("<f8", "<f4", "i1"), min_rows=4))
    K = len(problem.theta)
    y = np.r_[np.arange(K), problem.y[K:]][: len(problem.y)]
    theta, direction = problem.theta[: y.max() + 1], problem.direction[: y.max() + 1]
    weights = None if problem.weights is None else problem.weights + 0.25
    class_weight = draw(st.sampled_from([None, "balanced", "dict"]))
    if class_weight == "dict":
        class_weight = {k: 0.5 + k for k in range(len(theta)) if k != 1}
    C, fit_intercept = draw(st.sampled_from([0.01, 1.0, 1e4, np.inf])), draw(st.booleans())
    return problem.X, y, theta, direction, weights, class_weight, C, fit_intercept


def vector(class_weight, y, weights, K):
    """Return class weights by their definition."""
    if class_weight is None:
        return None
    if class_weight == "balanced":
        mass = [
            sum(reference.weight(weights, i) for i in range(len(y)) if y[i] == k) for k in range(K)
        ]
        return [sum(mass) / (K * m) for m in mass]
    return [class_weight.get(k, 1.0) for k in range(K)]


@given(cases())
def test_F_and_its_gradient_equal_the_loops(case):
    X, y, theta, direction, weights, class_weight, C, fit_intercept = case
    objective = objective_of(X, y, weights, C, class_weight, fit_intercept)
    answer, cost = objective.answer(Query(theta, direction, hessian=True))
    c = vector(class_weight, y, weights, len(theta))
    assert_allclose(answer.value, reference.objective(theta, X, y, weights, c, C), rtol=1e-11)
    expected = reference.objective_gradient(theta, X, y, weights, c, C, fit_intercept)
    assert_allclose(answer.gradient, expected, rtol=1e-9, atol=1e-11 * (1 + abs(expected).max()))
    assert (cost.rows, cost.bytes) == (len(y), objective.source.load(0).nbytes)
    along = direction.copy()
    if not fit_intercept:
        along[:, -1] = 0  # the intercepts are fixed
        answer, _ = objective.answer(Query(theta, along, hessian=True))
    assert_allclose(
        (answer.hessian @ along.ravel()).reshape(along.shape), answer.product, rtol=1e-8, atol=1e-8
    )
    slope = reference.five_point(
        lambda t: objective.answer(Query(theta + t * along))[0].gradient, h=1e-3
    )
    scale = 1 + abs(answer.product).max()
    assert_allclose(
        answer.product,
        slope,
        rtol=1e-6,
        atol=1e-6 * scale * (200 if np.asarray(X.dtype.itemsize) == 1 else 1),
    )


@given(cases())
def test_the_start_is_the_answer_of_a_pass_at_log_priors(case):
    X, y, theta, _, weights, class_weight, C, fit_intercept = case
    objective = objective_of(X, y, weights, C, class_weight, fit_intercept)
    start, given_answer = objective.start()
    passed, _ = objective.answer(Query(start))
    scale = 1 + abs(passed.gradient).max()
    assert_allclose(given_answer.value, passed.value, rtol=1e-13)
    assert_allclose(given_answer.gradient, passed.gradient, rtol=1e-12, atol=1e-13 * scale)
    assert_allclose(given_answer.value_error, passed.value_error, rtol=1e-12)
    assert_array_equal(start[:, :-1], 0)
    if fit_intercept:
        c = vector(class_weight, y, weights, len(theta))
        s = reference.row_weights(y, weights, c)
        mass = np.array([sum(s[i] for i in range(len(y)) if y[i] == k) for k in range(len(theta))])
        assert_allclose(
            np.exp(start[:, -1]) / np.exp(start[:, -1]).sum(), mass / mass.sum(), rtol=1e-12
        )
        assert_allclose(passed.gradient[:, -1], 0, atol=1e-13)  # optimal intercepts for W = 0
    else:
        assert_array_equal(start, 0)


@given(cases(), st.booleans())
def test_the_curvature_bound_holds_everywhere(case, gram):
    X, y, theta, direction, weights, class_weight, C, fit_intercept = case
    objective = objective_of(X, y, weights, C, class_weight, fit_intercept, gram)
    for point in (0 * theta, theta, 0.1 * direction):
        H = objective.answer(Query(point, hessian=True))[0].hessian
        assert np.linalg.eigvalsh(H)[-1] <= objective.curvature_bound * (1 + 1e-12)


def test_the_curvature_bound_is_reached():
    X, y = np.array([[2.0], [2.0]]), np.array([0, 1])
    objective = objective_of(X, y, C=np.inf)
    H = objective.answer(Query(np.zeros((2, 2)), hessian=True))[0].hessian
    assert_allclose(np.linalg.eigvalsh(H)[-1], objective.curvature_bound, rtol=1e-10)


@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_F_is_the_objective_of_scikit_learn(rng, K, fit_intercept, weighted):
    n, p, C = 60, 3, 0.37
    X, y = rng.normal(size=(n, p)), np.arange(n) % K
    w = rng.random(n) + 0.1 if weighted else np.ones(n)
    theta = rng.normal(size=(K, p + 1))
    theta -= theta.mean(axis=0)
    if not fit_intercept:
        theta[:, -1] = 0
    ours = objective_of(X, y, w, C, None, fit_intercept).answer(Query(theta))[0]
    loss = HalfBinomialLoss() if K == 2 else HalfMultinomialLoss(n_classes=K)
    theirs = LinearModelLoss(base_loss=loss, fit_intercept=fit_intercept)
    used = theta if fit_intercept else theta[:, :-1]
    point = used[1] - used[0] if K == 2 else np.asfortranarray(used)
    value, gradient = theirs.loss_gradient(point, X, y.astype(float), w, 1 / (C * w.sum()), 1)
    assert_allclose(ours.value, value, rtol=1e-12)
    expected = np.array([-gradient, gradient]) if K == 2 else gradient
    assert_allclose(ours.gradient[:, : used.shape[1]], expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("K", [2, 3])
def test_two_classes_are_half_of_C_by_the_one_row_formula(rng, K):
    """F of one row w: mean log(1 + exp(−±wᵀx)) + ‖w‖²/(2Cn), a formula without a softmax."""
    n, C = 40, 0.2
    X, y = rng.normal(size=(n, 2)), np.arange(n) % 2
    w = rng.normal(size=3)
    theta = np.array([-w / 2, w / 2])
    sign = 2 * y - 1
    expected = np.mean(np.logaddexp(0, -sign * (X @ w[:2] + w[2]))) + w[:2] @ w[:2] / (2 * C * n)
    found = objective_of(X, y, None, C).answer(Query(theta))[0].value
    assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(("K", "l1_ratio"), [(2, 0.4), (2, 1.0), (3, 0.4), (3, 1.0)])
def test_answers_and_the_l1_part_add_up_to_the_elastic_net(rng, K, l1_ratio):
    X, y, w, C = rng.normal(size=(30, 3)), np.arange(30) % K, rng.random(30) + 0.1, 0.3
    objective = dataclasses.replace(objective_of(X, y, w, C), l1_ratio=l1_ratio)
    theta, direction = rng.normal(size=(K, 4)), rng.normal(size=(K, 4))
    if K == 2:
        theta[0] = direction[0] = 0  # the one-row form
    problem, (answer, _) = (
        objective.problem(),
        objective.answer(Query(theta, direction, hessian=True)),
    )
    found = answer.value + problem.l1 * np.sum(abs(theta[:, :-1]))
    S = w.sum()
    assert_allclose(
        found,
        reference.value(theta, X, y, w) / S + reference.elastic_net(theta, C, l1_ratio, S),
        rtol=1e-12,
    )
    for part in np.ndindex(K, 4):
        step = np.zeros((K, 4))
        step[part] = 1
        slope = reference.five_point(
            lambda t, step=step: objective.answer(Query(theta + t * step))[0].value
        )
        assert_allclose(answer.gradient[part], slope if problem.free[part] else 0, atol=1e-9)
    assert_array_equal(problem.free, (np.arange(K) >= (K == 2))[:, None] & np.ones((K, 4), bool))
    assert_allclose((answer.hessian @ direction.ravel()).reshape(K, 4), answer.product, atol=1e-12)
    bend = reference.five_point(
        lambda t: objective.answer(Query(theta + t * direction))[0].gradient
    )
    assert_allclose(answer.product, bend, atol=1e-8)
    assert np.linalg.eigvalsh(answer.hessian)[-1] <= objective.curvature_bound
    start, known = objective.start()
    passed, _ = objective.answer(Query(start))
    assert_allclose(known.value, passed.value, rtol=1e-13)
    assert_allclose(known.gradient, passed.gradient, atol=1e-14)
    if K == 2:
        assert_array_equal(start[0], 0)
        assert_array_equal(
            objective.point(np.array([[1.0, 2, 3, 4], [1, 3, 5, 7]])),
            [[0, 0, 0, 0], [0, 1, 2, 3]],
        )


def test_a_given_class_without_rows_starts_finite_and_is_pushed_away(rng):
    X, y = rng.normal(size=(20, 2)), np.arange(20) % 2
    objective = objective_of(X, y, classes=np.array([0, 1, 2]))
    theta, answer = objective.start()
    assert np.isfinite(theta).all()
    assert theta[2, -1] < theta[0, -1]
    assert answer.gradient[2, -1] > 0
    passed, _ = objective.answer(Query(theta))
    assert_allclose(answer.gradient, passed.gradient, atol=1e-14)


def test_value_error_bounds_the_rounding_of_F(rng):
    """The float32 products of F and those of float64 differ by less than value_error."""
    X = rng.normal(size=(4000, 6)).astype("f4")
    y = rng.integers(0, 3, 4000)
    single, double = objective_of(X, y, dtype=np.dtype("f4")), objective_of(X, y)
    for _ in range(20):
        theta = rng.normal(size=(3, 7)).astype("f4").astype(float)
        one, two = single.answer(Query(theta))[0], double.answer(Query(theta))[0]
        assert abs(one.value - two.value) <= one.value_error
        assert two.value_error < 1e-13
    assert single.in_double().dtype == np.float64


def test_class_weights_are_scikit_learns(rng):
    y = rng.choice(["a", "b", "c"], 50, p=[0.6, 0.3, 0.1])
    statistics = objective_of(rng.normal(size=(50, 1)), y).statistics
    theirs = compute_class_weight("balanced", classes=np.unique(y), y=y)
    assert_allclose(class_weight_vector("balanced", statistics), theirs)
    theirs = compute_class_weight({"b": 3.0}, classes=np.unique(y), y=y)
    assert_allclose(class_weight_vector({"b": 3.0}, statistics), theirs)
    assert class_weight_vector(None, statistics) is None


def test_balanced_weights_use_the_weighted_counts(rng):
    y, w = np.array([0, 0, 1, 1, 1]), np.array([1.0, 2.0, 0.5, 0.5, 4.0])
    statistics = objective_of(rng.normal(size=(5, 1)), y, w).statistics
    theirs = compute_class_weight("balanced", classes=np.array([0, 1]), y=y, sample_weight=w)
    assert_allclose(class_weight_vector("balanced", statistics), theirs)
    assert_allclose(theirs, [8 / (2 * 3), 8 / (2 * 5)])


@pytest.mark.parametrize(
    ("class_weight", "kind", "message"),
    [
        ("balance", OptionError, "class_weight='balance' is unknown; expected 'balanced'"),
        ([1, 2], OptionError, "expected 'balanced', a dict"),
        ({7: 1.0}, DataError, r"names 7, which is not among the 2 classes \[0 1\]"),
        ({0: -1.0}, DataError, "at least 0"),
        ({0: np.nan}, DataError, "finite"),
        ({0: 0.0, 1: 0.0}, DataError, "not all of them 0"),
    ],
)
def test_invalid_class_weights_are_refused(rng, class_weight, kind, message):
    statistics = objective_of(rng.normal(size=(4, 1)), [0, 1, 0, 1]).statistics
    with pytest.raises(kind, match=message):
        class_weight_vector(class_weight, statistics)


def test_queries_that_share_a_pass_get_their_own_answers(rng):
    X, y = rng.normal(size=(30, 2)), np.arange(30) % 3
    block = opened(X, y).load(0)
    encoder = Encoder(np.arange(3))
    queries = [Query(rng.normal(size=(3, 3)), rng.normal(size=(3, 3))) for _ in range(3)]
    together = Evaluate(tuple(Question(query, None, DOUBLE) for query in queries), encoder)(block)
    for i, query in enumerate(queries):
        alone = Evaluate((Question(query, None, DOUBLE),), encoder)(block)
        for quantity in ("value", "gradient", "product"):
            assert_array_equal(together[Part(quantity, i)], alone[Part(quantity)])


def test_sparse_and_dense_have_the_same_F(rng):
    X, y = rng.normal(size=(50, 6)) * (rng.random((50, 6)) < 0.3), np.arange(50) % 3
    theta = rng.normal(size=(3, 7))
    dense, sparse = (
        objective_of(stored, y).answer(Query(theta))[0] for stored in (X, scipy.sparse.csr_array(X))
    )
    assert_allclose(sparse.value, dense.value, rtol=1e-13)
    assert_allclose(sparse.gradient, dense.gradient, rtol=1e-10, atol=1e-13)


def test_sums_by_part_survive_the_way_from_a_worker(rng):
    X, y = rng.normal(size=(30, 2)), np.arange(30) % 3
    thetas = rng.normal(size=(2, 3, 3))
    question = Question(Query(thetas[0], trials=thetas[1:]), None, DOUBLE)
    totals = Totals()
    totals.add(Evaluate((question, question), Encoder(np.arange(3)))(opened(X, y).load(0)))
    sums = pickle.loads(pickle.dumps(totals)).merge(totals).result()
    for i in range(2):
        for j, theta in enumerate(thetas):
            found = parts_at(sums, i, j)
            assert set(found) == {"value", "gradient"}
            assert_allclose(found["value"], 2 * reference.value(theta, X, y), rtol=1e-12)
            assert_allclose(found["gradient"], 2 * reference.gradient(theta, X, y), atol=1e-11)
