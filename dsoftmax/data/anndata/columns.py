"""Columns of a table of AnnData: categories, and values beside a mask."""

from abc import abstractmethod
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer
from dsoftmax.data.rows import Rows
from dsoftmax.errors import DataError, ReadError

SCANNED_ROWS = 2**20
"""Rows that are read at once to count those without a value, for a message."""


class ColumnRows(Rows):
    """A column some of whose rows may have no value, as the stored data declare.

    Attributes
    ----------
    name : str
        Name of the column in messages.
    path : str
        Path of the column in its AnnData, such as ``obs/cell_type``.
    """

    name: str
    path: str

    @abstractmethod
    def read_masked(self, start: int, stop: int) -> tuple[NDArray, NDArray[np.bool_]]:
        """Return values, and whether each row has none. A row without one has any value.

        Returns
        -------
        values : (rows,) ndarray
        missing : (rows,) bool
        """
        ...

    @abstractmethod
    def declared(self) -> str:
        """Return the words for what declares that a row has no value."""
        ...

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        """Return rows ``start:stop``.

        Raises
        ------
        DataError
            A row has no value. The message names the first one, and how many there are.
        """
        values, missing = self.read_masked(start, stop)
        if missing.any():
            raise self._missing(start + int(np.argmax(missing)))
        return values

    def _missing(self, row: int) -> DataError:
        n = self.shape[0]
        spans = ((low, min(low + SCANNED_ROWS, n)) for low in range(0, n, SCANNED_ROWS))
        count = sum(int(self.read_masked(*span)[1].sum()) for span in spans)
        key = self.path.rpartition("/")[2]
        inside = "" if self.name.endswith(self.path) else f" of {self.path}"
        return DataError(
            f"{self.name} row {row:,}: the value is missing ({self.declared()}{inside}), as in "
            f"{count:,} of {n:,} rows; expected one in every row. Leave out these rows: with "
            f"AnnData, write adata[adata.obs[{key!r}].notna()] to a new store."
        )

    def smaller_chunks(self, rows: int) -> str:
        return ""  # one array of the column alone would be no column


class CategoricalRows(ColumnRows):
    """A categorical column: the category of each row, by its code. The code −1 means none.

    Parameters
    ----------
    codes : Rows
        Integers, (n,).
    categories : (K,) ndarray
        Numbers, booleans, or strings of fixed width.
    name, path : str
        See `ColumnRows`.
    """

    def __init__(self, codes: Rows, categories: NDArray, name: str, path: str) -> None:
        self.codes, self.categories, self.name, self.path = codes, categories, name, path

    def __reduce__(self) -> tuple[Any, ...]:
        return CategoricalRows, (self.codes, self.categories, self.name, self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def dtype(self) -> np.dtype:
        return self.categories.dtype

    def declared(self) -> str:
        return "code −1"

    def read_masked(self, start: int, stop: int) -> tuple[NDArray, NDArray[np.bool_]]:
        codes = np.asarray(self.codes.read(start, stop))
        missing = codes < 0
        K = len(self.categories)
        if codes.size and int(codes.max()) >= K:
            row = start + int(np.argmax(codes >= K))
            raise ReadError(
                f"{self.name} row {row:,}: the code is {int(codes.max())}; expected −1, or one of "
                f"the {K:,} categories. The column is damaged. Write it again from its origin."
            )
        if K == 0:
            return np.zeros(len(codes), self.dtype), missing
        return self.categories[np.where(missing, 0, codes)], missing

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.codes.cached_bytes(starts)

    def describe(self) -> dict[str, Any]:
        stored = self.codes.describe()
        digest = blake2b(repr(self.categories.tolist()).encode(), digest_size=16)
        return {
            **stored,
            "kind": f"{stored['kind']} categorical",
            "categories": len(self.categories),
            "digest": digest.hexdigest(),
        }


class NullableRows(ColumnRows):
    """A column of values beside a mask that is true where there is none.

    Parameters
    ----------
    values, mask : Rows
        Arrays of shape (n,).
    name, path : str
        See `ColumnRows`.
    """

    def __init__(self, values: Rows, mask: Rows, name: str, path: str) -> None:
        self.values, self.mask, self.name, self.path = values, mask, name, path

    def __reduce__(self) -> tuple[Any, ...]:
        return NullableRows, (self.values, self.mask, self.name, self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def declared(self) -> str:
        return "true in the mask"

    def read_masked(self, start: int, stop: int) -> tuple[NDArray, NDArray[np.bool_]]:
        return np.asarray(self.values.read(start, stop)), np.asarray(self.mask.read(start, stop))

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.values.cached_bytes(starts) + self.mask.cached_bytes(starts)

    def describe(self) -> dict[str, Any]:
        stored = self.values.describe()
        return {**stored, "kind": f"{stored['kind']} nullable", "mask": self.mask.describe()}
