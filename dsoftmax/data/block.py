"""Blocks: the rows of one chunk in memory.

A **source** is stored data cut into **chunks**. A chunk is a number, and loading it twice gives
equal **blocks**. Only the storage decides how chunks are cut: whole Zarr chunks or shards, blocks
of a dask array. Memory limits and workers do not. Every engine therefore adds the same leaves.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.checks import real_weights
from dsoftmax.data.features import Features, rows_between
from dsoftmax.data.groups import group_keys
from dsoftmax.data.leaves import MOST_LEAF_ROWS, leaf_rows
from dsoftmax.data.missing import REASONS, Reasons, joined, missing_rows
from dsoftmax.data.scaling import Scaling
from dsoftmax.data.skipped import searched
from dsoftmax.data.table import DEFAULT_NAMES, Names, Table


class Encoded(ABC):
    """Rows of X that are not decoded yet.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy dtype
    """

    shape: tuple[int, int]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded rows."""
        return math.prod(self.shape) * self.dtype.itemsize

    @abstractmethod
    def slices(self, n_rows: int) -> Iterator[NDArray]:
        """Yield ``n_rows`` decoded rows at a time.

        A slice is valid until the same thread asks for the next one.
        """


PixelOf = Callable[[int], Mapping[str, int]]
"""The place of a row in a cube: its index along each dimension."""


class Pixel(int):
    """The number of a row of a cube. Formatted, it ends with its place: "12 (y 3, x 5)"."""

    place: Mapping[str, int]

    def __format__(self, spec: str) -> str:
        where = ", ".join(f"{name} {i:,}" for name, i in self.place.items())
        return f"{int(self).__format__(spec)} ({where})"


@dataclass(frozen=True)
class RowNumbers:
    """Numbers of rows: ``numbers + i`` is that of row i of a block.

    Attributes
    ----------
    first_row : int
        Number of the first row, if the rows are consecutive.
    numbers : (rows,) int64 or None
        Numbers of rows that are not consecutive.
    pixel : callable or None
        The place of a row, if the rows are pixels.
    """

    first_row: int
    numbers: NDArray[np.int64] | None
    pixel: PixelOf | None = None

    def __add__(self, row: int) -> int:
        number = self.first_row + row if self.numbers is None else int(self.numbers[row])
        if self.pixel is None:
            return number
        found = Pixel(number)
        found.place = self.pixel(number)
        return found


@dataclass(frozen=True)
class Block:
    """The rows of a chunk in memory.

    Attributes
    ----------
    X : (rows, p) ndarray, CSR or Encoded
        Features in the stored dtype. `Encoded` only in a block that was fetched; `leaves` decodes
        it.
    y : (rows,) ndarray or None
        Labels as stored.
    weights : (rows,) float64 or None
    first_row : int
        Number of the block's first row in its arrays.
    names : Names
        Names of the arrays in messages.
    groups : (rows,) uint64 or None
        Number of each row's group: see `dsoftmax.data.groups`.
    validation : bool
        Whether the rows belong to the validation set.
    reasons : (rows,) uint8 or None
        Code of the reason why each row is skipped: see `dsoftmax.data.missing`. None if no row is
        known to be skipped.
    nodata : tuple
        Missing values of an `Encoded` X, whose rows are searched once they are decoded.
    numbers : (rows,) int64 or None
        Numbers of the rows if others between them were skipped, else None.
    scaling : Scaling or None
        The map from the stored features to those that they mean; None if they are the same.
    pixel : callable or None
        The place of a row in a cube, for messages.
    """

    X: Features
    y: NDArray | None = None
    weights: NDArray[np.float64] | None = None
    first_row: int = 0
    names: Names = DEFAULT_NAMES
    groups: NDArray[np.uint64] | None = None
    validation: bool = False
    reasons: Reasons | None = None
    nodata: tuple[Any, ...] = ()
    numbers: NDArray[np.int64] | None = None
    scaling: Scaling | None = None
    pixel: PixelOf | None = None

    @classmethod
    def of(
        cls,
        values: Table[Any],
        first_row: int,
        scaling: Scaling | None = None,
        pixel: PixelOf | None = None,
    ) -> "Block":
        """Return the block of these values as read: weights become float64, groups become numbers.

        Masks and missing values become the reasons of rows that are skipped.

        Raises
        ------
        DataError
            The weights are not real numbers, or a group is missing.
        """
        values = searched(values)
        names = values.names
        return cls(
            values.X,
            None if values.y is None else np.asarray(values.y),
            None if values.weights is None else real_weights(values.weights, names.weights),
            first_row,
            names,
            None
            if values.groups is None
            else _keys(np.asarray(values.groups), names.groups, first_row, values.skipped),
            reasons=values.skipped,
            nodata=values.missing.X,
            scaling=scaling,
            pixel=pixel,
        )

    def decoded(self) -> "Block":
        """Return the block with the features that are meant: itself, or a copy in float64."""
        if self.scaling is None:
            return self
        return replace(self, X=self.scaling.decoded(self.X), scaling=None)

    @property
    def n_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of X, decoded."""
        if scipy.sparse.issparse(self.X):
            return int(self.X.data.nbytes + self.X.indices.nbytes + self.X.indptr.nbytes)
        return int(self.X.nbytes)

    @property
    def origin(self) -> int | RowNumbers:
        """Number of the first row; ``origin + i`` is the number of row i."""
        if self.numbers is None and self.pixel is None:
            return self.first_row
        return RowNumbers(self.first_row, self.numbers, self.pixel)

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """Number of each row in its arrays, (rows,) int64."""
        return self.first_row + np.arange(self.n_rows) if self.numbers is None else self.numbers

    def counted(self) -> tuple["Block", NDArray[np.int64] | None]:
        """Return the rows that count, and the numbers of the others by reason.

        Returns
        -------
        Block
            Without reasons. It is this block if all rows count, otherwise a copy of its rows.
        (4,) int64 or None
            Rows that were skipped, in the order of `dsoftmax.data.missing.REASONS`; None if all
            rows count.
        """
        reasons = self.reasons
        if self.nodata and (dark := missing_rows(self.X, self.nodata)) is not None:
            reasons = joined(reasons, dark.astype(np.uint8))
        if reasons is None or not reasons.any():
            return (self if reasons is None else replace(self, reasons=None)), None
        rows = np.flatnonzero(reasons == 0)
        some = replace(
            self,
            X=self.X[rows] if scipy.sparse.issparse(self.X) else self.X.take(rows, axis=0),
            y=None if self.y is None else self.y[rows],
            weights=None if self.weights is None else self.weights[rows],
            groups=None if self.groups is None else self.groups[rows],
            reasons=None,
            nodata=(),
            numbers=self.first_row + rows if self.numbers is None else self.numbers[rows],
        )
        counts = [np.count_nonzero(reasons == code) for code in range(1, len(REASONS) + 1)]
        return some, np.array(counts, np.int64)

    def leaves(self) -> Iterator["Block"]:
        """Yield the block in leaves: the runs of rows whose sums are added without order.

        A dense leaf has `leaf_rows` rows. A CSR leaf has `MOST_LEAF_ROWS` rows, because the cost of
        adding its sums does not depend on the number of its values.
        """
        step = MOST_LEAF_ROWS if scipy.sparse.issparse(self.X) else leaf_rows(self.X.shape[1])
        if self.n_rows <= step and not isinstance(self.X, Encoded):
            yield self
            return
        start = 0
        for X in slices_of(self.X, step):
            yield self._between(start, start + X.shape[0], X)
            start += X.shape[0]

    def between(self, start: int, stop: int) -> "Block":
        """Return rows ``start:stop``, as views."""
        return self._between(start, stop, rows_between(self.X, start, stop))

    def _between(self, start: int, stop: int, X: Features) -> "Block":
        return replace(
            self,
            X=X,
            y=None if self.y is None else self.y[start:stop],
            weights=None if self.weights is None else self.weights[start:stop],
            first_row=self.first_row + start,
            groups=None if self.groups is None else self.groups[start:stop],
            reasons=None if self.reasons is None else self.reasons[start:stop],
            numbers=None if self.numbers is None else self.numbers[start:stop],
        )


def _keys(
    values: NDArray, name: str, first_row: int, reasons: Reasons | None
) -> NDArray[np.uint64]:
    """Return the numbers of groups; those of skipped rows mean nothing."""
    if reasons is not None and reasons.any():
        counted = np.flatnonzero(reasons == 0)
        if not len(counted):
            return np.zeros(len(values), np.uint64)
        values = np.where(reasons > 0, values[counted[0]], values)
    return group_keys(values, name, first_row)


def slices_of(X: Features | Encoded, n_rows: int) -> Iterator[Features]:
    """Yield ``n_rows`` rows at a time. A slice is valid until the next one is asked for."""
    if isinstance(X, Encoded):
        yield from X.slices(n_rows)
        return
    for start in range(0, X.shape[0], n_rows):
        yield rows_between(X, start, min(start + n_rows, X.shape[0]))
