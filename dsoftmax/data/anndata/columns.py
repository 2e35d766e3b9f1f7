"""Columns of a table of AnnData: categories, and values beside a mask.

Rows without a value are masked when they are read.
"""

from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer
from dsoftmax.data.rows import Rows
from dsoftmax.data.together import read_together
from dsoftmax.errors import ReadError


class CategoricalRows(Rows):
    """A categorical column: the category of each row, by its code. The code −1 means none.

    Parameters
    ----------
    codes : Rows
        Integers, (n,).
    categories : (K,) ndarray
        Numbers, booleans, or strings of fixed width.
    name : str
        Name of the column in messages.
    """

    def __init__(self, codes: Rows, categories: NDArray, name: str) -> None:
        self.codes, self.categories, self.name = codes, categories, name

    def __reduce__(self) -> tuple[Any, ...]:
        return CategoricalRows, (self.codes, self.categories, self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def dtype(self) -> np.dtype:
        return self.categories.dtype

    @property
    def in_flight(self) -> int:
        return self.codes.in_flight

    @property
    def masked(self) -> bool:
        return True

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        codes = np.asarray(self.codes.read(start, stop))
        K = len(self.categories)
        if codes.size and int(codes.max()) >= K:
            row = start + int(np.argmax(codes >= K))
            raise ReadError(
                f"{self.name} row {row:,}: the code is {int(codes.max())}; expected −1, or one of "
                f"the {K:,} categories. The column is damaged. Write it again from its origin."
            )
        missing = codes < 0
        known = self.categories if K else np.zeros(1, self.dtype)
        return _masked(known[np.where(missing, 0, codes)], missing)

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.codes.cached_bytes(starts)

    def describe(self) -> dict[str, Any]:
        stored = self.codes.describe()
        digest = blake2b(repr(self.categories.tolist()).encode(), digest_size=16)
        return {
            **stored,
            "kind": f"{stored['kind']} categorical",
            "missing": ["code −1"],
            "categories": len(self.categories),
            "digest": digest.hexdigest(),
        }


class NullableRows(Rows):
    """A column of values beside a mask that is true where there is none.

    Parameters
    ----------
    values, mask : Rows
        Arrays of shape (n,).
    """

    def __init__(self, values: Rows, mask: Rows) -> None:
        self.values, self.mask = values, mask

    def __reduce__(self) -> tuple[Any, ...]:
        return NullableRows, (self.values, self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def in_flight(self) -> int:
        return self.values.in_flight

    @property
    def masked(self) -> bool:
        return True

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        values, mask = read_together(
            [partial(part.read, start, stop) for part in (self.values, self.mask)],
            self.in_flight > 1,
        )
        return _masked(np.asarray(values), np.asarray(mask, bool))

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.values.cached_bytes(starts) + self.mask.cached_bytes(starts)

    def describe(self) -> dict[str, Any]:
        stored = self.values.describe()
        return {
            **stored,
            "kind": f"{stored['kind']} nullable",
            "missing": ["a true mask"],
            "mask": self.mask.describe(),
        }


def _masked(values: NDArray, missing: NDArray[np.bool_]) -> NDArray:
    return np.ma.MaskedArray(values, missing) if missing.any() else values
