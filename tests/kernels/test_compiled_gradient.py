"""The compiled value and gradient of dense rows, against loops, differences and NumPy."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
import scipy.sparse
import strategies
from compiled_cases import NARROW, NEEDS_NUMBA, PRODUCTS, WIDE, assert_exact, dense
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.kernels.compiled import fused, shapes
from dsoftmax.kernels.tiles import compute_dtype

pytestmark = NEEDS_NUMBA

SHAPES = [(1, 2), (3, 2), NARROW, (63, 13), (64, 2), WIDE, (130, 9), (200, 63), PRODUCTS, (5, 1500)]


def test_the_shapes_here_take_every_way():
    assert {shapes.way(p, K, False) for p, K in SHAPES} == {"narrow", "wide", "products"}
    assert shapes.way(*NARROW, False) == "narrow"
    assert shapes.way(*WIDE, False) == "wide"
    assert shapes.way(*PRODUCTS, False) == "products"
    assert shapes.way(*WIDE, True) == "sparse"
    assert shapes.way(20_000, 75, True) == "panels"


@settings(deadline=None)
@given(strategies.problems(), st.sampled_from([None, "f8"]))
def test_value_and_gradient_equal_the_loops(problem, dtype):
    J, G = fused.value_and_gradient(
        problem.theta, problem.X, problem.y, problem.weights, dtype and np.dtype(dtype)
    )
    single = dtype is None and compute_dtype(problem.X.dtype) == np.float32
    rows = reference.rows_of(problem.X)
    atol = (2e-6 if single else 1e-14) * (1 + sum(1 + sum(abs(v) for v in x) for x in rows) * 3)
    assert_allclose(
        J, reference.value(problem.theta, problem.X, problem.y, problem.weights), atol=atol, rtol=0
    )
    assert_allclose(
        G,
        reference.gradient(problem.theta, problem.X, problem.y, problem.weights),
        atol=atol,
        rtol=0,
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("p", "K"), SHAPES)
@pytest.mark.parametrize("n", [0, 1, 15, 16, 5000])
def test_shapes_and_tails(rng, n, p, K, dtype):
    theta, X, y, w = dense(rng, n if p * K < 5000 else min(n, 600), p, K, dtype)
    assert_exact(theta, X, y, w)
    assert_exact(theta, X, y, None)


@pytest.mark.parametrize(
    "stored",
    [
        "bool",
        "i1",
        "u1",
        "<i2",
        "<u2",
        ">u2",
        "<i4",
        "<u4",
        "<i8",
        "<u8",
        ">i8",
        "<f2",
        "<f4",
        ">f4",
        "<f8",
    ],
)
@pytest.mark.parametrize(("p", "K"), [NARROW, WIDE, PRODUCTS])
def test_every_stored_dtype(rng, stored, p, K):
    theta, X, y, w = dense(rng, 333, p, K, stored)
    assert_exact(theta, X, y, w)


@pytest.mark.parametrize("products", ["f4", "f8"])
@pytest.mark.parametrize("stored", ["i2", "f4", "f8", "i8"])
def test_products_run_in_the_requested_dtype(rng, stored, products):
    for p, K in (NARROW, WIDE):
        theta, X, y, w = dense(rng, 100, p, K, stored)
        if stored == "f8" and products == "f4":
            X = X.astype("f4").astype("f8")  # so that rounding to float32 loses nothing
        assert_exact(theta, X, y, w, products)


@pytest.mark.parametrize("kind", [*strategies.DENSE, "one row", "unaligned"])
@pytest.mark.parametrize(("p", "K"), [NARROW, WIDE, PRODUCTS])
def test_no_layout_changes_a_bit(rng, kind, p, K):
    theta, X, y, w = dense(rng, 700, p, K, "i2")
    if kind == "one row":
        X = np.repeat(X[:1], 700, axis=0)
        moved = np.broadcast_to(X[0], X.shape)
    elif kind == "unaligned":
        buffer = np.zeros(X.nbytes + 1, np.uint8)
        moved = buffer[1:].view(np.int16).reshape(X.shape)
        moved[:] = X
    else:
        moved = strategies.layout(X, kind)
    J, G = fused.value_and_gradient(theta, X, y, w)
    again = fused.value_and_gradient(theta, moved, y, w)
    assert again[0] == J
    assert_array_equal(again[1], G)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("p", [1, 70])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite_and_correct(size, p, sparse):
    X, y = np.zeros((3, p)), np.array([0, 1, 2])
    X[:, 0] = 1, 1, -1
    theta = np.zeros((3, p + 1))
    theta[:, 0] = size, 0, -size
    theta[1, -1] = 1
    J, G = fused.value_and_gradient(theta, scipy.sparse.csr_array(X) if sparse else X, y)
    assert_allclose(J, reference.value(theta, X, y), rtol=1e-14)
    assert_allclose(G, reference.gradient(theta, X, y), atol=1e-13)


@pytest.mark.parametrize("sparse", [False, True])
def test_one_minus_P_is_precise_for_rows_that_are_fitted_well(sparse):
    X, y, theta = np.array([[1.0]]), np.array([0]), np.array([[30.0, 0.0], [-30.0, 0.0]])
    J, G = fused.value_and_gradient(theta, scipy.sparse.csr_array(X) if sparse else X, y)
    one_minus = math.exp(-60) / (1 + math.exp(-60))
    assert_allclose(G[:, 0], [-one_minus, one_minus], rtol=1e-14)
    assert_allclose(J, math.log1p(math.exp(-60)), rtol=1e-14)


@settings(deadline=None)
@given(strategies.problems(dtypes=("<f8",), min_rows=1))
def test_gradient_is_the_derivative_of_the_value(problem):
    _, G = fused.value_and_gradient(problem.theta, problem.X, problem.y, problem.weights)
    slope = reference.five_point(
        lambda t: fused.value_and_gradient(
            problem.theta + t * problem.direction, problem.X, problem.y, problem.weights
        )[0]
    )
    assert_allclose(np.sum(G * problem.direction), slope, rtol=1e-8, atol=1e-8)


@settings(deadline=None)
@given(strategies.problems(min_rows=1))
def test_no_argument_is_changed(problem):
    theta, X, y = problem.theta.copy(), reference.rows_of(problem.X), problem.y.copy()
    fused.value_and_gradient(problem.theta, problem.X, problem.y, problem.weights)
    assert_array_equal(problem.theta, theta)
    assert_array_equal(problem.y, y)
    assert reference.rows_of(problem.X) == X


def test_threads_give_the_bits_of_one(rng):
    theta, X, y, w = dense(rng, 4000, *NARROW, "f4")
    stored = scipy.sparse.csr_array(X)
    for data in (X, stored):
        expected = fused.value_and_gradient(theta, data, y, w)
        with ThreadPoolExecutor(4) as pool:
            for J, G in pool.map(
                lambda _, data=data: fused.value_and_gradient(theta, data, y, w), range(16)
            ):
                assert J == expected[0]
                assert_array_equal(G, expected[1])
