"""HDF5 datasets of h5py, read by rows.

Chunked datasets are read by whole chunks of rows, contiguous ones by any rows. A lock of h5py lets
one thread read at a time. Workers open the file again, by its path.
"""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dsoftmax.compat.h5py import dataset_of
from dsoftmax.data.buffer import Buffer, array_in
from dsoftmax.data.columns import value_bytes
from dsoftmax.data.rows import StoredRows
from dsoftmax.data.zarr.units import Units, read_span
from dsoftmax.errors import DataError, ReadError

IN_MEMORY = ("core", "fileobj")
"""Drivers of h5py whose files no other process can open."""


def is_view(values: Any) -> bool:
    """Return whether the values are a view of a dataset, by ``astype``, ``asstr`` or ``fields``."""
    return dataset_of(values) not in (None, values)


def with_text(values: Any) -> Any:
    """Return a view of a dataset of strings that reads them as text, and others as they are."""
    text = isinstance(values, h5py.Dataset) and h5py.check_string_dtype(values.dtype)
    return values.asstr() if text else values


def require_open(values: Any, name: str) -> None:
    """Raise unless the values are a dataset, a view of one, or a group of an open file.

    Raises
    ------
    DataError
    """
    dataset = dataset_of(values)
    if not (values if dataset is None else dataset):
        raise DataError(
            f"{name} is a closed h5py object; expected an open dataset. Open its file again, and "
            "keep it open."
        )


def require_dataset(values: Any, name: str) -> None:
    """Raise if the values are a group.

    Raises
    ------
    DataError
    """
    if isinstance(values, h5py.Group):
        found = [key for key, one in values.items() if isinstance(one, h5py.Dataset)]
        cure = "Pass a dataset"
        if found:
            cure = f"Pass one of them: {name}[{(name if name in found else found[0])!r}]"
        raise DataError(
            f"{name} is a group of HDF5; expected one dataset. It has "
            f"{', '.join(found) or 'no datasets'}. {cure}."
        )


class Hdf5Rows(StoredRows):
    """A dataset of HDF5, or a view of one by ``astype``, ``asstr`` or ``fields``.

    Parameters
    ----------
    values : h5py.Dataset or view
    name : str
        Name of the array in messages.
    """

    def __init__(self, values: Any, name: str) -> None:
        self.values, self.name = values, name
        self.dataset: Any = dataset_of(values)
        self._units = Units(self.unit_bytes, shared=self.ndim == 1)

    def __reduce__(self) -> tuple[Any, ...]:
        file = self.dataset.file
        if file.driver in IN_MEMORY or file.mode != "r":
            found = "in memory" if file.driver in IN_MEMORY else "open for writing"
            raise DataError(
                f"{self.name} is a dataset of an HDF5 file {found}, which no worker can open; "
                "expected a file on disk that is open for reading. Open it with mode='r', or pass "
                "engine='threads'."
            )
        path = str(Path(file.filename).absolute())
        return _opened, (path, self.dataset.name, _view_of(self.values), self.name)

    def __dask_tokenize__(self) -> Any:
        return sorted(self.describe().items(), key=str)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.dataset.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.values.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of a stored chunk; of the dataset if it is contiguous."""
        return tuple(self.dataset.chunks or self.shape)

    @property
    def unit_rows(self) -> int:
        """Rows that can be read without reading others: those of a stored chunk, or 1."""
        return 1 if self.dataset.chunks is None else int(self.dataset.chunks[0])

    @property
    def unit_bytes(self) -> int:
        """Bytes of these rows, decoded, if each row is one value."""
        return min(self.unit_rows, self.shape[0] if self.ndim else 1) * value_bytes(self.dtype)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray:
        """Read a span of rows, as dask asks for it."""
        start, stop, _ = index[0].indices(self.shape[0])
        return self.read(start, stop)[(slice(None), *index[1:])]

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        if self.ndim > 1:
            return self._read(start, stop, buffer)
        span = (start, stop, self.shape[0])
        out = array_in(buffer, (stop - start,), self.dtype) if self._numbers else None
        return read_span(self._units, self.unit_rows, span, self._read, self._read, out)

    @property
    def _numbers(self) -> bool:
        return self.dtype.kind in "biuf"

    def _read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        try:
            if self.values is not self.dataset or not self._numbers or start == stop:
                return np.ascontiguousarray(self.values[start:stop], self.dtype)
            out = array_in(buffer, (stop - start, *self.shape[1:]), self.dtype)
            self.dataset.read_direct(out, np.s_[start:stop])
        except (OSError, RuntimeError, ValueError) as error:
            raise ReadError(
                f"{self.name} rows {start:,}–{stop - 1:,} cannot be read ({type(error).__name__}: "
                f"{error}). Their chunks are damaged, or their filter is not installed. Write the "
                "dataset again from its origin, or import hdf5plugin."
            ) from error
        return out

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        if not (starts % self.unit_rows).any():
            return 0
        return min(len(self._units), -(-self.shape[0] // self.unit_rows)) * self.unit_bytes

    def smaller_chunks(self, rows: int) -> str:
        if self.dataset.chunks is None or self.stored[0] <= rows:
            return ""
        path, name = str(Path(self.dataset.file.filename).absolute()), self.dataset.name
        old, new, inner = (
            json.dumps(one, ensure_ascii=False) for one in (path, f"{path}-{rows}-rows.h5", name)
        )
        step, n = self.stored[0], self.shape[0]
        code = (
            f'import h5py; a = h5py.File({old}, "r")[{inner}]; '
            f'b = h5py.File({new}, "a").create_dataset({inner}, a.shape, a.dtype, '
            f"chunks={(rows, *self.shape[1:])}, compression=a.compression, shuffle=a.shuffle); "
            f"[b.__setitem__(slice(i, i + {step}), a[i : i + {step}]) for i in range(0, {n}, "
            f"{step})]"
        )
        return f"python -c {shlex.quote(code)}"

    def describe(self) -> dict[str, Any]:
        compression = self.dataset.compression
        return {
            "kind": "hdf5",
            "store": f"{self.dataset.file.filename}{self.dataset.name}",
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": list(self.stored),
            "shards": None,
            "format": "HDF5",
            "compressors": [compression] if compression else [],
        }


def hdf5_rows(values: Any, name: str, missing_chunks: str = "error") -> Hdf5Rows:
    """Return the reader of a dataset, after a check that all of it was written.

    Parameters
    ----------
    values : h5py.Dataset or view
    name : str
    missing_chunks : {"error", "fill"}
        Meaning of a chunk that was never written: a loss, or the fill value.

    Raises
    ------
    ReadError
        A chunk was never written. HDF5 would read the fill value there.
    """
    rows = Hdf5Rows(values, name)
    if missing_chunks == "error" and 0 not in rows.shape:
        _require_written(rows)
    return rows


def _require_written(rows: Hdf5Rows) -> None:
    dataset: Any = rows.dataset
    if dataset.is_virtual:
        folder = Path(dataset.file.filename).parent
        for part in dataset.virtual_sources():
            path = folder / part.file_name
            if "%" not in part.file_name and part.file_name != "." and not path.exists():
                raise ReadError(
                    f"{rows.name} is a virtual dataset, and its source {path} is missing; HDF5 "
                    f"would read the fill value {dataset.fillvalue!r} there. {_CURE}"
                )
        return
    if dataset.chunks is None:
        if dataset.external is None and dataset.id.get_storage_size() == 0:
            raise _never_written(rows, 0, rows.shape[0])
        return
    grid = [-(-n // step) for n, step in zip(rows.shape, rows.stored, strict=True)]
    n_stored = dataset.id.get_num_chunks()
    if n_stored >= math.prod(grid):
        return
    there = np.zeros(grid, bool)
    for number in range(n_stored):
        offset = dataset.id.get_chunk_info(number).chunk_offset
        there[tuple(at // step for at, step in zip(offset, rows.stored, strict=True))] = True
    first = int(np.argwhere(~there)[0, 0]) * rows.stored[0]
    raise _never_written(rows, first, min(first + rows.stored[0], rows.shape[0]))


_CURE = (
    "If it was lost, write it again. If the fill value is meant, pass missing_chunks='fill' "
    "(--missing-chunks fill)."
)


def _never_written(rows: Hdf5Rows, start: int, stop: int) -> ReadError:
    return ReadError(
        f"{rows.name} rows {start:,}–{stop - 1:,}: a chunk was never written, and HDF5 would read "
        f"the fill value {rows.dataset.fillvalue!r} there. {_CURE}"
    )


def _view_of(values: Any) -> tuple[str, ...]:
    """Return what makes a view of a dataset again: nothing for the dataset itself."""
    if isinstance(values, h5py.Dataset):
        return ()
    if hasattr(values, "encoding"):
        return ("asstr", values.encoding, values.errors)
    return ("astype", np.dtype(values.dtype).str)


def _opened(path: str, dataset: str, view: tuple[str, ...], name: str) -> Hdf5Rows:
    """Open a dataset again, in a worker."""
    try:
        values = h5py.File(path, "r")[dataset]
    except (OSError, KeyError) as error:
        raise ReadError(
            f"{path} cannot be opened here ({type(error).__name__}: {error}). Every worker needs "
            "the file at this path. Close it where it is open for writing."
        ) from error
    return Hdf5Rows(getattr(values, view[0])(*view[1:]) if view else values, name)
