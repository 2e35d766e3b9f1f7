"""L-BFGS on some entries, against the dense BFGS update of the same entries."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.solvers.matrix_free.face_pairs import FacePairs

SHAPE = (3, 4)


def halved(right, inside):
    return np.where(inside, 0.5 * right, 0.0)


def pairs_of_a_quadratic(rng, n):
    """Pairs with y = B·s, and all entries."""
    half = rng.normal(size=(12, 12))
    B = half @ half.T + np.eye(12)
    pairs = FacePairs()
    pairs.cover(np.ones(SHAPE, bool))
    for _ in range(n):
        s = rng.normal(size=12)
        pairs.add(s.reshape(SHAPE), (B @ s).reshape(SHAPE), 5)
    return pairs


def dense_bfgs(pairs, places):
    """H by Nocedal and Wright 2006, eq. 6.17, from γ·½·I."""
    steps, changes = ([v[places] for v in one] for one in (pairs.steps, pairs.changes))
    bends = [s @ y for s, y in zip(steps, changes, strict=True)]
    used = [i for i, bend in enumerate(bends) if bend > 0]
    y = changes[used[-1]]
    H = np.eye(len(places)) * bends[used[-1]] / (y @ y)
    for i in used:
        V = np.eye(len(places)) - np.outer(steps[i], changes[i]) / bends[i]
        H = V @ H @ V.T + np.outer(steps[i], steps[i]) / bends[i]
    return H


@pytest.mark.parametrize("n", [1, 3, 7])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_product_is_that_of_dense_updates_on_the_moving_entries(rng, n, share):
    pairs = pairs_of_a_quadratic(rng, n)
    assert len(pairs) == min(n, 5)
    inside, right = rng.random(SHAPE) < share, rng.normal(size=SHAPE)
    places = np.flatnonzero(inside)
    expected = np.zeros(12)
    expected[places] = dense_bfgs(pairs, places) @ right.ravel()[places]
    found = pairs.inverse_product(right, inside, halved)
    assert_allclose(found.ravel(), expected, rtol=1e-8, atol=1e-10)


def test_more_entries_keep_what_is_known():
    pairs = FacePairs()
    inside = np.zeros(SHAPE, bool)
    inside[1, 2] = inside[2, 0] = True
    pairs.cover(inside)
    pairs.add(np.where(inside, 2.0, 0.0), np.where(inside, 3.0, 7.0), 5)
    more = inside.copy()
    more[0, 1] = True
    pairs.cover(more)
    assert_array_equal(pairs.entries, [1, 6, 8])
    assert_array_equal(pairs.steps[0], [0, 2, 2])
    assert_array_equal(pairs.changes[0], [0, 3, 3])
    pairs.cover(inside)
    assert_array_equal(pairs.entries, [1, 6, 8])


def test_without_pairs_the_product_is_the_first_matrix(rng):
    inside, right = rng.random(SHAPE) < 0.5, rng.normal(size=SHAPE)
    pairs = FacePairs()
    pairs.cover(inside)
    assert_array_equal(pairs.inverse_product(right, inside, halved), halved(right, inside))
