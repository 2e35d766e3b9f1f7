"""Chunks of labels that are cut otherwise than those of X are decoded once."""

from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import stored
import zarr
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.zarr.local.files import LocalChunks
from dsoftmax.testing.sources import check_source


def test_labels_in_one_long_chunk_are_read_in_parts(tmp_path):
    X, y = np.zeros((50_000, 2), "f4"), np.arange(50_000)
    arrays = (
        stored.array(tmp_path, "X", X, (1_000, 2)),
        stored.array(tmp_path, "y", y, (50_000,), compressors=None),
    )
    source = opened(*arrays)
    check_source(source, X, y)
    assert source.columns.units == 0  # no unit is cached: only requested rows are read


@pytest.mark.parametrize("convert", [lambda X: X, da.from_zarr])
def test_a_chunk_of_labels_for_many_blocks_is_decoded_once(convert, tmp_path, monkeypatch):
    X, y = np.zeros((50_000, 100), "f4"), np.arange(50_000)
    arrays = (
        stored.array(tmp_path, "X", X, (1_000, 100)),
        stored.array(tmp_path, "y", y, (30_000,)),
    )
    source = opened(convert(arrays[0]), arrays[1])
    assert len(source.chunk_rows) > 15
    assert source.columns.units == 2 * 30_000 * 8
    decoded = []
    read = LocalChunks.read

    def counted(self, start, stop, out):
        if self.ndim == 1:
            decoded.append((start, stop))
        return read(self, start, stop, out)

    monkeypatch.setattr(LocalChunks, "read", counted)
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(source.load, range(len(source.chunk_rows))))
    assert sorted(decoded) == [(0, 30_000), (30_000, 50_000)]
    assert_array_equal(np.concatenate([block.y for block in blocks]), y)
    assert all(block.y.base is None or block.y.base.nbytes < 30_000 for block in blocks)


@pytest.mark.parametrize(("rows", "kept"), [(10**5, 4), (4 * 10**5, 2), (6 * 10**5, 1), (10**7, 1)])
def test_few_large_chunks_of_labels_are_cached(rows, kept, tmp_path):
    X = zarr.create_array(tmp_path / "X", shape=(10**7, 4), chunks=(70_001, 4), dtype="f4")
    y = zarr.create_array(tmp_path / "y", shape=(10**7,), chunks=(rows,), dtype="i8")
    assert opened(X, y).columns.units == kept * 8 * rows
    assert (
        opened(
            X, zarr.create_array(tmp_path / "z", shape=(10**7,), chunks=(70_001,), dtype="i8")
        ).columns.units
        == 0
    )
