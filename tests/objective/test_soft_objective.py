"""F and its derivatives with soft labels, against the loops of the definition."""

import numpy as np
import pytest
import reference
import scipy.sparse
from allocated import measured, said
from collecting import collected
from numpy.testing import assert_allclose
from opening import opened

from dsoftmax.data.block import Block
from dsoftmax.data.soft import soft_labels
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.first_pass.held_out import folds
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.first_pass.sample import Draw
from dsoftmax.first_pass.visit import Collect
from dsoftmax.solvers.protocol import Query
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.settings import Settings

K, N, C = 3, 60, 0.5


def soft(function, theta, X, P, weights):
    """The sum over classes of a function of hard labels, with the weights w times P."""
    parts = [function(theta, X, np.full(N, k), weights * P[:, k]) for k in range(K)]
    return np.sum(parts, axis=0)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_answers_are_those_of_the_definition(rng, sparse, top, kernel):
    X, P, weights = rng.normal(2, 1, (N, 2)), rng.dirichlet(np.ones(K), N), rng.uniform(0, 2, N)
    if top:  # rows with one, two or three classes
        P = np.where(P < rng.uniform(0, 0.5, (N, 1)), 0, P) + 1e-9 * (P == P.max(1, keepdims=True))
        P /= P.sum(axis=1, keepdims=True)
    y = soft_labels(scipy.sparse.csr_array(P) if top else P, np.arange(K), "y")
    engine = SerialEngine()
    source = opened(scipy.sparse.csr_array(X) if sparse else X, y, weights)
    statistics = collected(engine, source, np.arange(K), "", Draw(1.0, 0))
    objective = make_objective(source, engine, Settings(C=C), statistics, True, kernel)
    S, moved = weights.sum(), objective.centred()
    assert objective.total_weight == pytest.approx(S)
    start, at_start = objective.start()
    mass = weights @ P
    assert_allclose(start[:, -1] - start[0, -1], np.log(mass / mass[0]), atol=1e-12)
    trial = rng.normal(size=(2, K, 3))
    for theta, answer in (
        (start, at_start),
        (trial[0], objective.answer(Query(trial[0]))[0]),
        (trial[1], objective.answer(Query(trial[0], trials=trial[1:]))[0].trials[0]),
    ):
        value = soft(reference.value, theta, X, P, weights) / S + np.sum(theta[:, :-1] ** 2) / (
            2 * C * S
        )
        gradient = soft(reference.gradient, theta, X, P, weights) / S
        gradient[:, :-1] += theta[:, :-1] / (C * S)
        assert_allclose(answer.value, value, rtol=1e-12)
        assert_allclose(answer.gradient, gradient, atol=1e-12)
        for one, point in ((objective, theta), (moved, moved.coordinates.centred(theta))):
            local = one.problem().local
            for found in (local.value_and_gradient(point), local.on_threads(point, False)):
                assert_allclose(found[0], value, rtol=1e-12)
                expected = one.coordinates.gradient(gradient)
                if one is moved:  # the penalty is no function of the shift
                    expected[:, :-1] = one.answer(Query(point))[0].gradient[:, :-1]
                assert_allclose(found[1], expected, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("p", "n_classes"), [(40, 3), (4, 200)])
def test_the_first_pass_allocates_no_more_than_it_says(rng, sparse, p, n_classes):
    n = 8192
    X = rng.normal(size=(n, p)).astype(np.float32)
    X = scipy.sparse.csr_array(X * (X > 0)) if sparse else X
    P = rng.dirichlet(np.ones(n_classes), n)
    y = soft_labels(P, np.arange(n_classes), "y")
    visit = Collect(0.0, Encoder(np.arange(n_classes)), held_out=folds(2), soft=True)
    block = Block(X, y, np.ones(n))
    assert measured(visit, block) <= said(visit, block)[1]
