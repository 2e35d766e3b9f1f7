"""Rows of remote arrays in every encoding are those that were written, in whole and by leaves."""

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from opening import opened
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from dsoftmax.data.block import Encoded
from dsoftmax.data.zarr.names import open_array
from dsoftmax.data.zarr.remote import requests
from dsoftmax.data.zarr.remote.chunks import RemoteChunks
from dsoftmax.data.zarr.rows import ZarrRows
from dsoftmax.errors import ReadError
from dsoftmax.testing.sources import check_source

N, P = 70, 6
X = np.random.default_rng(1).integers(0, 50, (N, P)).astype("f4")

ENCODINGS = {
    "zstd": {"chunks": (20, P), "compressors": ZstdCodec()},
    "blosc": {"chunks": (20, P), "compressors": BloscCodec(cname="lz4")},
    "gzip": {"chunks": (20, P), "compressors": GzipCodec()},
    "uncompressed": {"chunks": (20, P), "compressors": None},
    "cut along the columns": {"chunks": (20, 4)},
    "v2": {"chunks": (20, P), "zarr_format": 2},
    "v2 fortran": {"chunks": (20, P), "zarr_format": 2, "order": "F"},
    "shards": {"chunks": (10, P), "shards": (40, P)},
    "two compressors": {"chunks": (20, P), "compressors": [ZstdCodec(), GzipCodec()]},
}
BY_ZARR = ("v2 fortran", "shards", "two compressors")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(requests, "PAUSE", 0.001)


def remote(s3, path, values=X, **options):
    options.setdefault("config", {"write_empty_chunks": False})
    zarr.create_array(path / "X", data=values, **options)
    return open_array(s3.put(path, f"chunks/{path.name}"), "X")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_rows_are_those_that_were_written(s3, tmp_path, encoding):
    array = remote(s3, tmp_path, **ENCODINGS[encoding])
    source = opened(array)
    check_source(source, X)
    assert isinstance(ZarrRows(array, "X")._local, RemoteChunks) == (encoding not in BY_ZARR)
    assert_array_equal(ZarrRows(array, "X").read(15, 45), X[15:45])


@pytest.mark.parametrize("encoding", ["zstd", "blosc", "gzip"])
def test_compressed_rows_are_decoded_by_the_thread_that_visits_them(s3, tmp_path, encoding):
    source = opened(remote(s3, tmp_path, **ENCODINGS[encoding]))
    block = source.fetch(0, np.empty(X.nbytes, np.uint8))
    assert isinstance(block.X, Encoded)
    parts = [part.copy() for part in block.X.slices(16)]
    assert_array_equal(np.concatenate(parts), X)
    small = source.fetch(0, np.empty(10, np.uint8)).X
    assert_array_equal(np.concatenate([part.copy() for part in small.slices(7)]), X)


@pytest.mark.parametrize("encoding", ["zstd", "cut along the columns", "uncompressed", "shards"])
def test_absent_chunks_are_lost_or_hold_the_fill_value(s3, tmp_path, encoding):
    values = X.copy()
    values[40:60] = 7
    options = {**ENCODINGS[encoding], "fill_value": 7}
    if encoding == "shards":
        options["shards"], values[40:] = (20, P), 7
    array = remote(s3, tmp_path, values, **options)
    filled = opened(array, missing_chunks="fill")
    assert_array_equal(filled.load(0).X, values)
    rows = filled.fetch(0, np.empty(X.nbytes, np.uint8)).X
    parts = rows.slices(16) if isinstance(rows, Encoded) else [rows]
    assert_array_equal(np.concatenate([part.copy() for part in parts]), values)
    for read in (opened(array).load, lambda chunk: opened(array).fetch(chunk, np.empty(0, "u1"))):
        with pytest.raises(ReadError, match=r"X rows [46]0–.*: the chunk c/[23]/0 is not in s3://"):
            read(0)


def test_a_damaged_chunk_is_named_before_or_while_it_is_decoded(s3, tmp_path):
    zarr.create_array(tmp_path / "X", data=X, chunks=(20, P), compressors=BloscCodec())
    (tmp_path / "X/c/1/0").write_bytes(b"no codec wrote this")
    source = opened(open_array(s3.put(tmp_path, f"chunks/{tmp_path.name}"), "X"))
    for read in (source.load, lambda chunk: source.fetch(chunk, np.empty(X.nbytes, np.uint8))):
        with pytest.raises(ReadError, match="X rows 20–39 cannot be read"):
            list(read(0).leaves())


def test_labels_in_other_chunks_are_read_once_for_all_their_rows(s3, tmp_path):
    y = np.arange(N) % 3 + 1
    zarr.create_array(tmp_path / "y", data=y, chunks=(40,))
    array = remote(s3, tmp_path, chunks=(20, P))
    rows = ZarrRows(open_array(f"s3://bucket/chunks/{tmp_path.name}/y", None), "y")
    for start in range(0, N, 10):
        assert_array_equal(rows.read(start, start + 10), y[start : start + 10])
    asked = {path: n for path, n in s3.proxy.of_chunks().items() if "/y/" in path}
    assert set(asked.values()) == {1}
    check_source(opened(array, rows.array), X, y)
