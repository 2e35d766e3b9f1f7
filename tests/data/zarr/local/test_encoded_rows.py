"""Rows that are fetched encoded are decoded by slices, and equal the values that Zarr reads."""

import numpy as np
import pytest
from local_arrays import COMPRESSORS, fetched, stored

from dsoftmax.data.zarr.local.faults import DamagedChunkError, MissingChunkError


@pytest.mark.parametrize("n_rows", [1, 2, 7, 10, 23, 100])
@pytest.mark.parametrize("compressor", [name for name in COMPRESSORS if name != "none"])
@pytest.mark.parametrize(
    ("chunks", "shards"),
    [((7, 5), None), ((1, 5), None), ((23, 5), None), ((2, 5), (6, 5)), ((40, 5), None)],
)
def test_slices_of_fetched_rows_equal_zarr(compressor, chunks, shards, n_rows, tmp_path):
    array = stored(tmp_path, chunks=chunks, shards=shards, compressors=COMPRESSORS[compressor])
    for start in range(0, 23, chunks[0]):
        for stop in (23, min(start + chunks[0], 23)):
            np.testing.assert_array_equal(fetched(array, start, stop, n_rows), array[start:stop])


def test_rows_that_cannot_be_decoded_by_slices_are_not_fetched(tmp_path):
    assert fetched(stored(tmp_path / "plain", chunks=(7, 5), compressors=None), 0, 7, 2) is None
    assert fetched(stored(tmp_path / "columns", chunks=(7, 3)), 0, 7, 2) is None
    assert fetched(stored(tmp_path / "wider", chunks=(7, 8)), 0, 7, 2) is None
    assert fetched(stored(tmp_path / "zstd", chunks=(7, 5)), 3, 7, 2) is None
    for name, start in (("zstd", 0), ("blosc", 0), ("blosc", 3)):
        array = stored(
            tmp_path / name, chunks=(7, 5), compressors=COMPRESSORS[name], overwrite=True
        )
        assert fetched(array, start, 7, 2, n_bytes=20) is None
        assert fetched(array, start, 7, 2) is not None


@pytest.mark.parametrize("compressor", [name for name in COMPRESSORS if name != "none"])
def test_fetching_a_missing_or_damaged_file_is_an_error(compressor, tmp_path):
    array = stored(tmp_path, (4000, 5), (2000, 5), compressors=COMPRESSORS[compressor])
    path = tmp_path / "c/1/0"
    encoded = bytearray(path.read_bytes())
    encoded[20 : len(encoded) - 8] = bytes(len(encoded) - 28)
    path.write_bytes(encoded)
    with pytest.raises(DamagedChunkError) as damaged:
        fetched(array, 2000, 4000, 100, n_bytes=40_000)
    assert (damaged.value.key, damaged.value.rows) == ("c/1/0", (2000, 4000))
    path.unlink()
    with pytest.raises(MissingChunkError):
        fetched(array, 0, 4000, 100, n_bytes=80_000)
