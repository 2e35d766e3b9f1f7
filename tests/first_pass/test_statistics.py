"""The first pass against literal loops, and its errors."""

import itertools
import math

import numpy as np
import pytest
import reference
import scipy.sparse
import strategies
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dsoftmax.data.block import Block
from dsoftmax.data.features import rows_between
from dsoftmax.data.table import Names
from dsoftmax.errors import DataError
from dsoftmax.first_pass.finish import finish
from dsoftmax.first_pass.held_out import HeldOut, folds
from dsoftmax.first_pass.labels import MAX_CLASSES, Encoder, given_classes
from dsoftmax.first_pass.leaf_sums import FEW_FEATURES, labels_and_codes, tile_rows
from dsoftmax.first_pass.sample import Draw
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.first_pass.visit import Collect
from dsoftmax.kernels.compiled.availability import available
from dsoftmax.kernels.compiled.csr_sums import csr_sums
from dsoftmax.runs.checkpoint import from_arrays, to_arrays
from dsoftmax.sums.totals import Totals


def statistics_of(blocks, gram=True, classes=None):
    totals = Totals()
    for block in blocks:
        totals.add(Collect(gram)(block), block.n_rows)
    return finish(totals.result(), classes)


@given(strategies.problems(min_rows=2), st.data())
def test_statistics_equal_the_loops_over_any_partition(problem, data):
    n, p = problem.X.shape
    y = problem.y.copy()
    y[:2] = [0, 1]
    weights = None if problem.weights is None else problem.weights + 0.5
    cuts = data.draw(strategies.partitions(n))
    blocks = [
        Block(rows_between(problem.X, a, b), y[a:b], None if weights is None else weights[a:b])
        for a, b in itertools.pairwise(cuts)
    ]
    found = statistics_of(blocks)
    rows = [[*x, 1.0] for x in reference.rows_of(problem.X)]
    w = [reference.weight(weights, i) for i in range(n)]
    assert found.classes.tolist() == sorted({int(k) for k in y})
    for k, label in enumerate(found.classes):
        mine = [i for i in range(n) if y[i] == label]
        assert found.class_rows[k] == len(mine)
        for j in range(p + 1):
            assert_allclose(
                found.class_sums[k, j],
                math.fsum(w[i] * rows[i][j] for i in mine),
                rtol=1e-12,
                atol=1e-12,
            )
    for j in range(p):
        assert found.low[j] == min(x[j] for x in rows)
        assert found.high[j] == max(x[j] for x in rows)
        assert_allclose(
            found.squares[j], math.fsum(w[i] * rows[i][j] ** 2 for i in range(n)), rtol=1e-12
        )
    for j in range(p + 1):
        absolute = math.fsum(
            w[i] * abs(rows[i][j]) * math.fsum(map(abs, rows[i])) for i in range(n)
        )
        assert_allclose(found.absolute[j], absolute, rtol=1e-12)
        for c in range(p + 1):
            entry = math.fsum(w[i] * rows[i][j] * rows[i][c] for i in range(n))
            assert_allclose(found.gram[j, c], entry, rtol=1e-11, atol=1e-11)


@pytest.mark.skipif(not available(), reason="numba is not installed: pip install 'dsoftmax[fast]'")
@pytest.mark.parametrize("order", ["ascending", "backwards", "twice", "full column"])
@pytest.mark.parametrize("index", ["i4", "i8"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1", "g"])
def test_compiled_sums_of_sparse_rows_are_those_of_numpy(rng, dtype, index, order):
    dense = strategies.values(rng, (500, 30), dtype)
    dense[rng.random(dense.shape) < 0.8] = 0
    dense[7] = 0
    if order == "full column":
        dense[:, 3] = 1  # no zero is in its range
    X = scipy.sparse.csr_array(dense)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    if order == "backwards":
        X.data, X.indices, X.indptr = (
            X.data[::-1].copy(),
            X.indices[::-1].copy(),
            (X.nnz - X.indptr[::-1]).astype(index),
        )
    if order == "twice":
        X.indices[1::2] = X.indices[::2][: len(X.indices[1::2])]
        X.has_canonical_format = X.has_sorted_indices = False
    y, weights = rng.integers(0, 4, 500), rng.random(500)
    held = folds(3)[:1]
    found = []
    for kernel in ("numpy", "fused"):
        totals = Totals()
        totals.add(Collect(held_out=held, kernel=kernel)(Block(X.copy(), y, weights)), 500)
        found.append(finish(totals.result(), None))
    for name in ("class_rows", "low", "high", "held_rows"):
        assert_array_equal(getattr(found[1], name), getattr(found[0], name))
    for name in ("class_sums", "squares", "absolute", "held_sums"):
        assert_allclose(getattr(found[1], name), getattr(found[0], name), rtol=1e-13, atol=1e-11)
    taken = csr_sums(X, y, weights, 4) is not None
    assert taken == (dtype != "g" and order in ("ascending", "full column"))


@given(strategies.problems(min_rows=2), st.booleans(), st.booleans())
def test_the_eigenvalue_is_bounded_with_and_without_the_gram_matrix(problem, gram, fit_intercept):
    y = problem.y.copy()
    y[:2] = [0, 1]
    found = statistics_of(
        [Block(problem.X, y, problem.weights if problem.weights is None else problem.weights + 1)],
        gram,
    )
    rows = np.array([[*x, 1.0] for x in reference.rows_of(problem.X)])
    w = np.ones(len(y)) if problem.weights is None else problem.weights + 1
    G = (rows.T * w) @ rows
    G = G if fit_intercept else G[:-1, :-1]
    true = np.linalg.eigvalsh(G)[-1]
    bound = found.largest_eigenvalue(fit_intercept)
    assert bound >= true * (1 - 1e-14)
    if gram:
        assert_allclose(bound, true, rtol=1e-9)


def test_many_tiles_equal_numpy(rng):
    n = 2 * tile_rows(1) + 17
    X, y, w = rng.normal(size=(n, 3)), rng.integers(0, 4, n), rng.random(n)
    for stored in (X, scipy.sparse.csr_array(X), np.asfortranarray(X)):
        found = statistics_of([Block(stored, y, w)])
        Xa = np.column_stack([X, np.ones(n)])
        assert_allclose(found.gram, (Xa.T * w) @ Xa, rtol=1e-11, atol=1e-9)
        assert_allclose(found.class_sums, (np.eye(4)[y].T * w) @ Xa, rtol=1e-11, atol=1e-9)
        assert_array_equal(found.class_rows, np.bincount(y))


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i2", "bool", ">i4", "f2"])
@pytest.mark.parametrize(("p", "K"), [(5, 40), (5, 3), (FEW_FEATURES, 40), (FEW_FEATURES + 6, 3)])
def test_few_and_many_features_and_labels_equal_numpy(rng, p, K, dtype):
    n = 2 * tile_rows(p) + 5 if p > 5 else 600
    X, y, w = strategies.values(rng, (n, p), dtype), rng.integers(0, K, n), rng.random(n)
    found = statistics_of(
        [Block(strategies.layout(X, kind), y, w) for kind in ("c", "fortran", "strided")]
    )
    Xa = np.column_stack([X.astype(float), np.ones(n)])
    assert_allclose(found.gram, 3 * (Xa.T * w) @ Xa, rtol=1e-11, atol=1e-8)
    assert_allclose(found.class_sums, 3 * (np.eye(K)[y].T * w) @ Xa, rtol=1e-11, atol=1e-8)
    assert_allclose(found.squares, 3 * w @ Xa[:, :-1] ** 2, rtol=1e-12)
    assert_allclose(found.absolute, 3 * (w * np.abs(Xa).sum(axis=1)) @ np.abs(Xa), rtol=1e-12)
    assert_array_equal(found.low, Xa[:, :-1].min(axis=0))
    assert_array_equal(found.high, Xa[:, :-1].max(axis=0))
    assert_array_equal(found.class_rows, 3 * np.bincount(y, minlength=K))


@given(
    st.sampled_from(["i1", "u1", "<i4", ">i8", "u8", "f8", "U3", "bool"]),
    st.lists(st.integers(0, 100), max_size=30),
    st.sampled_from([0, -128, 2**40]),
)
def test_labels_and_codes_are_those_of_numpy_unique(dtype, values, offset):
    dtype = np.dtype(dtype)
    fits = dtype.kind in "iu" and np.iinfo(dtype).min <= offset <= np.iinfo(dtype).max - 100
    y = (np.array(values, np.int64) + (offset if fits else 0)).astype(dtype)
    labels, codes = labels_and_codes(y)
    expected, inverse = np.unique(y, return_inverse=True)
    assert_array_equal(labels, expected)
    assert labels.tolist() == expected.tolist()
    assert_array_equal(codes, inverse)


@pytest.mark.parametrize(
    "y", [[np.iinfo("i8").min, np.iinfo("i8").max], [2**64 - 1, 2**64 - 3], [2**63, 2**63 + 5]]
)
def test_labels_at_the_ends_of_their_range(y):
    labels, codes = labels_and_codes(np.array(y))
    assert labels.tolist() == sorted(y)
    assert labels[codes].tolist() == y


def test_integers_do_not_overflow():
    X = np.array([[-128, 127], [127, -128]], np.int8)
    found = statistics_of([Block(X, np.array([0, 1]))])
    assert found.squares.tolist() == [128**2 + 127**2] * 2
    assert found.low.tolist() == [-128, -128]
    assert found.class_sums[0].tolist() == [-128, 127, 1]


def test_held_out_rows_are_summed_apart_and_leave_the_sample(rng):
    X, y, groups = (
        rng.normal(size=(500, 3)),
        np.arange(500) % 3,
        np.arange(500, dtype=np.uint64) // 10,
    )
    which = np.array([reference.fold(int(group), 2) for group in groups])
    helds, totals = folds(2), Totals()
    for rows in (slice(0, 130), slice(130, 500)):
        block = Block(X[rows], y[rows], None, rows.start, groups=groups[rows])
        totals.add(Collect(draw=Draw(1.0, 0), held_out=helds)(block), block.n_rows)
    found = finish(totals.result(), None)
    for fold, held in enumerate(helds):
        for k in range(3):
            assert found.held_rows[fold, k] == np.sum((which == fold) & (y == k))
            assert_allclose(
                found.held_sums[fold, k, :-1], X[(which == fold) & (y == k)].sum(axis=0), atol=1e-12
            )
        left = found.without(fold, held)
        assert_array_equal(left.sample.numbers, np.flatnonzero(which != fold))
        assert_array_equal(left.class_rows, [np.sum((which != fold) & (y == k)) for k in range(3)])


@pytest.mark.parametrize(
    ("low", "high", "weight", "refused"),
    [(0, 0.5, 1, False), (0, 1, 1, True), (0, 0.5, 0, True), (0.5, 0.5, 1, True)],
)
def test_a_held_out_set_must_have_rows_and_leave_some(low, high, weight, refused):
    held, totals = HeldOut(low, high), Totals()
    where = np.array([reference.place(row) for row in range(40)])
    inside = (where >= low) & (where < high)
    totals.add(
        Collect(held_out=(held,))(
            Block(np.ones((40, 1)), np.arange(40) % 2, np.where(inside, weight, 1.0))
        ),
        40,
    )
    found = finish(totals.result(), None)
    if not refused:
        found.require_held([held])
        return
    with pytest.raises(
        DataError,
        match=rf"set has {inside.sum()} of 40 rows; expected .* Pass another validation_fraction",
    ):
        found.require_held([held])


NAMES = Names("cells", "kinds", "shares")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sparse", [False, True])
def test_an_error_about_a_value_names_its_row_and_column(rng, bad, sparse):
    X = rng.normal(size=(50, 4))
    X[31, 2] = bad
    X = scipy.sparse.csr_array(X) if sparse else X
    with pytest.raises(DataError, match=rf"cells row 1,031, column 2: the value is {bad}"):
        Collect()(Block(X, np.arange(50) % 2, None, 1000, NAMES))


@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf])
def test_an_error_about_a_weight_names_its_row(bad):
    weights = np.ones(5)
    weights[3] = bad
    with pytest.raises(DataError, match="shares row 1,003: the weight is"):
        Collect()(Block(np.zeros((5, 1)), np.arange(5) % 2, weights, 1000, NAMES))


def test_too_many_labels_are_refused(monkeypatch):
    n = MAX_CLASSES + 1
    with pytest.raises(DataError, match="kinds contains 50,001 different labels"):
        Collect()(Block(np.zeros((n, 1), "f4"), np.arange(n), None, 0, NAMES))
    monkeypatch.setattr("dsoftmax.first_pass.checks.MAX_CLASSES", 50)
    totals = Totals()
    for start in (0, 30):
        totals.add(Collect()(Block(np.zeros((30, 1)), np.arange(30) + start)))
    with pytest.raises(DataError, match="different labels"):
        finish(totals.result(), None)


def totals_of(y, weights=None, classes=None):
    totals = Totals()
    encoder = None if classes is None else Encoder(given_classes(classes))
    totals.add(
        Collect(encoder=encoder)(
            Block(np.arange(len(y), dtype=float)[:, None], np.asarray(y), weights)
        )
    )
    return totals.result()


@pytest.mark.parametrize(
    ("y", "classes", "ordered"),
    [
        ([5, 1, 5], None, np.array([1, 5])),
        ([5, 1, 5], np.array([9, 1, 5], np.int8), np.array([1, 5, 9], np.int8)),
        ([0.0, 1.0], np.array([0, 1, 2]), np.array([0, 1, 2])),
        (["b", "a"], np.array(["c", "b", "a"]), np.array(["a", "b", "c"])),
        (["b", "a"], np.array(["c", "b", "a"], object), np.array(["a", "b", "c"])),
        (
            ["b", "a"],
            np.array(["c", "bb", "b", "a"], np.dtypes.StringDType()),
            np.array(["a", "b", "bb", "c"]),
        ),
    ],
)
def test_given_classes_may_be_more_than_occur(y, classes, ordered):
    found = finish(totals_of(y), classes)
    assert_array_equal(found.classes, ordered)
    assert found.classes.dtype.kind == ordered.dtype.kind
    assert found.class_rows.tolist() == [list(y).count(label) for label in ordered.tolist()]


@pytest.mark.parametrize(
    ("y", "classes", "weights", "message"),
    [
        (
            [5, 1, 7, 7],
            np.array([1, 5]),
            None,
            r"y rows 0–3: label 7 \(row 2\) is not among the 2 classes \[1 5\]. Pass classes",
        ),
        (["b", "a"], np.array([1, 2]), None, "is not among the 2 classes"),
        ([5, 5], None, None, "at least 2 classes"),
        ([5, 5], np.array([4, 5]), None, "at least 2 classes"),
        ([5, 4], np.array([4, 4]), None, "at least 2 classes"),
        ([5, 4], None, np.zeros(2), "all zero"),
    ],
)
def test_unusable_labels_are_refused(y, classes, weights, message):
    with pytest.raises(DataError, match=message):
        finish(totals_of(y, weights, classes), classes)


def test_labels_of_two_kinds_in_two_chunks_are_refused():
    totals = Totals()
    for y in (np.array([1, 2]), np.array(["a", "b"])):
        totals.add(Collect()(Block(np.zeros((2, 1)), y)))
    with pytest.raises(DataError, match="mix int, str"):
        finish(totals.result(), None)


def test_statistics_survive_saving(rng):
    found = statistics_of([Block(rng.normal(size=(9, 2)), np.array(["a", "bc", "d"] * 3))])
    again = from_arrays(Statistics, to_arrays(found))
    before, after = to_arrays(found), to_arrays(again)
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert_array_equal(after[name], values)
        assert after[name].dtype == values.dtype


def test_rows_of_labels_beyond_int64_are_counted(rng):
    labels = np.array([5, 2**63 + 1, 2**64 - 2], np.uint64)
    codes = np.arange(90) % 3
    totals = Totals()
    totals.add(Collect()(Block(rng.normal(size=(90, 2)), labels[codes])), 90)
    found = finish(totals.result(), None)
    assert found.classes.tolist() == labels.tolist()
    assert found.class_rows.tolist() == [30, 30, 30]


@pytest.mark.parametrize("sparse", [False, True])
def test_an_error_about_an_overflow_names_the_value(rng, sparse):
    X = rng.normal(size=(40, 3))
    X[17, 1] = -np.finfo(float).max
    block = Block(scipy.sparse.csr_array(X) if sparse else X, np.arange(40) % 2)
    with pytest.raises(
        DataError, match=r"X row 17, column 1: the value is -1.79\d*e\+308; .* Its square overflows"
    ):
        Collect()(block)
