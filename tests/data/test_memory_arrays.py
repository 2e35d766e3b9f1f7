"""Arrays in memory: no copies, chunks, fingerprints, and sparse arrays that must be converted."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax import SoftmaxRegression
from dsoftmax.data.memory import CSR_FEATURE_BYTES, MemoryRows
from dsoftmax.data.rows import RowSource, cut
from dsoftmax.data.table import Table
from dsoftmax.kernels import softmax
from dsoftmax.kernels.compiled import fused


def test_arrays_in_memory_are_not_copied(rng):
    X = rng.normal(size=(100, 3))
    assert np.shares_memory(opened(X).load(0).X, X)


def test_the_fingerprint_of_arrays_in_memory_depends_on_their_content(rng):
    X, y = rng.normal(size=(100, 3)), np.arange(100) % 3
    first = opened(X, y).describe()
    assert opened(X.copy(), y.tolist()).describe() == first
    X[50, 1] += 1e-9
    assert opened(X, y).describe() != first
    strings = y.astype(np.dtypes.StringDType())
    assert opened(X, strings).describe() == opened(X, strings.copy()).describe()


@pytest.mark.parametrize(("n", "p"), [(40_000, 20), (40_000, 1000), (400_000, 100)])
def test_chunks_of_wide_csr_are_large_but_not_few(n, p, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2**14)
    pointers = np.arange(n + 1) * 2  # two values a row
    X = scipy.sparse.csr_array(
        (np.ones(2 * n, "f4"), np.tile([0, p - 1], n), pointers), shape=(n, p)
    )
    row_bytes = 2 * (4 + X.indices.itemsize)
    wide = min(CSR_FEATURE_BYTES * p, n * row_bytes // 8)
    rows = opened(X).chunk_rows
    assert rows[0] * row_bytes >= wide
    assert len(rows) in (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("n", "p", "n_chunks"),
    [(6435, 36, 1), (10_000, 192, 4), (100_000, 64, 16), (300_000, 64, 32), (10**6, 100, 48)],
)
def test_chunks_of_an_array_have_equally_many_rows(n, p, n_chunks):
    """2 MiB of 8 bytes a value a chunk, in powers of two up to 32, and at most 16 MiB."""
    rows = opened(np.broadcast_to(0.0, (n, p))).chunk_rows
    assert len(rows) == n_chunks
    assert rows.sum() == n
    assert rows[0] - rows[-1] < 64 * n_chunks
    assert len(set(rows[:-1])) <= 1


@pytest.mark.parametrize("convert", [np.ascontiguousarray, scipy.sparse.csr_array])
def test_a_share_of_an_array_in_memory_pickles_its_own_rows_only(convert, rng):
    X = convert(rng.normal(size=(10_000, 5)))
    source = RowSource(
        Table(MemoryRows(X)), cut(10_000, 100), cut(10_000, 100) * 40, scipy.sparse.issparse(X)
    )
    whole, few = len(pickle.dumps(source)), len(pickle.dumps(source.share(range(0, 100, 10))))
    assert few < 0.12 * whole
    assert (
        len(pickle.dumps(pickle.loads(pickle.dumps(source.share(range(0, 100, 10))))))
        < 0.12 * whole
    )  # a share of a share


def strided(array):
    """The same values with a stride of two entries in memory."""
    room = np.full(2 * len(array), -7, array.dtype)
    room[::2] = array
    return room[::2]


def test_csr_with_strided_arrays_has_the_same_sums_in_every_kernel(rng):
    plain = scipy.sparse.random_array((500, 40), density=0.2, format="csr", rng=rng)
    gaps = scipy.sparse.csr_array(
        (strided(plain.data), plain.indices, plain.indptr), shape=plain.shape
    )
    gaps.indices, gaps.indptr = strided(plain.indices), strided(plain.indptr)
    assert gaps.data.strides == (16,)
    y, theta = rng.integers(0, 3, 500), rng.normal(size=(3, 41))
    expected = softmax.value_and_gradient(theta, plain, y)
    block = opened(gaps, y).load(0)
    assert all(part.flags.c_contiguous for part in (block.X.data, block.X.indices, block.X.indptr))
    for kernel in (softmax, fused):
        for X in (gaps, block.X):
            value, gradient = kernel.value_and_gradient(theta, X, y)
            np.testing.assert_allclose(value, expected[0], rtol=1e-12)
            np.testing.assert_allclose(gradient, expected[1], rtol=1e-10, atol=1e-10)
    of_gaps, of_plain = (SoftmaxRegression(C=1.0).fit(X, y) for X in (gaps, plain))
    assert_array_equal(of_gaps.coef_, of_plain.coef_)


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8"])
def test_csr_of_a_dtype_unknown_to_scipy_is_converted(rng, dtype):
    plain = scipy.sparse.random_array((300, 9), density=0.4, format="csr", rng=rng)
    stored = plain.astype("f4")
    stored.data = stored.data.astype(dtype)
    y = rng.integers(0, 3, 300)
    expected = SoftmaxRegression(C=1.0).fit(
        scipy.sparse.csr_array((stored.data.astype("f8"), plain.indices, plain.indptr)), y
    )
    found = SoftmaxRegression(C=1.0).fit(stored, y)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-5)
