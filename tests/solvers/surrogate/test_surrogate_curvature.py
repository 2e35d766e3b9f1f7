"""The curvature of a surrogate is bounded by that of the sample, for features of any scale."""

import numpy as np
from numpy.testing import assert_allclose

from dsoftmax.solvers.surrogate.curvature import MOST_TAKEN, Gauge


def test_no_more_curvature_is_taken_than_the_sample_has(rng):
    """The smallest curvatures lie far below the rounding of the largest."""
    shape = (3, 5)
    size = np.tile(10.0 ** np.array([-4, -2, 0, 3, 0]), 3)
    half = rng.normal(size=(15, 15)) * size[:, None]
    H = half @ half.T
    gauge = Gauge(np.ones(shape, bool), np.ones(shape))
    for least in (-0.5, -3.0):
        values = np.array([least, -0.2, *rng.uniform(0, 3, 13)])
        C, share = gauge.bounded((half * values) @ half.T, H)
        inner = np.linalg.solve(half, np.linalg.solve(half, C).T)
        kept = np.maximum(values, -MOST_TAKEN)
        assert_allclose(np.linalg.eigvalsh(inner), np.sort(kept), atol=1e-5)
        assert_allclose(share, 1 + kept.min(), atol=1e-5)


def test_curvature_of_a_feature_that_the_sample_lacks_is_added_whole():
    shape = (2, 3)
    H, C = np.diag([1.0, 0, 1, 1, 0, 1]), np.diag([0.5, 3, 0, 0, 3, -0.25])
    found, share = Gauge(np.ones(shape, bool), np.zeros(shape)).bounded(C, H)
    assert_allclose(found, C, atol=1e-8)
    assert_allclose(share, 0.75, atol=1e-2)  # the pinned shifts add a little to H
