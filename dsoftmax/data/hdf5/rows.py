"""An HDF5 data set, read by rows."""

import threading
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer, array_in
from dsoftmax.data.rows import Rows
from dsoftmax.errors import ReadError

_FILES: dict[str, Any] = {}
_OPENING = threading.Lock()


class HDF5Rows(Rows):
    """A data set of an HDF5 file.

    h5py reads one chunk at a time in the whole process, so several threads read no faster.

    Parameters
    ----------
    dataset : h5py.Dataset
    name : str
        Name of the array in messages.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name
        self._text = h5py.check_string_dtype(dataset.dtype) is not None

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.dataset.file.filename, self.dataset.name, self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.dataset.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(object if self._text else self.dataset.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of one stored chunk; the whole shape if there are no chunks."""
        return tuple(self.dataset.chunks or self.dataset.shape)

    @property
    def unit_rows(self) -> int:
        """Rows that can be read without reading others."""
        return 1 if self.dataset.chunks is None else int(self.dataset.chunks[0])

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        try:
            if self._text:
                return np.asarray(self.dataset.asstr()[start:stop], dtype=object)
            out = array_in(buffer, (stop - start, *self.shape[1:]), self.dtype)
            if out.size:
                self.dataset.read_direct(out, np.s_[start:stop], np.s_[: stop - start])
            return out
        except (OSError, ValueError, RuntimeError) as error:
            raise ReadError(
                f"{self.name} rows {start:,}–{stop - 1:,} cannot be read ({type(error).__name__}: "
                f"{error}). The file {self.dataset.file.filename} is damaged, truncated or closed. "
                "Write it again from its origin, or open it again."
            ) from error

    def describe(self) -> dict[str, Any]:
        found = self.dataset
        return {
            "kind": "hdf5",
            "store": f"{found.file.filename}{found.name}",
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": list(self.stored),
            "shards": None,
            "format": "HDF5",
            "compressors": [found.compression] if found.compression else [],
        }


def _reopened(file: str, path: str, name: str) -> HDF5Rows:
    """Return the reader in another process, which opens each file once."""
    with _OPENING:
        if not _FILES.get(file):
            _FILES[file] = h5py.File(file, "r")
    return HDF5Rows(_FILES[file][path], name)
