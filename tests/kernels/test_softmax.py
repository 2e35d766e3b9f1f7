"""The kernels against literal loops, finite differences and each other."""

import itertools
import math

import numpy as np
import pytest
import reference
import scipy.sparse
import strategies
from compiled_cases import NEEDS_NUMBA
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax

from dsoftmax.data.features import rows_between
from dsoftmax.kernels import softmax as kernels
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.kernels.hessian import (
    hessian_pairs,
    hessian_product,
    unpack_hessian,
)
from dsoftmax.kernels.packed import hessian_entries
from dsoftmax.kernels.tiles import TILE_BYTES, compute_dtype, pair_tile_rows, tile_rows

FLOATS = ("<f8",)


def scale_of(problem):
    """Return a bound of the terms of the sums, which scales their rounding."""
    rows = reference.rows_of(problem.X)
    return 1 + sum(1 + sum(abs(v) for v in x) for x in rows) * 3


@given(strategies.problems(), st.sampled_from([None, "f8"]))
def test_value_and_gradient_equal_the_loops(problem, dtype):
    J, G = kernels.value_and_gradient(
        problem.theta, problem.X, problem.y, problem.weights, dtype and np.dtype(dtype)
    )
    single = dtype is None and compute_dtype(problem.X.dtype) == np.float32
    atol = (2e-6 if single else 1e-14) * scale_of(problem)
    assert isinstance(J, float)
    assert G.dtype == np.float64
    assert_allclose(
        J, reference.value(problem.theta, problem.X, problem.y, problem.weights), atol=atol, rtol=0
    )
    assert_allclose(
        G,
        reference.gradient(problem.theta, problem.X, problem.y, problem.weights),
        atol=atol,
        rtol=0,
    )


def hessian(theta, X, weights=None, dtype=None):
    return unpack_hessian(hessian_pairs(theta, X, weights, dtype), len(theta))


@given(strategies.problems(max_rows=5))
def test_hessian_and_product_equal_the_loops(problem):
    H = hessian(problem.theta, problem.X, problem.weights, np.dtype("f8"))
    HV = hessian_product(
        problem.theta, problem.direction, problem.X, problem.weights, np.dtype("f8")
    )
    single = hessian_product(problem.theta, problem.direction, problem.X, problem.weights)
    atol = 1e-15 * scale_of(problem) ** 2
    assert_allclose(
        H, reference.hessian(problem.theta, problem.X, problem.weights), atol=atol, rtol=1e-12
    )
    assert_allclose(
        HV,
        reference.hessian_product(problem.theta, problem.direction, problem.X, problem.weights),
        atol=atol,
        rtol=1e-11,
    )
    assert_allclose(single, HV, atol=1e-5 * scale_of(problem), rtol=0)


@given(strategies.problems(dtypes=FLOATS, min_rows=1))
def test_gradient_is_the_derivative_of_the_value(problem):
    _, G = kernels.value_and_gradient(problem.theta, problem.X, problem.y, problem.weights)
    slope = reference.five_point(
        lambda t: kernels.value_and_gradient(
            problem.theta + t * problem.direction, problem.X, problem.y, problem.weights
        )[0]
    )
    assert_allclose(np.sum(G * problem.direction), slope, rtol=1e-8, atol=1e-8)


@given(strategies.problems(dtypes=FLOATS, min_rows=1))
def test_product_is_the_derivative_of_the_gradient(problem):
    HV = hessian_product(problem.theta, problem.direction, problem.X, problem.weights)
    slope = reference.five_point(
        lambda t: kernels.value_and_gradient(
            problem.theta + t * problem.direction, problem.X, problem.y, problem.weights
        )[1]
    )
    assert_allclose(HV, slope, rtol=1e-8, atol=1e-8)


@given(strategies.problems(dtypes=FLOATS), st.data())
def test_all_routes_to_the_curvature_agree_over_any_partition(problem, data):
    H = hessian(problem.theta, problem.X, problem.weights)
    HV = hessian_product(problem.theta, problem.direction, problem.X, problem.weights)
    assert_allclose((H @ problem.direction.ravel()).reshape(HV.shape), HV, rtol=1e-10, atol=1e-10)
    n = problem.X.shape[0]
    cuts = data.draw(strategies.partitions(n))
    whole = kernels.value_and_gradient(problem.theta, problem.X, problem.y, problem.weights)
    parts, products = [], []
    for start, stop in itertools.pairwise(cuts):
        rows = rows_between(problem.X, start, stop)
        w = None if problem.weights is None else problem.weights[start:stop]
        parts.append(kernels.value_and_gradient(problem.theta, rows, problem.y[start:stop], w))
        products.append(hessian_product(problem.theta, problem.direction, rows, w))
    assert_allclose(sum(J for J, _ in parts), whole[0], rtol=1e-12, atol=1e-12)
    assert_allclose(sum(G for _, G in parts), whole[1], rtol=1e-12, atol=1e-12)
    assert_allclose(sum(products), HV, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("sparse", [False, True])
def test_sums_over_many_tiles_equal_numpy_in_float64(rng, dtype, sparse):
    n, p, K = 40_000, 5, 3
    X = rng.normal(size=(n, p)).astype(dtype)
    y, w, theta, V = (
        rng.integers(0, K, n),
        rng.random(n),
        rng.normal(size=(K, p + 1)),
        rng.normal(size=(K, p + 1)),
    )
    stored = scipy.sparse.csr_array(X) if sparse else X
    Xa = np.hstack([X.astype(float), np.ones((n, 1))])
    Z = Xa @ theta.T
    P = softmax(Z, axis=1)
    J, G = kernels.value_and_gradient(theta, stored, y, w)
    rtol = 1e-5 if dtype == "f4" else 1e-11
    assert n > 2 * tile_rows(p, K, np.dtype(dtype), sparse)
    assert_allclose(J, -(w * log_softmax(Z, axis=1)[np.arange(n), y]).sum(), rtol=rtol)
    assert_allclose(G, (w[:, None] * (P - np.eye(K)[y])).T @ Xa, rtol=rtol, atol=rtol * n)
    A = Xa @ V.T
    R = w[:, None] * P * (A - (P * A).sum(1, keepdims=True))
    assert_allclose(hessian_product(theta, V, stored, w), R.T @ Xa, rtol=rtol, atol=rtol * n)
    assert_allclose(kernels.decision_function(theta, stored), Z, rtol=rtol, atol=20 * rtol)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_stay_finite_and_correct(size):
    X, y = np.array([[1.0], [1.0], [-1.0]]), np.array([0, 1, 2])
    theta = np.array([[size, 0.0], [0.0, 1.0], [-size, 0.0]])
    J, G = kernels.value_and_gradient(theta, X, y)
    assert_allclose(J, reference.value(theta, X, y), rtol=1e-14)
    assert_allclose(G, reference.gradient(theta, X, y), atol=1e-13)
    HV = hessian_product(theta, np.ones_like(theta), X)
    assert np.isfinite(HV).all()
    assert np.isfinite(hessian(theta, X)).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("kernel", ["numpy", pytest.param("fused", marks=NEEDS_NUMBA)])
def test_widely_spread_logits_make_no_subnormal_numbers(rng, kernel, dtype):
    # Processors compute a hundred times slower with subnormal numbers. The logits of a row span
    # twice the exponents of the dtype.
    K, n, kernel = 40, 300, KERNELS[kernel]
    span = -2 * math.log(np.finfo(dtype).tiny)
    theta = np.hstack([rng.uniform(-1, 1, (K, 3)) * span / 2, np.zeros((K, 1))])
    X, y = np.eye(3)[rng.integers(0, 3, n)].astype(dtype), rng.integers(0, K, n)
    J, G = kernel.value_and_gradient(theta, X, y)
    V = rng.standard_normal(theta.shape)
    found = [G, kernel.hessian_pairs(theta, X), hessian_product(theta, V, X)]
    for entries in map(np.abs, found):
        assert np.all((entries == 0) | (entries >= np.finfo(dtype).tiny))
    rtol = 100 * n * np.finfo(dtype).eps
    assert_allclose(J, reference.value(theta, X, y), rtol=rtol)
    assert_allclose(G, reference.gradient(theta, X, y), rtol=rtol, atol=rtol)
    assert_allclose(
        found[2], hessian(theta, X).dot(V.ravel()).reshape(V.shape), rtol=rtol, atol=rtol
    )


def test_one_minus_P_is_precise_for_rows_that_are_fitted_well():
    X, y, theta = np.array([[1.0]]), np.array([0]), np.array([[30.0, 0.0], [-30.0, 0.0]])
    J, G = kernels.value_and_gradient(theta, X, y)
    one_minus = math.exp(-60) / (1 + math.exp(-60))  # 8.8e-27: 1 − P would be 0
    assert_allclose(G[:, 0], [-one_minus, one_minus], rtol=1e-14)
    assert_allclose(J, math.log1p(math.exp(-60)), rtol=1e-14)


@given(strategies.problems(dtypes=FLOATS, sparse=(False,), min_rows=1))
def test_the_intercept_is_a_column_of_ones(problem):
    with_ones = np.hstack([problem.X, np.ones((len(problem.y), 1))])
    moved = np.hstack([problem.theta, np.zeros((len(problem.theta), 1))])
    J, G = kernels.value_and_gradient(problem.theta, problem.X, problem.y, problem.weights)
    J1, G1 = kernels.value_and_gradient(moved, with_ones, problem.y, problem.weights)
    assert_allclose(J1, J, rtol=1e-12, atol=1e-12)
    assert_allclose(G1[:, :-1], G, rtol=1e-12, atol=1e-12)
    assert_allclose(G1[:, -1], G1[:, -2], rtol=1e-12, atol=1e-12)


@given(strategies.problems(dtypes=FLOATS, sparse=(False,), min_rows=2))
def test_a_duplicate_row_equals_weight_two_and_weight_zero_equals_no_row(problem):
    X = np.asarray(problem.X)
    w = np.ones(len(X))
    w[0], w[1] = 2, 0
    keep = [0, 0, *range(2, len(X))]
    weighted = kernels.value_and_gradient(problem.theta, X, problem.y, w)
    repeated = kernels.value_and_gradient(problem.theta, X[keep], problem.y[keep])
    assert_allclose(weighted[0], repeated[0], rtol=1e-12, atol=1e-12)
    assert_allclose(weighted[1], repeated[1], rtol=1e-12, atol=1e-12)
    assert_allclose(
        hessian_product(problem.theta, problem.direction, X, w),
        hessian_product(problem.theta, problem.direction, X[keep]),
        rtol=1e-11,
        atol=1e-11,
    )


@given(strategies.problems(dtypes=FLOATS, min_rows=1), st.randoms(use_true_random=False))
def test_classes_may_be_permuted_and_shifted_together(problem, random):
    K = len(problem.theta)
    order = list(range(K))
    random.shuffle(order)
    J, G = kernels.value_and_gradient(problem.theta, problem.X, problem.y, problem.weights)
    new_code = np.argsort(order)
    J1, G1 = kernels.value_and_gradient(
        problem.theta[order], problem.X, new_code[problem.y], problem.weights
    )
    assert_allclose(J1, J, rtol=1e-12, atol=1e-12)
    assert_allclose(G1, G[order], rtol=1e-11, atol=1e-12)
    J2, G2 = kernels.value_and_gradient(
        problem.theta + problem.direction[:1], problem.X, problem.y, problem.weights
    )
    assert_allclose(J2, J, rtol=1e-11, atol=1e-11)
    assert_allclose(G2, G, rtol=1e-9, atol=1e-11)
    assert_allclose(G.sum(axis=0), 0, atol=1e-11)


@given(strategies.problems(min_rows=1))
def test_no_argument_is_changed(problem):
    sparse = scipy.sparse.issparse(problem.X)
    arrays = [problem.theta, problem.direction, problem.y]
    arrays += [problem.X.data, problem.X.indices, problem.X.indptr] if sparse else [problem.X]
    before = [array.copy() for array in arrays]
    kernels.value_and_gradient(problem.theta, problem.X, problem.y, problem.weights)
    hessian_product(problem.theta, problem.direction, problem.X, problem.weights)
    hessian(problem.theta, problem.X, problem.weights)
    for array, same in zip(arrays, before, strict=True):
        assert_array_equal(array, same)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
@pytest.mark.parametrize(("n", "p", "K"), [(700, 1, 2), (1000, 7, 3), (3001, 33, 10)])
def test_the_place_in_memory_does_not_change_a_bit(rng, dtype, n, p, K):
    X = strategies.values(rng, (n, p), dtype)
    y, theta, V = (
        rng.integers(0, K, n),
        rng.normal(size=(K, p + 1)) / 100,
        rng.normal(size=(K, p + 1)) / 100,
    )
    J, G = kernels.value_and_gradient(theta, X, y)
    HV, pairs = hessian_product(theta, V, X), hessian_pairs(theta, X)
    for offset in (1, 2, 4, 8, 24, 40):
        buffer = np.zeros(X.nbytes + 64, np.uint8)
        moved = buffer[offset : offset + X.nbytes].view(X.dtype).reshape(X.shape)
        moved[:] = X
        again = kernels.value_and_gradient(theta, moved, y)
        assert again[0] == J
        assert_array_equal(again[1], G)
        assert_array_equal(hessian_product(theta, V, moved), HV)
        assert_array_equal(hessian_pairs(theta, moved), pairs)
    for kind in strategies.DENSE:
        assert_array_equal(kernels.value_and_gradient(theta, strategies.layout(X, kind), y)[1], G)
        assert_array_equal(hessian_pairs(theta, strategies.layout(X, kind)), pairs)


@pytest.mark.parametrize(("p", "K"), [(3, 5), (40, 2), (150, 4), (90, 20)])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_pairs_of_classes_are_the_hessian_in_many_tiles(rng, p, K, dtype):
    n = 2 * pair_tile_rows(K, p + 1, np.dtype(dtype)) + 65
    X, theta, s = (
        rng.normal(size=(n, p)).astype(np.float32),
        rng.normal(size=(K, p + 1)) / 10,
        rng.uniform(0, 2, n),
    )
    found = hessian_pairs(theta, X, s, np.dtype(dtype))
    Xa = np.column_stack([X, np.ones(n)]).astype(np.float64)
    P = kernels.softmax(Xa @ theta.T)
    upper = np.triu_indices(p + 1)
    pairs = [
        (Xa.T @ (Xa * (s * P[:, k] * P[:, j])[:, None]))[upper]
        for k in range(K)
        for j in range(k + 1, K)
    ]
    tolerance = 1e-12 if dtype == "f8" else 1e-5
    assert_allclose(found, pairs, rtol=tolerance, atol=tolerance * np.abs(pairs).max())
    assert hessian_entries(p, K) == found.size


@pytest.mark.parametrize(
    ("stored", "products"),
    [
        ("bool", "f4"),
        ("i1", "f4"),
        ("u1", "f4"),
        ("<i2", "f4"),
        (">u2", "f4"),
        ("<f2", "f4"),
        ("<f4", "f4"),
        (">f4", "f4"),
        ("<i4", "f8"),
        ("u4", "f8"),
        ("<i8", "f8"),
        ("<f8", "f8"),
        (">f8", "f8"),
        (np.longdouble, "f8"),
    ],
)
def test_products_are_in_float32_only_if_it_holds_every_stored_value(stored, products):
    found = compute_dtype(np.dtype(stored))
    assert found == np.dtype(products)
    assert found.isnative


@pytest.mark.parametrize(("p", "K"), [(1, 2), (12, 8), (1000, 10), (100_000, 3)])
def test_a_tile_fits_the_cache_or_is_the_smallest(p, K):
    rows = tile_rows(p, K, np.dtype("f4"), sparse=False)
    assert rows % 64 == 0
    assert 1024 <= rows <= 16384
    assert rows == 1024 or rows * (p + 2 * K) * 4 <= TILE_BYTES


def test_csc_is_refused():
    X = scipy.sparse.csc_array(np.eye(4))
    with pytest.raises(TypeError, match="csr"):
        kernels.value_and_gradient(np.zeros((2, 5)), X, np.zeros(4, int))


def test_softmax_and_its_logarithm_equal_scipy(rng):
    Z = np.vstack(
        [rng.normal(size=(50, 4)) * 10, [[1e4, -1e4, 0, 1e4]], [[-800, -800, -800, -801]]]
    )
    assert_allclose(kernels.softmax(Z), softmax(Z, axis=1), rtol=1e-13)
    assert_allclose(kernels.log_softmax(Z), log_softmax(Z, axis=1), rtol=1e-13, atol=1e-13)
    assert_allclose(kernels.softmax(Z).sum(axis=1), 1, rtol=1e-15)
