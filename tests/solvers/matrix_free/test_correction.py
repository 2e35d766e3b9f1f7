"""The correction of the curvature, against dense matrices."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dsoftmax.solvers.matrix_free.correction import positive_correction

SHAPE = (2, 3)


def dense(correction):
    return correction.vectors.T @ correction.vectors


def pairs(rng, C, n):
    steps = rng.normal(size=(n, 6))
    return steps.reshape(n, *SHAPE), (steps @ C).reshape(n, *SHAPE)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_a_positive_lack_is_found_along_the_steps(rng, n):
    half = rng.normal(size=(6, 6))
    C = half @ half.T
    steps, lacks = pairs(rng, C, n)
    found = positive_correction(steps, lacks, rng.uniform(0.1, 10, SHAPE))
    for step, lack in zip(steps, lacks, strict=True):
        assert_allclose(found.product(step), lack, rtol=1e-6, atol=1e-8)
    assert_allclose(dense(found) @ steps[0].ravel(), found.product(steps[0]).ravel(), rtol=1e-10)


def test_the_negative_part_in_the_metric_is_left_out(rng):
    root, turn = rng.uniform(0.5, 2, 6), np.linalg.qr(rng.normal(size=(6, 6)))[0]
    sizes = np.array([3, 2, 1, -1, -2, -3.0])
    C = root[:, None] * (turn * sizes) @ turn.T * root
    expected = root[:, None] * (turn * np.maximum(sizes, 0)) @ turn.T * root
    found = positive_correction(*pairs(rng, C, 6), (root**2).reshape(SHAPE))
    assert_allclose(dense(found), expected, rtol=1e-6, atol=1e-7)


def test_no_pairs_and_useless_pairs_correct_nothing(rng):
    metric = np.ones(SHAPE)
    nothing = np.zeros((0, *SHAPE))
    assert len(positive_correction(nothing, nothing, metric).vectors) == 0
    steps = rng.normal(size=(2, *SHAPE))
    found = positive_correction(steps, -steps, metric)
    assert_allclose(found.product(steps[0]), 0, atol=1e-12)
