"""Totals that do not depend on the order of addition.

One core, eight threads and fifty workers give the same bits.

A leaf is a mapping from keys to parts. A key is any hashable value. The kind of a part decides how
parts with the same key are added.

=====================  ===========================================================
float64 array          exactly, in any order (`ExactSum`)
integer array or int   as integers
`Largest`              entry by entry: the larger; nan wins
`Grouped`              group by group; each group is a leaf of its own
`Rows`                 all rows are collected; the result orders them by number
=====================  ===========================================================

How floats are added
--------------------
The real line is cut at multiples of 2³² into bins (Demmel and Nguyen 2015, "Parallel reproducible
summation", section III, with integer bins). A number is split into its digits in the bins,
towards zero. The split is exact and depends on no other number. Digits are added as 64-bit
integers, and integer addition commutes.

Each entry has the digits of three bins: the highest bin that any of its leaves has reached, and
the two below. Digits under the third bin are cut off. The highest bin is a property of the set of
leaves, so the result is too. The part cut off is below 2⁻⁶⁴ of the largest leaf, for each leaf.
Up to 2³⁰ leaves can be added.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.sums.exact import ExactSum
from dsoftmax.sums.work import Done

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Largest:
    """An array whose entries are maxima."""

    values: Float


@dataclass(frozen=True)
class Grouped:
    """Leaves by group, such as class sums by label."""

    leaves: Mapping[Any, Mapping[Any, Any]]


@dataclass(frozen=True)
class Rounded:
    """An exact sum that was rounded; nothing can be added to it."""

    values: Float


@dataclass(frozen=True)
class Rows:
    """Some rows of the data, which are collected, not added.

    Attributes
    ----------
    numbers : (m,) int64
        Row numbers in the whole data set; each row occurs in one leaf.
    columns : dict from str to (m, …) ndarray or CSR
        Columns by name, such as the labels of the rows.
    """

    numbers: NDArray[np.int64]
    columns: Mapping[str, Any]


class Totals:
    """Sum of the leaves added so far.

    Engines add leaves, and merge the totals of threads and workers.

    Attributes
    ----------
    parts : dict
        Parts by key.
    n_rows, n_bytes, n_leaves : int
        Rows, decoded bytes of X and leaves that were visited.
    skipped : int or (4,) int64
        Rows that were not visited, by reason; 0 if all were.
    work : dict from str to Done
        Work of each worker, by its name; this process has the name "". Not part of the sums.
    reported : bool
        Whether the skipped rows were reported, because several trainings share a pass.
    """

    reported = False

    def __init__(self) -> None:
        self.parts: dict[Any, Any] = {}
        self.work: dict[str, Done] = {}
        self.n_rows = self.n_bytes = self.n_leaves = 0
        self.skipped: Any = 0

    @property
    def n_seen(self) -> int:
        """Rows that were visited or skipped."""
        return self.n_rows + int(np.sum(self.skipped))

    def skip(self, counts: NDArray[np.int64]) -> None:
        """Count rows of a leaf that are not visited, by reason."""
        self.skipped = self.skipped + counts

    def add(self, leaf: Mapping[Any, Any], n_rows: int = 0, n_bytes: int = 0) -> None:
        """Add the sums of one leaf."""
        self.n_rows += n_rows
        self.n_bytes += n_bytes
        self.n_leaves += 1
        for key, part in leaf.items():
            if isinstance(part, Grouped):
                groups = self.parts.setdefault(key, {})
                for group, inner in part.leaves.items():
                    groups.setdefault(group, Totals()).add(inner)
            elif isinstance(part, Largest):
                self.parts[key] = _larger(self.parts.get(key), part)
            elif isinstance(part, Rows):
                self.parts.setdefault(key, []).append(part)
            elif np.asarray(part).dtype.kind in "iub":
                self.parts[key] = self.parts.get(key, 0) + np.asarray(part).astype(np.int64)
            else:
                values = np.asarray(part, np.float64)
                if key not in self.parts:
                    self.parts[key] = ExactSum(values.shape)
                self.parts[key].add(values)

    def merge(self, other: "Totals") -> "Totals":
        """Add other totals, which do not change; return self."""
        self.n_rows += other.n_rows
        self.n_bytes += other.n_bytes
        self.n_leaves += other.n_leaves
        self.skipped = self.skipped + other.skipped
        for worker, done in other.work.items():
            self.work[worker] = self.work.get(worker, Done()) + done
        for key, theirs in other.parts.items():
            mine = self.parts.get(key)
            if isinstance(theirs, list):  # rows never change
                self.parts[key] = [*(mine or []), *theirs]
            elif mine is None:
                self.parts[key] = copy.deepcopy(theirs)
            elif isinstance(mine, ExactSum):
                mine.merge(theirs)
            elif isinstance(mine, Largest):
                self.parts[key] = _larger(mine, theirs)
            elif isinstance(mine, dict):
                for group, inner in theirs.items():
                    mine.setdefault(group, Totals()).merge(inner)
            else:
                self.parts[key] = mine + theirs
        return self

    def rounded(self) -> "Totals":
        """Return these totals with every exact sum rounded, a third of its bytes.

        Nothing can be added to them.
        """
        done = copy.copy(self)
        done.parts = {key: _rounded(part) for key, part in self.parts.items()}
        return done

    def result(self) -> dict[Any, Any]:
        """Return the totals by key.

        They are float64 and int64 arrays, `Rows`, and dicts of results by group.
        """
        return {key: _finished(part) for key, part in self.parts.items()}


def _larger(mine: Largest | None, theirs: Largest) -> Largest:
    return theirs if mine is None else Largest(np.maximum(mine.values, theirs.values))


def _rounded(part: Any) -> Any:
    if isinstance(part, ExactSum):
        return Rounded(part.result())
    return (
        {group: inner.rounded() for group, inner in part.items()}
        if isinstance(part, dict)
        else part
    )


def _finished(part: Any) -> Any:
    if isinstance(part, ExactSum):
        return part.result()
    if isinstance(part, (Largest, Rounded)):
        return part.values
    if isinstance(part, dict):
        return {group: inner.result() for group, inner in part.items()}
    return _in_order(part) if isinstance(part, list) else part


def _in_order(found: list[Rows]) -> Rows:
    """Join rows, ascending by their numbers."""
    # Leaves without rows say nothing about the dtype of a column.
    found = [rows for rows in found if len(rows.numbers)] or found[:1]
    numbers = np.concatenate([rows.numbers for rows in found])
    if len(found) == 1 and np.all(numbers[1:] > numbers[:-1]):
        return found[0]
    order = np.argsort(numbers)
    columns = {}
    for name in found[0].columns:
        parts = [rows.columns[name] for rows in found]
        joined = (
            scipy.sparse.vstack(parts, "csr")
            if scipy.sparse.issparse(parts[0])
            else np.concatenate(parts)
        )
        columns[name] = joined[order]
    return Rows(numbers[order], columns)
