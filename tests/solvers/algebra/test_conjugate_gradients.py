"""Conjugate gradients solve, stop at flat directions, and stay inside the entries that move."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.solvers.algebra.conjugate_gradients import conjugate_gradients, conjugate_steps


def test_conjugate_gradients_solve(rng):
    A = rng.normal(size=(8, 8))
    A = A @ A.T + np.eye(8)
    right = rng.normal(size=(2, 4))
    found, n_products = conjugate_gradients(
        lambda V: (A @ V.ravel()).reshape(2, 4), right, np.copy, 1e-10, 50
    )
    assert_allclose(found.ravel(), np.linalg.solve(A, right.ravel()), rtol=1e-7)
    assert n_products <= 10


def test_conjugate_gradients_end_along_a_direction_that_is_flat_to_rounding():
    A = np.diag([1.0, 1e-300])
    found, n_products = conjugate_gradients(lambda V: A @ V, np.array([1.0, 1.0]), np.copy)
    assert np.isfinite(found).all()
    assert n_products <= 2


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_more_products_are_made_than_allowed(rng, most):
    A, made = np.diag(np.arange(1.0, 9.0)), []

    def product(V):
        made.append(1)
        return A @ V

    steps = list(conjugate_steps(product, rng.normal(size=8), np.copy, most=most))
    assert len(steps) == len(made) == most


def test_the_steps_solve_for_the_entries_inside_alone(rng):
    A = rng.normal(size=(6, 6))
    A = A @ A.T + np.eye(6)
    inside = np.array([True, False, True, True, False, True])
    right = np.where(inside, rng.normal(size=6), 0.0)
    x, along = np.zeros(6), np.zeros(6)
    for step in conjugate_steps(
        lambda V: A @ V,
        right,
        lambda r: np.where(inside, r, 0.0),
        most=50,
        goal=1e-24,
        inside=inside,
    ):
        x, along = x + step.length * step.direction, along + step.length * step.along
    expected = np.linalg.solve(A[np.ix_(inside, inside)], right[inside])
    assert_allclose(x[inside], expected, rtol=1e-8)
    assert_array_equal(x[~inside], 0)
    assert_allclose(along, A @ x, rtol=1e-8)  # outside too: it is the change of the gradient


def test_a_direction_without_curvature_is_a_step_of_length_zero():
    (step,) = conjugate_steps(lambda V: 0 * V, np.ones(3), np.copy, most=5)
    assert step.length == 0
    assert_array_equal(step.direction, np.ones(3))
