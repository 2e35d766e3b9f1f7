"""The same rows in every kind of storage that `open_source` knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cells
import dask.array as da
import numcodecs
import numpy as np
import scipy.sparse
import zarr
from zarr.codecs import BloscCodec

N, P = 300, 5
LONG = np.array(["a", "béé", "c" * 50], np.dtypes.StringDType())


@dataclass(frozen=True)
class Stored:
    """Arrays to open, and the rows that must come out."""

    args: tuple[Any, ...]
    X: Any
    y: Any
    weights: Any

    def __iter__(self):
        return iter(self.args)


def rows(dtype="f8"):
    rng = np.random.default_rng(7)
    X = rng.normal(size=(N, P)).astype(dtype)
    X[rng.random((N, P)) < 0.3] = 0
    return X, rng.integers(0, 3, N), rng.integers(1, 9, N) / 4


def array(path, name, values, chunks, **options):
    """Write one Zarr array, also its chunks of zeros."""
    options.setdefault("config", {"write_empty_chunks": True})
    if values.dtype.kind != "T":
        return zarr.create_array(path / name, data=values, chunks=chunks, **options)
    made = zarr.create_array(path / name, shape=values.shape, dtype=str, chunks=chunks, **options)
    made[:] = values
    return made


def in_zarr(x_chunks=(64, P), y_chunks=(64,), dtype="f8", labels=None, weights=True, **options):
    def make(path):
        X, y, w = rows(dtype)
        y = y if labels is None else np.asarray(labels)[y]
        stored_y = array(path, "y", y, y_chunks, zarr_format=options.get("zarr_format", 3))
        stored_w = array(path, "w", w, (50,)) if weights else None
        return Stored(
            (array(path, "X", X, x_chunks, **options), stored_y, stored_w),
            X,
            y,
            w if weights else None,
        )

    return make


def in_cells(labels=("B", "NK", "T"), sparse=True, dtype="f4", zarr_format=3, **options):
    """AnnData: the chunks of values, of codes and of rows are cut otherwise."""

    def make(path):
        X, y, w = rows(dtype)
        y = np.asarray(labels)[y]
        group = cells.root(path / "cells", zarr_format=zarr_format)
        write = cells.csr if sparse else cells.put
        return Stored(
            (
                write(group, "X", X, **options),
                cells.categorical(group, "kind", y, (41,)),
                cells.nullable(group, "weight", w, np.zeros(N), chunks=(50,)),
            ),
            X,
            y,
            w,
        )

    return make


def in_memory(convert, dtype="f8", labels=None):
    def make(path):
        X, y, w = rows(dtype)
        y = y if labels is None else np.asarray(labels)[y]
        return Stored((convert(X), y, w), X, y, w)

    return make


def in_dask(convert_X, convert_y, convert_w=lambda w, path: None, dtype="f8"):
    def make(path):
        X, y, w = rows(dtype)
        weights = convert_w(w, path)
        return Stored(
            (convert_X(X, path), convert_y(y, path), weights), X, y, None if weights is None else w
        )

    return make


def cut(chunks):
    return lambda values, path: da.from_array(values, chunks=chunks)


def csr_blocks(values, path):
    return da.from_array(values, chunks=(70, -1)).map_blocks(scipy.sparse.csr_array)


def csr_matrix_blocks(values, path):
    return da.from_array(values, chunks=(70, -1)).map_blocks(scipy.sparse.csr_matrix)


def unknown(values, path):
    """An array filtered by a mask that keeps all rows, so that dask does not know the sizes."""
    whole = da.from_array(values, chunks=(90, *values.shape[1:]))
    return whole[da.from_array(np.ones(len(values), bool), chunks=90)]


UNEVEN = (1, 99, 50, 0, 150)

KINDS: dict[str, Callable[[Any], Stored]] = {
    "numpy": in_memory(np.ascontiguousarray),
    "numpy float32": in_memory(np.ascontiguousarray, "f4"),
    "numpy int8, string labels": in_memory(np.ascontiguousarray, "i1", ["cat", "dog", "owl"]),
    "numpy big-endian, Fortran order": in_memory(np.asfortranarray, ">f8"),
    "numpy strided": in_memory(lambda X: np.repeat(X, 2, axis=1)[:, ::2]),
    "lists": in_memory(lambda X: X.tolist()),
    "csr_array": in_memory(scipy.sparse.csr_array),
    "csr_matrix": in_memory(scipy.sparse.csr_matrix),
    "csc": in_memory(scipy.sparse.csc_array),
    "coo": in_memory(scipy.sparse.coo_matrix),
    "lil": in_memory(scipy.sparse.lil_array),
    "zarr v3": in_zarr(),
    "zarr v3 uncompressed, uint8": in_zarr(compressors=None, dtype="u1"),
    "zarr v3 Blosc": in_zarr((200, P), compressors=BloscCodec(blocksize=1024)),
    "zarr v3 Blosc, content as it is": in_zarr(
        (200, P), dtype="u2", compressors=BloscCodec(clevel=0)
    ),
    "zarr v3 sharded": in_zarr((16, P), shards=(64, P)),
    "zarr v3 sharded by columns": in_zarr((16, 2), shards=(64, 4)),
    "zarr v3 sharded, uncompressed, index first": in_zarr(
        (16, P), shards={"shape": (64, P), "index_location": "start"}, compressors=None
    ),
    "zarr v3 uncompressed, by columns": in_zarr((70, 2), compressors=None),
    "zarr v3 uneven, by columns": in_zarr((70, 2), (41,)),
    "zarr v3 one chunk larger than the array": in_zarr((1000, 50), (500,)),
    "zarr v3 labels in one chunk": in_zarr((64, P), (N,)),
    "zarr v3 labels in small chunks": in_zarr((128, P), (7,)),
    "zarr v3 no weights": in_zarr(weights=False),
    "zarr v3 strings of any length": in_zarr(labels=LONG),
    "zarr v3 big-endian": in_zarr(dtype=">f4"),
    "zarr v3 Fortran order": in_zarr(config={"order": "F", "write_empty_chunks": True}),
    "zarr v2": in_zarr(zarr_format=2),
    "zarr v2 Blosc": in_zarr((200, P), zarr_format=2, compressors=numcodecs.Blosc(blocksize=256)),
    "zarr v2 uncompressed": in_zarr(zarr_format=2, compressors=None),
    "zarr v2 Fortran order, float16": in_zarr(zarr_format=2, order="F", dtype="f2"),
    "zarr v2 big-endian": in_zarr(zarr_format=2, dtype=">i4"),
    "zarr v2 fixed strings": in_zarr(zarr_format=2, labels=["a", "béé", "cc"]),
    "zarr v2 strings of any length": in_zarr(zarr_format=2, labels=LONG),
    "AnnData csr": in_cells(),
    "AnnData csr, sharded, int64 columns": in_cells(chunks=(50,), shards=(200,), index="i8"),
    "AnnData csr, v2, big-endian, number labels": in_cells((7, 3, 5), dtype=">f4", zarr_format=2),
    "AnnData csr uncompressed": in_cells(compressors=None),
    "AnnData csr in one chunk": in_cells(chunks=(10_000,), dtype="i4"),
    "AnnData dense, by columns": in_cells(sparse=False, chunks=(70, 2)),
    "dask": in_dask(cut((100, -1)), cut(100), cut(100)),
    "dask float32 uneven with an empty block": in_dask(
        cut((UNEVEN, P)), cut((UNEVEN,)), dtype="f4"
    ),
    "dask by columns, labels cut otherwise": in_dask(cut((64, 2)), cut(77), cut(31)),
    "dask csr_array": in_dask(csr_blocks, cut(100), cut(70)),
    "dask csr_matrix": in_dask(csr_matrix_blocks, cut(70)),
    "dask unknown sizes": in_dask(unknown, unknown, unknown),
    "dask with labels in numpy": in_dask(cut((100, -1)), lambda y, path: y, lambda w, path: w),
    "dask with labels in lists": in_dask(cut((100, -1)), lambda y, path: y.tolist()),
    "dask unknown with labels in numpy": in_dask(unknown, lambda y, path: y),
    "dask with labels in zarr": in_dask(cut((100, -1)), lambda y, path: array(path, "y", y, (64,))),
    "zarr with labels in dask": in_dask(lambda X, path: array(path, "X", X, (64, 2)), cut(100)),
    "numpy with labels in dask": in_dask(lambda X, path: X, cut(100)),
    "csr with labels in dask": in_dask(lambda X, path: scipy.sparse.csr_array(X), cut(100)),
    "zarr with labels in numpy": in_dask(
        lambda X, path: array(path, "X", X, (64, P)), lambda y, path: y, lambda w, path: w
    ),
    "numpy with labels in zarr": in_dask(
        lambda X, path: X, lambda y, path: array(path, "y", y, (64,))
    ),
}
