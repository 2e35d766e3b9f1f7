"""The subgradient and the best shift of an L1 penalty, against fine grids."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.solvers.algebra.l1 import shift, subgradient


def test_the_subgradient_is_the_shortest():
    rng = np.random.default_rng(0)
    g, x, w = (
        rng.normal(size=(3, 4)),
        rng.normal(size=(3, 4)) * (rng.random((3, 4)) < 0.5),
        rng.uniform(0, 2, (3, 4)),
    )
    slopes = np.linspace(-1, 1, 2001)
    for place in np.ndindex(3, 4):
        all_of_them = g[place] + w[place] * (slopes if x[place] == 0 else np.sign(x[place]))
        shortest = np.atleast_1d(all_of_them)[np.argmin(abs(np.atleast_1d(all_of_them)))]
        assert abs(subgradient(g, x, w)[place] - shortest) <= 1e-3 * w[place]


@pytest.mark.parametrize("K", [3, 4, 7])
@pytest.mark.parametrize(("penalty", "l1"), [(0.0, 0.5), (0.3, 0.5), (2.0, 0.1)])
def test_the_shift_is_the_best_of_a_fine_grid(K, penalty, l1):
    theta = np.random.default_rng(K).normal(size=(K, 3))
    found = shift(theta, penalty, l1)
    assert_array_equal(found[:, -1], theta[:, -1])
    for j in range(2):
        grid = [theta[:, j] - c for c in np.linspace(-3, 3, 6001)]
        best = min(penalty / 2 * np.sum(w**2) + l1 * np.sum(abs(w)) for w in grid)
        w = found[:, j]
        assert penalty / 2 * np.sum(w**2) + l1 * np.sum(abs(w)) <= best + 1e-12
        assert np.ptp(theta[:, j] - w) < 1e-15
    assert_allclose(shift(found, penalty, l1), found, atol=1e-15)
    if penalty == 0 and K % 2:
        assert np.all(np.any(found[:, :-1] == 0, axis=0))
