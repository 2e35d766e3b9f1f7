"""Plain local Zarr arrays for tests, and reads of them by our own reader."""

import numpy as np
import zarr
from zarr.codecs import (
    BloscCodec,
    GzipCodec,
    ZstdCodec,
)

from dsoftmax.data.zarr.local.faults import DamagedChunkError
from dsoftmax.data.zarr.local.open import local_chunks

COMPRESSORS = {
    "none": None,
    "blosc": BloscCodec(cname="lz4"),
    "zstd": ZstdCodec(),
    "zstd with checksum": ZstdCodec(checksum=True),
    "gzip": GzipCodec(),
}


SPANS = [(0, 23), (0, 7), (7, 14), (3, 20), (22, 23), (5, 5), (21, 23), (9, 11)]


def stored(path, shape=(23, 5), chunks=(7, 3), dtype="f4", **options):
    options.setdefault("config", {"write_empty_chunks": True})
    array = zarr.create_array(path, shape=shape, chunks=chunks, dtype=dtype, **options)
    array[...] = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    return array


def read(array, start, stop):
    out = np.empty((stop - start, *array.shape[1:]), array.dtype)
    local_chunks(array).read(start, stop, out)
    return out


def fetched(array, start, stop, n_rows, n_bytes=10_000):
    """The rows of fetched slices, copied one by one; None if the rows cannot be fetched."""
    buffer = np.full(n_bytes, 0xA5, np.uint8)
    found = local_chunks(array).fetch(
        start, stop, buffer, lambda key, rows, error: DamagedChunkError(key, rows)
    )
    if found is None:
        return None
    assert (found.shape, found.dtype) == ((stop - start, array.shape[1]), array.dtype)
    assert found.nbytes == (stop - start) * array.shape[1] * array.dtype.itemsize
    pieces = [piece.copy() for piece in found.slices(n_rows)]
    assert [len(piece) for piece in pieces[:-1]] == [n_rows] * (len(pieces) - 1)
    return np.concatenate(pieces)
