"""The compiled value and gradient of CSR rows: row after row, and by panels of columns."""

import pytest
import scipy.sparse
from compiled_cases import NEEDS_NUMBA, assert_exact, dense
from numpy.testing import assert_array_equal

from dsoftmax.kernels.compiled import fused, shapes
from dsoftmax.kernels.tiles import SPARSE_TILE_ROWS

pytestmark = NEEDS_NUMBA


def cut_into_panels(patch):
    """Sort CSR of any size into panels of eight columns."""
    patch.setattr(shapes, "CACHED_ENTRIES", 0)
    patch.setattr(shapes, "PANEL_COLUMNS", 8)


@pytest.mark.parametrize("panels", [False, True])
@pytest.mark.parametrize("index", ["i4", "i8"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u1", "bool"])
@pytest.mark.parametrize("K", [2, 8, 20, 75])
def test_sparse_rows(rng, monkeypatch, K, dtype, index, panels):
    if panels:
        cut_into_panels(monkeypatch)
    theta, X, y, w = dense(rng, 9000 if panels else 17_000, 40, K, dtype)
    X[rng.random(X.shape) < 0.8] = 0
    X[17] = 0
    stored = scipy.sparse.csr_array(X)
    stored.indices, stored.indptr = stored.indices.astype(index), stored.indptr.astype(index)
    assert len(y) > (SPARSE_TILE_ROWS if panels else shapes.SPARSE_ROWS)
    assert_exact(theta, stored, y, w)
    assert_exact(theta, stored[:0], y[:0], None)


@pytest.mark.parametrize("sorted_rows", [False, True])
@pytest.mark.parametrize("entries", [2**20, 100, 3])
def test_panels_give_the_sums_of_whole_rows(rng, monkeypatch, entries, sorted_rows):
    theta, X, y, w = dense(rng, 300, 41, 75, "f4")
    X[rng.random(X.shape) < 0.8] = 0
    X[5] = 1  # longer than a tile may be
    X[6:50], X[:, 8:16] = 0, 0  # empty rows, an empty panel
    stored = scipy.sparse.csr_array(X)
    if not sorted_rows:
        for first, stop in zip(stored.indptr[:-1], stored.indptr[1:], strict=True):
            for array in (stored.data, stored.indices):
                array[first:stop] = array[first:stop][::-1].copy()
    cut_into_panels(monkeypatch)
    monkeypatch.setattr(fused, "TILE_ENTRIES", entries)
    assert_exact(theta, stored, y, w)
    if sorted_rows and entries > stored.nnz:
        J, G = fused.value_and_gradient(theta, stored, y, w)
        monkeypatch.undo()
        whole = fused.value_and_gradient(theta, stored, y, w)
        assert J == whole[0]
        assert_array_equal(G, whole[1])  # the order of every sum is that of the rows


def test_places_hold_every_row_and_column_of_a_panel():
    p = shapes.MOST_PANELS << shapes.COLUMN_BITS
    assert shapes.way(p, 2, True) == "panels"
    assert shapes.way(p + 1, 2, True) == "sparse"
    assert shapes.panel_shift(p) <= shapes.COLUMN_BITS
    assert SPARSE_TILE_ROWS <= 2 ** (32 - shapes.COLUMN_BITS)
    assert -(-p // 2 ** shapes.panel_shift(p)) == shapes.MOST_PANELS
