"""Centred coordinates: the same F, and the derivatives that rows minus their means would have."""

import numpy as np
import pytest
import reference
import scipy.sparse
from collecting import collected
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.first_pass.sample import Draw
from dsoftmax.objective.coordinates import RAW, Coordinates
from dsoftmax.solvers.protocol import Query
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.settings import Settings


@pytest.fixture
def shift(rng):
    return rng.normal(size=3) * [1, 10, 100]


def test_a_point_and_its_theta_have_the_same_logits(rng, shift):
    X, theta = rng.normal(size=(20, 3)) + shift, rng.normal(size=(2, 4))
    point = Coordinates(shift).centred(theta)
    assert_allclose(
        (X - shift) @ point[:, :-1].T + point[:, -1], X @ theta[:, :-1].T + theta[:, -1]
    )
    assert_allclose(Coordinates(shift).raw(point), theta, rtol=1e-12)
    assert_allclose(Coordinates(shift).raw(np.stack([point, point]))[1], theta, rtol=1e-12)


def test_second_moments_are_those_of_centred_rows(rng, shift):
    X = rng.normal(size=(50, 3)) + shift
    raw, centred = (np.column_stack([rows, np.ones(50)]) for rows in (X, X - shift))
    found = Coordinates(shift).gram(raw.T @ raw)
    assert_allclose(found, centred.T @ centred, atol=1e-9)
    diagonal = Coordinates(shift).gram(np.diag(raw.T @ raw).copy())
    # The diagonal alone knows nothing of the mean: it is right if the shift is the mean.
    mean = Coordinates(X.mean(axis=0))
    assert_allclose(
        mean.gram(np.diag(raw.T @ raw).copy())[:-1], ((X - X.mean(axis=0)) ** 2).sum(axis=0)
    )
    assert (diagonal > 0).all()


def test_gradients_come_back_by_theta(rng, shift):
    raw = rng.normal(size=(2, 4))
    coordinates = Coordinates(shift)
    assert_allclose(coordinates.raw_gradient(coordinates.gradient(raw)), raw, rtol=1e-12)
    for same in (RAW.raw, RAW.centred, RAW.gradient, RAW.raw_gradient):
        assert same(raw) is raw


@pytest.mark.parametrize("sparse", [False, True])
def test_answers_are_those_of_centred_rows(rng, sparse):
    X, y = rng.normal([5.0, -3.0, 0.0], size=(80, 3)), rng.integers(0, 3, 80)
    engine, point = SerialEngine(), rng.normal(size=(3, 4))
    source = opened(scipy.sparse.csr_array(X) if sparse else X, y)
    statistics = collected(engine, source, None, "" if sparse else "exact")
    objective = make_objective(source, engine, Settings(C=0.5), statistics, True, "numpy").centred()
    found, _ = objective.answer(Query(point, point[::-1], hessian=True, trials=point[None] / 2))
    centred = X - X.mean(axis=0)
    for answer, at in ((found, point), (found.trials[0], point / 2)):
        expected = np.asarray(reference.gradient(at, centred, y)) / 80
        expected[:, :-1] += at[:, :-1] / (0.5 * 80)
        assert_allclose(answer.gradient, expected, atol=1e-12)
    step, H = 1e-6 * point[::-1], found.hessian
    there, _ = objective.answer(Query(point + step))
    assert_allclose(there.gradient - found.gradient, (H @ step.ravel()).reshape(3, 4), atol=1e-10)
    assert_allclose(found.product, (H @ point[::-1].ravel()).reshape(3, 4), atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_answers_are_those_of_standardised_rows(rng, sparse):
    X, y = rng.normal([5.0, -3.0, 0.0], [0.1, 10.0, 1.0], size=(80, 3)), rng.integers(0, 3, 80)
    engine, point = SerialEngine(), rng.normal(size=(3, 4))
    source = opened(scipy.sparse.csr_array(X) if sparse else X, y)
    draw = Draw(1.0, 0)
    statistics = collected(engine, source, None, "" if sparse else "exact", draw, scaled=True)
    objective = make_objective(source, engine, Settings(C=0.5), statistics, True, "numpy").centred()
    found, _ = objective.answer(Query(point, point[::-1], hessian=True))
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    assert_allclose(found.value, reference.objective(point, Z, y, C=0.5), rtol=1e-12)
    assert_allclose(found.gradient, reference.objective_gradient(point, Z, y, C=0.5), atol=1e-12)
    H = reference.hessian(point, Z) / 80
    H[np.diag_indices(12)] += np.tile([1, 1, 1, 0], 3) / (0.5 * 80)
    assert_allclose(found.hessian, H, atol=1e-12)
    assert_allclose(found.product, (H @ point[::-1].ravel()).reshape(3, 4), atol=1e-12)
    problem, local = objective.problem(), objective.problem().local
    moments = np.column_stack([Z, np.ones(80)])
    gram = moments.T @ moments / 80
    assert_allclose(problem.gram, np.diag(gram) if sparse else gram, atol=1e-12)
    assert_allclose(local.gram(), gram, atol=1e-12)
    for value, gradient in (local.value_and_gradient(point), local.on_threads(point, False)):
        assert_allclose(value, found.value, rtol=1e-12)
        assert_allclose(gradient, found.gradient, atol=1e-12)
    assert_allclose(local.hessian(point), H, atol=1e-12)
    assert_allclose(local.products(point)(point[::-1]), found.product, atol=1e-12)
    assert_allclose(local.columns(np.arange(4)), moments, atol=1e-12)
    largest = np.linalg.eigvalsh(gram)[-1] / 2 + 1 / (0.5 * 80)
    assert objective.curvature_bound >= largest * (1 - 1e-9)
    assert objective.curvature_bound <= 4 * largest


def test_without_intercepts_nothing_is_centred(rng):
    X, y = rng.normal(size=(30, 2)) + 5, rng.integers(0, 2, 30)
    source, engine = opened(X, y), SerialEngine()
    statistics = collected(engine, source, None, "exact")
    settings = Settings(fit_intercept=False)
    objective = make_objective(source, engine, settings, statistics, True, "numpy")
    assert objective.centred() is objective
    assert_array_equal(objective.coordinates.shift, np.zeros(0))
