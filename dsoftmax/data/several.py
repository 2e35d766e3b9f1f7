"""Several label columns beside one X, as one column whose values have a field for each of them.

So they are cut, cached and sent as any other column. Fields are named by their numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.kind import kind_of
from dsoftmax.data.missing import is_masked
from dsoftmax.data.rows import Rows, Stored
from dsoftmax.errors import DataError


def with_labels(block: Block, number: int, name: str) -> Block:
    """Return a block of several label columns with the one of this number alone.

    Parameters
    ----------
    block : Block
    number : int
    name : str
        Name of the column in messages.
    """
    assert block.y is not None
    y = np.ascontiguousarray(block.y[str(number)])
    return replace(block, y=y, names=replace(block.names, y=name))


def _joined(columns: Sequence[Any], names: Sequence[str], first_row: int = 0) -> NDArray:
    """Return label columns as one column.

    Raises
    ------
    DataError
        A label is missing.
    """
    for name, column in zip(names, columns, strict=True):
        if is_masked(column) and np.ma.getmaskarray(column).any():
            row = first_row + int(np.argmax(np.ma.getmaskarray(column)))
            raise DataError(
                f"{name} row {row:,}: the label is missing; expected a label of every column for "
                "every row. Train on this column alone, which skips such rows."
            )
    plain = [np.asarray(column) for column in columns]
    found = np.empty(len(plain[0]), _dtype(plain))
    for number, one in enumerate(plain):
        found[str(number)] = one
    return found


def several_labels(columns: Mapping[str, Any]) -> Any:
    """Return label columns (n,) as one column.

    Parameters
    ----------
    columns : mapping from str to (n,) array
        By the name in messages. Arrays in memory stay there, and stored arrays are read with the
        rows of X. A dask array is computed, because labels are small beside X.

    Raises
    ------
    DataError
        The lengths differ, or a label in memory is missing.
    """
    names = tuple(columns)
    arrays = [one.compute() if kind_of(one) == "dask" else one for one in columns.values()]
    for name, one in zip(names, arrays, strict=True):
        if tuple(one.shape) != tuple(arrays[0].shape):
            raise DataError(
                f"{name} has shape {tuple(one.shape)} and {names[0]} {tuple(arrays[0].shape)}; "
                "expected one value per row in each. Check that they belong to the same rows."
            )
    if all(kind_of(one) == "memory" for one in arrays):
        return _joined(arrays, names)
    return StoredSeveral(tuple(arrays), names)


@dataclass(frozen=True)
class StoredSeveral(Stored):
    """Several label columns, of which some are stored.

    Attributes
    ----------
    columns : tuple of arrays
    names : tuple of str
    """

    columns: tuple[Any, ...]
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.columns[0].shape[0]),)

    @property
    def dtype(self) -> np.dtype:
        return _dtype(self.columns)

    @property
    def place(self) -> str:
        return ",".join(self.names)

    def rows(self, name: str, missing_chunks: str) -> Rows:
        from dsoftmax.data.readers import reader_of

        pairs = zip(self.columns, self.names, strict=True)
        readers = tuple(reader_of(one, own, missing_chunks) for one, own in pairs)
        return SeveralRows(readers, self.names)


@dataclass(frozen=True)
class SeveralRows(Rows):
    """A reader of several label columns.

    Attributes
    ----------
    readers : tuple of Rows
    names : tuple of str
    """

    readers: tuple[Rows, ...]
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.readers[0].shape

    @property
    def dtype(self) -> np.dtype:
        return _dtype(self.readers)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> NDArray:
        found = []
        for reader in self.readers:
            values: Any = reader.read(start, stop)
            for mark in reader.declared:
                values = np.ma.masked_where(values == mark, values)
            found.append(values)
        return _joined(found, self.names, start)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> "SeveralRows":
        return replace(self, readers=tuple(one.only(starts, stops) for one in self.readers))

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return sum(one.cached_bytes(starts) for one in self.readers)

    def smaller_chunks(self, rows: int) -> str:
        return "\n  ".join(filter(None, (one.smaller_chunks(rows) for one in self.readers)))

    def describe(self) -> dict[str, Any]:
        return {name: one.describe() for name, one in zip(self.names, self.readers, strict=True)}


def _dtype(columns: Sequence[Any]) -> np.dtype:
    """Return the dtype of all columns. A field cannot hold strings of any length, but objects."""
    plain = [np.dtype(one.dtype) for one in columns]
    kinds = [np.dtype(object) if one.kind == "T" else one for one in plain]
    return np.dtype([(str(number), kind) for number, kind in enumerate(kinds)])
