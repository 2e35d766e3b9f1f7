"""Sources and shares of arrays that are read by rows."""

import pickle
import tracemalloc

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.block import Block
from dsoftmax.data.memory import MemoryRows
from dsoftmax.data.rows import Rows, RowSource, cut
from dsoftmax.data.source import Share
from dsoftmax.data.table import Table


@pytest.mark.parametrize(("n", "step"), [(1, 1), (10, 3), (9, 3), (2, 5)])
def test_cut_makes_equal_chunks_and_a_rest(n, step):
    assert cut(n, step).tolist() == [
        len(range(start, min(start + step, n))) for start in range(0, n, step)
    ]


def test_a_share_loads_its_own_chunks_only(rng):
    X, y = rng.normal(size=(1000, 3)), np.arange(1000)
    source = RowSource(Table(MemoryRows(X), MemoryRows(y)), cut(1000, 30), cut(1000, 30) * 24)
    share = pickle.loads(pickle.dumps(source.share([20, 3, 33])))
    for chunk in (3, 20, 33):
        assert_array_equal(share.load(chunk).y, y[30 * chunk : 30 * chunk + 30])
    for chunk in (0, 4, 32, 34, -1):
        with pytest.raises(KeyError, match=f"chunk {chunk} is not in this share of 3 chunks"):
            share.load(chunk)
    assert pickle.loads(pickle.dumps(source.share([]))).chunks.size == 0


@pytest.mark.parametrize("labels", ["zarr", "numpy"])
def test_a_hundred_thousand_chunks_are_planned_in_little_memory(labels, tmp_path):
    n, p = 100_000 * 100, 1_000  # 400 KB a chunk, none of which is written
    X = zarr.create_array(tmp_path / "X", shape=(n, p), chunks=(300, p), dtype="f4")
    y = (
        zarr.create_array(tmp_path / "y", shape=(n,), chunks=(300,), dtype="i1")
        if labels == "zarr"
        else np.zeros(n, "i1")
    )
    tracemalloc.start()
    source = opened(X, y)
    share = source.share(np.arange(0, len(source.chunk_rows), 2))
    size = len(pickle.dumps(share))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.chunk_rows) > 33_000
    assert size < 3 * 8 * len(source.chunk_rows) + (n if labels == "numpy" else 0)
    assert peak < 50 * 2**20


class Loads(Share):
    """A share that defines no more than it must."""

    def load(self, chunk, buffer=None):
        return Block(np.full((2, 3), float(chunk)))


def test_a_share_that_only_loads_fetches_by_loading_and_has_no_futures():
    share = Loads()
    assert_array_equal(share.fetch(7, np.zeros(48, np.uint8)).X, share.load(7).X)
    assert share.bind({}) is share


class Reads(Rows):
    """Rows that define no more than they must."""

    shape, dtype = (10, 1), np.dtype("f8")

    def read(self, start, stop, buffer=None):
        return np.arange(start, stop, dtype=float)[:, None]

    def describe(self):
        return {}


def test_rows_that_only_read_have_the_defaults_of_a_stored_array():
    rows = Reads()
    source = RowSource(Table(rows), cut(10, 4), cut(10, 4) * 8)
    assert not source.resident
    assert_array_equal(source.fetch(1, np.zeros(32, np.uint8)).X, rows.read(4, 8))
    assert_array_equal(source.share([2]).load(2).X, rows.read(8, 10))
    assert (source.columns.units, source.smaller_chunks(1)) == (0, "")


@pytest.mark.parametrize("kind", [Share, Rows])
def test_a_class_without_its_essential_methods_cannot_be_made(kind):
    with pytest.raises(TypeError, match="abstract"):
        type("Incomplete", (kind,), {})()
