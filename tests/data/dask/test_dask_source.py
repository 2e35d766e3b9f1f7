"""Dask arrays are computed block by block, when a block is loaded and not before."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import stored
from distributed import Client
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.table import Names
from dsoftmax.errors import DataError, ReadError

NAMES = Names("store/X", "store/y", "store/w", "store/g")


def no_compute(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.mark.parametrize(
    "kind", [kind for kind in stored.KINDS if "dask" in kind and "unknown" not in kind]
)
def test_opening_a_dask_array_computes_nothing(kind, tmp_path):
    data = stored.KINDS[kind](tmp_path)
    with dask.config.set(scheduler=no_compute):
        source = opened(*data)
        source.describe()
        source.share([0])
    assert source.load(0).n_rows == source.chunk_rows[0]


def counted(shape, calls):
    """A dask array that records which of its blocks are computed."""

    def block(number, rows):
        calls.append(number)
        return np.full((rows, *shape[1:]), number, float)

    parts = [
        da.from_delayed(dask.delayed(block)(i, 10), (10, *shape[1:]), float)
        for i in range(shape[0] // 10)
    ]
    return da.concatenate(parts)


def test_a_load_computes_only_its_block_and_once():
    calls_X, calls_y = [], []
    X, y = counted((50, 3), calls_X), counted((50,), calls_y)
    source = opened(da.concatenate([X[:, :1], X[:, 1:]], axis=1), (y * 2).rechunk(25))
    assert (calls_X, calls_y) == ([], [])
    block = source.load(3)
    assert calls_X == [3]
    assert sorted(calls_y) == [2, 3, 4]  # the labels' own chunk of 25 rows
    assert_array_equal(block.X, np.full((10, 3), 3.0))
    assert_array_equal(block.y, np.full(10, 6.0))


def test_unknown_sizes_are_counted_in_one_pass():
    calls = []
    X = counted((50, 3), calls)
    source = opened(X[X[:, 0] >= 0])
    assert sorted(calls) == [0, 1, 2, 3, 4]
    assert source.chunk_rows.tolist() == [10] * 5


def test_a_share_of_a_dask_array_has_the_graph_of_its_own_blocks_only():
    X = da.concatenate(
        [da.from_array(np.full((100, 50), i, float), chunks=(100, 50)) for i in range(20)]
    )
    source = opened(X)
    assert len(pickle.dumps(source.share([3]))) < 3 * 100 * 50 * 8


def test_a_dask_block_that_fails_is_named_and_our_own_errors_pass_through():
    def fail(block, kind):
        if block.shape[0] and block[0, 0] == 20:
            raise kind("the disk is gone")
        return block

    X = np.repeat(np.arange(40.0)[:, None], 2, axis=1)
    for kind, raised in ((OSError, ReadError), (KeyError, ReadError), (DataError, DataError)):
        lazy = da.from_array(X, chunks=(20, 2)).map_blocks(
            fail, kind, dtype=float, meta=np.zeros((0, 2))
        )
        source = opened(lazy, names=NAMES)
        assert_array_equal(source.load(0).X, X[:20])
        with pytest.raises(raised, match="the disk is gone") as error:
            source.load(1)
        if raised is ReadError:
            assert "store/X rows 20–39: the dask graph behind this block failed with" in str(
                error.value
            )
            assert "X.blocks[1].compute()" in str(error.value)


def test_a_dask_block_with_an_unexpected_number_of_rows_is_refused():
    X = da.zeros((40, 2), chunks=(20, 2)).map_blocks(
        lambda b: b[:7], chunks=((20, 20), (2,)), meta=np.zeros((0, 2))
    )
    with pytest.raises(
        DataError, match=r"dask said 20 rows and the block has 7.*compute_chunk_sizes"
    ):
        opened(X).load(1)


@pytest.mark.parametrize("columns", [slice(0, 2), [0, 1, 2, 2]])
def test_a_dask_block_with_an_unexpected_number_of_columns_is_refused(columns):
    X = da.ones((20, 3), chunks=(5, 3)).map_blocks(lambda block: block[:, columns], dtype=float)
    with pytest.raises(
        DataError,
        match=r"X, block 1: dask said 3 columns and the block has shape \(5, [24]\).* chunks=",
    ):
        opened(X, np.arange(20) % 2).load(1)


def test_a_dask_source_is_resident_if_its_features_are():
    X, y = da.ones((20, 3), chunks=(5, 3)), da.zeros(20, chunks=5, dtype=int)
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ) as client:
        assert opened(client.persist(X), y).resident
        half = opened(X, client.persist(y))
        assert not half.resident
        assert all(half.needs(chunk) for chunk in range(4))
        assert_array_equal(half.load(2).y, np.zeros(5))
