"""Margins along a direction, against loops over rows and classes."""

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.objective import margins
from dsoftmax.objective.margins import largest_margins, separates


def by_loops(D, X, y, weights):
    K = len(D)
    found = np.full((K, K + 1), -np.inf)
    for x, own, weight in zip(X, y, weights, strict=True):
        if weight == 0:
            continue
        z = D[:, :-1] @ x + D[:, -1]
        for k in range(K):
            if k != own:
                found[own, k] = max(found[own, k], z[own] - z[k])
                found[own, K] = max(found[own, K], z[k] - z[own])
    return found


@pytest.fixture
def case(rng):
    n, p, K = 400, 5, 4
    X = rng.normal(size=(n, p)) * (rng.random((n, p)) < 0.5)
    y = rng.integers(0, K - 1, n)  # one class has no rows
    return rng.normal(size=(K, p + 1)), X, y, rng.integers(0, 3, n).astype(float)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("rows", [2**18, 40])
def test_the_largest_margins_are_those_of_loops(case, kind, rows, monkeypatch):
    monkeypatch.setattr(margins, "MARGIN_VALUES", rows)
    D, X, y, weights = case
    assert_allclose(largest_margins(D, kind(X), y, weights), by_loops(D, X, y, weights))
    assert_allclose(largest_margins(D, kind(X), y, None), by_loops(D, X, y, np.ones(len(y))))


def test_the_margins_of_two_sets_of_rows_are_those_of_their_union(case):
    D, X, y, weights = case
    one, other = (largest_margins(D, X[s], y[s], weights[s]) for s in (slice(90), slice(90, None)))
    assert_array_equal(np.maximum(one, other), largest_margins(D, X, y, weights))


def test_no_rows_have_no_margins(case):
    D, X, y, _ = case
    assert (largest_margins(D, X[:0], y[:0], None) == -np.inf).all()


def test_margins_within_rounding_are_zero():
    """A standardised dummy column has two values, and a plane through one of them has margin 0."""
    low, high = -0.123456789, 8.1
    D = np.array([[0.0, 0.0], [1.0, -low]]) + 0.3
    found = largest_margins(D, np.array([[low], [high]]), np.array([0, 1]), None)
    assert (found[0, 1], found[0, 2]) == (0, 0)
    assert found[1, 0] == -found[1, 2] == pytest.approx(high - low)


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(0.0, 1.0, True), (0.5, 1.0, True), (0.0, 0.0, False), (-1e-9, 1.0, False)],
)
def test_a_direction_separates_if_no_margin_is_negative_and_one_is_positive(least, most, expected):
    found = np.array([[-np.inf, most, -least], [least, -np.inf, -least]])
    assert separates(found) == expected
