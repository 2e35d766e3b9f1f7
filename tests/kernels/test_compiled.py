"""The compiled kernels against literal loops, the NumPy kernels, finite differences and themselves."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
import scipy.sparse
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened
from scipy.special import log_softmax, softmax

from dsoftmax.data.block import Block
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DsoftmaxError, OptionError
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels import softmax as kernels
from dsoftmax.kernels.choose import choose_kernel
from dsoftmax.kernels.compiled import kernel as fused
from dsoftmax.kernels.hessian import hessian_pairs, hessian_products
from dsoftmax.kernels.tiles import SPARSE_TILE_ROWS, compute_dtype
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query
from dsoftmax.training.loop import train
from dsoftmax.training.prepare import prepare
from dsoftmax.training.settings import Settings

pytestmark = pytest.mark.skipif(
    not fused.available(), reason="numba is not installed: pip install 'dsoftmax[fast]'"
)

NARROW, WIDE, PRODUCTS = (9, 5), (80, 7), (70, 66)
SHAPES = [(1, 2), (3, 2), NARROW, (63, 13), (64, 2), WIDE, (130, 9), (200, 63), PRODUCTS, (5, 1500)]


def dense(rng, n, p, K, dtype="f4"):
    X = strategies.values(rng, (n, p), dtype)
    scale = {"i": 100.0, "u": 250.0}.get(np.dtype(dtype).kind, 1.0) * np.sqrt(p)
    theta = rng.normal(size=(K, p + 1)) / scale
    return theta, X, rng.integers(0, K, n), rng.random(n) * 2


def exact(theta, X, y, weights):
    """J, ∇J and the sums of the sizes of their terms, in float64 by NumPy and SciPy."""
    Xa = np.hstack(
        [
            np.asarray(X.toarray() if scipy.sparse.issparse(X) else X, float),
            np.ones((X.shape[0], 1)),
        ]
    )
    w = np.ones(len(y)) if weights is None else weights
    Z = Xa @ theta.T
    R = w[:, None] * (softmax(Z, axis=1) - np.eye(len(theta))[y])
    losses = -log_softmax(Z, axis=1)[np.arange(len(y)), y]
    reach = 1 + (np.abs(Xa) @ np.abs(theta).T).max(
        initial=0
    )  # what rounding of a logit is in proportion to
    return (
        w @ losses,
        R.T @ Xa,
        reach * (w.sum() + w @ losses),
        reach * (w @ np.abs(Xa)).max(initial=1),
    )


def assert_exact(theta, X, y, weights, dtype=None):
    J, G = fused.value_and_gradient(theta, X, y, weights, dtype and np.dtype(dtype))
    products = np.dtype(dtype) if dtype else compute_dtype(X.dtype)
    eps = float(np.finfo(products).eps)
    value, gradient, value_size, gradient_size = exact(theta, X, y, weights)
    steps = 8 * np.sqrt(
        X.shape[1] + len(theta)
    )  # sums of p products and of K exponentials, errors at random
    assert isinstance(J, float)
    assert G.dtype == np.float64
    assert G.flags.c_contiguous
    assert_allclose(J, value, rtol=0, atol=steps * eps * value_size)
    assert_allclose(G, gradient, rtol=0, atol=steps * eps * gradient_size)


def test_the_shapes_here_take_every_way():
    assert {fused.way(p, K, False) for p, K in SHAPES} == {"narrow", "wide", "products"}
    assert fused.way(*NARROW, False) == "narrow"
    assert fused.way(*WIDE, False) == "wide"
    assert fused.way(*PRODUCTS, False) == "products"
    assert fused.way(*WIDE, True) == "sparse"
    assert fused.way(20_000, 75, True) == "blocked"


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
def test_products_run_in_the_dtype_that_is_asked_for(rng, stored, products):
    for p, K in (NARROW, WIDE):
        theta, X, y, w = dense(rng, 100, p, K, stored)
        if stored == "f8" and products == "f4":
            X = X.astype("f4").astype(
                "f8"
            )  # so that rounding to the dtype of the products loses nothing
        assert_exact(theta, X, y, w, products)


@pytest.mark.parametrize("kind", [*strategies.DENSE, "one row", "unaligned"])
@pytest.mark.parametrize(("p", "K"), [NARROW, WIDE, PRODUCTS])
def test_no_layout_changes_a_bit(rng, kind, p, K):
    theta, X, y, w = dense(rng, 700, p, K, "i2")
    if kind == "one row":
        X = np.repeat(X[:1], 700, axis=0)
        moved = np.broadcast_to(X[0], X.shape)
    elif kind == "unaligned":
        room = np.zeros(X.nbytes + 1, np.uint8)
        moved = room[1:].view(np.int16).reshape(X.shape)
        moved[:] = X
    else:
        moved = strategies.layout(X, kind)
    J, G = fused.value_and_gradient(theta, X, y, w)
    again = fused.value_and_gradient(theta, moved, y, w)
    assert again[0] == J
    assert_array_equal(again[1], G)


def cut_into_blocks(patch):
    """Let CSR of any size be sorted into blocks of eight columns."""
    patch.setattr(fused.plan, "CACHED_ENTRIES", 0)
    patch.setattr(fused.plan, "BLOCK_COLUMNS", 8)


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("index", ["i4", "i8"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1", "bool"])
@pytest.mark.parametrize("K", [2, 8, 20, 75])
def test_sparse_rows(rng, monkeypatch, K, dtype, index, blocked):
    if blocked:
        cut_into_blocks(monkeypatch)
    theta, X, y, w = dense(rng, 9000 if blocked else 17_000, 40, K, dtype)
    X[rng.random(X.shape) < 0.8] = 0
    X[17] = 0
    stored = scipy.sparse.csr_array(X)
    stored.indices, stored.indptr = stored.indices.astype(index), stored.indptr.astype(index)
    assert len(y) > (SPARSE_TILE_ROWS if blocked else fused.plan.SPARSE_ROWS)
    assert_exact(theta, stored, y, w)
    assert_exact(theta, stored[:0], y[:0], None)


@pytest.mark.parametrize("sorted_rows", [False, True])
@pytest.mark.parametrize("entries", [2**20, 100, 3])
def test_blocks_of_sparse_rows_have_the_terms_of_whole_rows(rng, monkeypatch, entries, sorted_rows):
    theta, X, y, w = dense(rng, 300, 41, 75, "f4")
    X[rng.random(X.shape) < 0.8] = 0
    X[5], X[6:50], X[:, 8:16] = (
        1,
        0,
        0,
    )  # a row that is longer than a tile may be, empty rows, an empty block
    stored = scipy.sparse.csr_array(X)
    if not sorted_rows:
        for first, stop in zip(stored.indptr[:-1], stored.indptr[1:], strict=True):
            for array in (stored.data, stored.indices):
                array[first:stop] = array[first:stop][::-1].copy()
    cut_into_blocks(monkeypatch)
    monkeypatch.setattr(fused, "TILE_ENTRIES", entries)
    assert_exact(theta, stored, y, w)
    if sorted_rows and entries > stored.nnz:
        J, G = fused.value_and_gradient(theta, stored, y, w)
        monkeypatch.undo()
        whole = fused.value_and_gradient(theta, stored, y, w)
        assert J == whole[0]
        assert_array_equal(G, whole[1])  # the order of every sum is that of the rows


def test_places_hold_every_row_and_column_of_a_block():
    p = fused.plan.MOST_BLOCKS << fused.plan.COLUMN_BITS
    assert fused.way(p, 2, True) == "blocked"
    assert fused.way(p + 1, 2, True) == "sparse"
    assert fused.plan.block_shift(p) <= fused.plan.COLUMN_BITS
    assert SPARSE_TILE_ROWS <= 2 ** (32 - fused.plan.COLUMN_BITS)
    assert -(-p // 2 ** fused.plan.block_shift(p)) == fused.plan.MOST_BLOCKS


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
def test_nothing_that_is_given_is_changed(problem):
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


def curvature_size(theta, X, weights):
    """The sizes of the entries of `hessian_pairs`, where rounding is in proportion to them: Σ sᵢ|x̃ᵢₐx̃ᵢ꜀|/4 is a bound."""
    Xa = np.abs(np.hstack([np.asarray(X, float), np.ones((len(X), 1))]))
    found = (Xa * weights[:, None]).T @ Xa / 4
    return found[np.triu_indices(len(found))]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
@pytest.mark.parametrize(
    ("p", "K"), [(1, 2), (3, 2), NARROW, (40, 7), (65, 10), (100, 4), (128, 2)]
)
@pytest.mark.parametrize("n", [0, 1, 17, 5000])
def test_the_hessian_is_that_of_numpy(rng, n, p, K, dtype):
    theta, X, _, w = dense(rng, n, p, K, dtype)
    assert fused.plan.curves(p, K, False)
    for products in ("f4", "f8") if dtype == "f4" else ("f8",):
        found = fused.hessian_pairs(theta, X, w, np.dtype(products))
        expected = hessian_pairs(theta, X, w, np.dtype("f8"))
        reach = 1 + (np.abs(X.astype(float)) @ np.abs(theta[:, :-1]).T).max(initial=0)
        tolerance = 30 * np.finfo(products).eps * reach
        assert np.all(
            np.abs(found - expected) <= tolerance * (curvature_size(theta, X, w) + 1e-300)
        )
    assert_array_equal(fused.hessian_pairs(theta, X), fused.hessian_pairs(theta, X, np.ones(n)))


@pytest.mark.parametrize(("p", "K"), [(1, 2), NARROW, (65, 10), (200, 3)])
@pytest.mark.parametrize("n", [0, 1, 17, 1000])
def test_products_of_the_hessian_are_those_of_numpy(rng, n, p, K):
    theta, X, _, w = dense(rng, n, p, K, "f8")
    of_fused, of_numpy = fused.hessian_products(theta, X, w), hessian_products(theta, X, w)
    for _ in range(2):
        V = rng.normal(size=theta.shape)
        assert_allclose(of_fused(V), of_numpy(V), rtol=1e-10, atol=1e-10 * (1 + n))


@pytest.mark.parametrize("kind", strategies.DENSE)
def test_no_layout_changes_a_bit_of_the_hessian(rng, kind):
    theta, X, _, w = dense(rng, 700, *NARROW, "f8")
    V, moved = rng.normal(size=theta.shape), strategies.layout(X, kind)
    assert_array_equal(fused.hessian_pairs(theta, moved, w), fused.hessian_pairs(theta, X, w))
    assert_array_equal(
        fused.hessian_products(theta, moved, w)(V), fused.hessian_products(theta, X, w)(V)
    )


def test_hessians_that_the_loops_do_not_take_are_left_to_numpy(rng):
    theta, X, _, w = dense(rng, 50, *NARROW, "f4")
    for data in (scipy.sparse.csr_array(X), X.astype("f2"), X.astype(">f4")):
        assert_array_equal(fused.hessian_pairs(theta, data, w), hessian_pairs(theta, data, w))
    for p, K in [(4, 200), (129, 2), (4, 14)]:
        theta, X, _, w = dense(rng, 50, p, K, "f8")
        assert not fused.plan.curves(p, K, False)
        assert_array_equal(fused.hessian_pairs(theta, X, w), hessian_pairs(theta, X, w))
    theta, X, _, w = dense(rng, 50, 257, 2, "f8")
    assert not fused.plan.multiplies(257, 2, False)
    assert_array_equal(
        fused.hessian_products(theta, X, w)(theta), hessian_products(theta, X, w)(theta)
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_exp_and_log1p_are_as_precise_as_they_say(dtype):
    from numba import njit

    from dsoftmax.kernels.compiled.simd import exp, load, log1p, store

    @njit
    def each(values, exps, logs, lanes):
        for i in range(0, len(values), lanes):
            store(exps, i, exp(load(values, i)))
            store(logs, i, log1p(load(values, i) * load(values, i)))

    lowest = kernels.LOWEST[np.dtype(dtype)]
    values = -np.concatenate(
        [np.linspace(0, -lowest, 40_000), np.logspace(-15, 1.9, 40_000)]
    ).astype(dtype)
    exps, logs = np.empty_like(values), np.empty_like(values)
    each(values, exps, logs, 32 // values.itemsize)
    kept = values >= lowest
    wide = values.astype(np.longdouble)
    squares = (values * values).astype(np.longdouble)
    ulp = np.abs(exps - np.exp(wide))[kept] / np.spacing(np.exp(wide).astype(dtype))[kept]
    assert ulp.max() < 1.5
    assert exps[0] == 1
    assert np.all(exps[~kept] == 0)
    some = squares > np.finfo(dtype).tiny
    assert (
        np.abs(logs - np.log1p(squares))[some] / np.spacing(np.log1p(squares).astype(dtype))[some]
    ).max() < 3


@pytest.mark.parametrize(
    ("p", "K", "sparse"),
    [
        (12, 8, False),
        (784, 10, False),
        (384, 150, False),
        (5, 4000, False),
        (300, 20, True),
        (20_000, 60, True),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_scratch_is_counted(rng, p, K, sparse, dtype):
    import tracemalloc  # numba's own allocations are not seen by it: labels and copies of θ are

    if sparse:
        X = scipy.sparse.random_array(
            (2000, p), density=0.005, format="csr", dtype=np.dtype(dtype), rng=rng
        )
        theta, y, w = rng.normal(size=(K, p + 1)), rng.integers(0, K, 2000), rng.random(2000)
    else:
        theta, X, y, w = dense(rng, 2000, p, K, dtype)
    fused.value_and_gradient(theta, X, y, w)
    tracemalloc.start()
    fused.value_and_gradient(theta, X, y, w)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        peak
        < fused.scratch_bytes(p, K, np.dtype(dtype), sparse) + (1 if sparse else 6) * theta.nbytes
    )


# The choice of a kernel, which a run makes once.


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setattr(fused, "available", lambda: False)


@pytest.fixture
def source(rng):
    X = rng.normal(size=(300, 4)).astype("f4")
    return opened(X, (X @ rng.normal(size=(4, 3)) + rng.gumbel(size=(300, 3))).argmax(axis=1))


def test_auto_is_fused_where_numba_is_and_the_work_is_worth_compiling(source, monkeypatch):
    assert train(source, SerialEngine(), Settings(max_iter=2)).run.kernel == "numpy"
    monkeypatch.setattr("dsoftmax.kernels.choose.FUSED_VALUES", 300 * 4)
    assert train(source, SerialEngine(), Settings(max_iter=2)).run.kernel == "fused"


def test_auto_is_numpy_where_numba_is_not(source, without_numba):
    assert train(source, SerialEngine(), Settings(max_iter=2)).run.kernel == "numpy"


@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_engines_give_the_same_bits_with_either_kernel(source, kernel):
    settings = Settings(max_iter=5, kernel=kernel)
    one, two = (train(source, engine, settings) for engine in (SerialEngine(), ThreadsEngine(3)))
    assert_array_equal(one.model.theta, two.model.theta)


def test_both_kernels_reach_one_optimum(source):
    ends = [
        train(source, SerialEngine(), Settings(tol=1e-9, kernel=kernel))
        for kernel in ("numpy", "fused")
    ]
    assert all(end.converged for end in ends)
    assert_allclose(ends[1].model.theta, ends[0].model.theta, atol=1e-6)


def test_a_resumed_run_keeps_to_its_kernel(source):
    seen = []
    whole = train(
        source,
        SerialEngine(),
        Settings(solver="lbfgs", kernel="numpy"),
        watchers=[lambda record, runs: seen.append(runs)],
    )
    again = train(source, SerialEngine(), Settings(solver="lbfgs"), resume=seen[2])
    assert again.run.kernel == "numpy"
    assert_array_equal(again.model.theta, whole.model.theta)
    with pytest.raises(OptionError, match=r"kernel='fused', but the run to resume used 'numpy'"):
        train(source, SerialEngine(), Settings(kernel="fused"), resume=seen[2])


def test_numba_that_is_missing_is_named(without_numba):
    with pytest.raises(
        OptionError, match=r"pip install 'dsoftmax\[fast\]', or pass kernel='numpy'"
    ):
        Settings(kernel="fused").check()
    with pytest.raises(OptionError, match=r"which this run used.*begin anew with kernel='numpy'"):
        choose_kernel("auto", "fused")
    visit = Evaluate(
        (Question(Query(np.zeros((2, 2))), None, np.dtype("f4")),), Encoder(np.arange(2)), "fused"
    )
    with pytest.raises(DsoftmaxError, match="on every worker"):
        visit(Block(np.zeros((2, 1), "f4"), np.arange(2)))


def test_a_kernel_that_does_not_exist():
    with pytest.raises(OptionError, match=r"kernel='fuse' is unknown. Did you mean 'fused'"):
        Settings(kernel="fuse").check()


@pytest.mark.parametrize("sparse", [False, True])
def test_the_first_pass_is_projected_with_the_code_that_it_runs(rng, sparse):
    X = rng.normal(size=(300, 4))
    source = opened(scipy.sparse.csr_array(X) if sparse else X, rng.integers(0, 3, 300))
    for kernel in ("numpy", "fused"):
        projected = prepare(source, Settings(kernel=kernel)).footprint.code
        assert projected == (fused.CODE_BYTES if sparse and kernel == "fused" else 0)


def test_machine_code_of_other_sources_is_not_used(tmp_path):
    from dsoftmax.kernels.compiled.compile import forget_stale

    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("dense.narrow-1.py311.nbi", "dense.narrow-1.py311.1.nbc", "notes.txt"):
        (folder / name).write_text("old")
    forget_stale(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["dsoftmax-fused.sources", "notes.txt"]
    (folder / "dense.narrow-1.py311.nbi").write_text("new")
    forget_stale.cache_clear()
    forget_stale(str(folder))
    assert (folder / "dense.narrow-1.py311.nbi").exists()
    (folder / "dsoftmax-fused.sources").write_text("of another version")
    forget_stale.cache_clear()
    forget_stale(str(folder))
    assert not (folder / "dense.narrow-1.py311.nbi").exists()
