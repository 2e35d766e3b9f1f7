"""Blocks, their leaves, and the numbering of rows."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.block import Block
from dsoftmax.data.leaves import LEAF_BYTES, leaf_rows
from dsoftmax.data.source import first_rows, n_rows
from dsoftmax.data.table import Names


@given(st.integers(0, 10**7))
def test_a_leaf_has_a_power_of_two_rows_between_the_bounds(p):
    rows = leaf_rows(p)
    assert rows & (rows - 1) == 0
    assert 8192 <= rows <= 131_072
    assert rows == 8192 or rows * 4 * p <= LEAF_BYTES
    assert rows == 131_072 or 2 * rows * 4 * p > LEAF_BYTES


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n", [0, 1, 8191, 8192, 8193, 20_000])
def test_leaves_are_the_rows_in_their_order(rng, sparse, n, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.block.MOST_LEAF_ROWS", 8192)  # CSR leaves do not depend on p
    p = 3000  # leaves of 8,192 rows
    X = scipy.sparse.random_array((n, p), density=1e-4, format="csr", rng=rng)
    X = X if sparse else np.broadcast_to(np.arange(n, dtype="f4")[:, None], (n, p))
    names = Names("pixels", "kinds")
    block = Block(X, np.arange(n), np.arange(n) / 2, 70, names, np.arange(n, dtype=np.uint64) // 3)
    leaves = list(block.leaves())
    assert [leaf.n_rows for leaf in leaves] == (
        [8192] * (n // 8192) + ([n % 8192] if n % 8192 or n == 0 else [])
    )
    assert [leaf.first_row for leaf in leaves] == [70 + 8192 * i for i in range(len(leaves))]
    assert all(leaf.names is names for leaf in leaves)
    assert_array_equal(np.concatenate([leaf.y for leaf in leaves]), block.y)
    assert_array_equal(np.concatenate([leaf.weights for leaf in leaves]), block.weights)
    assert_array_equal(np.concatenate([leaf.groups for leaf in leaves]), block.groups)
    if sparse:
        assert (scipy.sparse.vstack([leaf.X for leaf in leaves], format="csr") != X).nnz == 0
    else:
        assert_array_equal(np.concatenate([leaf.X[:, 0] for leaf in leaves]), X[:, 0])
        assert all(leaf.X.base is not None for leaf in leaves) or len(leaves) == 1


def test_labels_weights_and_groups_may_be_absent():
    leaves = list(Block(np.zeros((18_000, 5000), "i1")).leaves())
    assert len(leaves) == 3
    assert all(leaf.y is None and leaf.weights is None and leaf.groups is None for leaf in leaves)


def test_nbytes_counts_the_arrays_of_X():
    X = scipy.sparse.csr_array(np.eye(3, dtype="f4"))
    assert Block(X).nbytes == 3 * 4 + 3 * 4 + 4 * 4
    assert Block(np.zeros((5, 3), "f8")).nbytes == 120


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_first_rows_number_the_rows(rows):
    chunk_rows = np.array(rows, np.int64)
    assert first_rows(chunk_rows).tolist() == [sum(rows[:i]) for i in range(len(rows))]
    assert first_rows(chunk_rows).dtype == np.int64


def test_n_rows_counts_all_chunks():
    assert n_rows(opened(np.zeros((1234, 3)))) == 1234
