"""Totals that do not depend on the order of addition: the same bits from one core, eight threads or fifty workers.

A leaf is a mapping from names to parts. Parts of one name are added by their kind:

=====================  =============================================================
float64 array          exactly, without order (`ExactSum`)
integer array or int   as integers
`Largest`              element by element, the larger; nan wins
`Grouped`              group by group, each a leaf of its own
`Rows`                 kept, all of them; in the end by their numbers
=====================  =============================================================

How floats are added
--------------------
The real line is cut at multiples of 2³² into bins (Demmel and Nguyen 2015, "Parallel reproducible summation", section III,
with integer bins). A number is split into its digits in the bins, towards zero, which is exact and does not look at any
other number; digits are added as 64-bit integers, which commute. Each entry keeps the digits of three bins: the highest
that any of its leaves has reached, and the two below. What falls under the third bin is cut off, and since the highest
bin is a property of the set of leaves, so is the result. The part cut off is below 2⁻⁶⁴ of the largest leaf, for each leaf;
up to 2³⁰ leaves can be added.
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
    """An array of which the largest value of each entry is kept."""

    values: Float


@dataclass(frozen=True)
class Grouped:
    """Leaves by group, such as class sums by label."""

    leaves: Mapping[Any, Mapping[str, Any]]


@dataclass(frozen=True)
class Rounded:
    """What was an exact sum; nothing can be added to it."""

    values: Float


@dataclass(frozen=True)
class Rows:
    """Some rows of the data, which are kept and not added.

    Attributes
    ----------
    numbers : (m,) int64
        In the whole data set; each row occurs in one leaf.
    columns : dict from str to (m, …) ndarray or CSR
        What is kept of each row.
    """

    numbers: NDArray[np.int64]
    columns: Mapping[str, Any]


class Totals:
    """Leaves added so far; engines fold leaves into it and merge the totals of threads and workers.

    Attributes
    ----------
    n_rows, n_bytes, n_leaves : int
        What was visited, decoded bytes of X.
    work : dict from str to Done
        What each worker did, by its name; this process has the name "". Not part of the sums.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self.work: dict[str, Done] = {}
        self.n_rows = self.n_bytes = self.n_leaves = 0

    def add(self, leaf: Mapping[str, Any], n_rows: int = 0, n_bytes: int = 0) -> None:
        """Add the sums of one leaf."""
        self.n_rows += n_rows
        self.n_bytes += n_bytes
        self.n_leaves += 1
        for name, part in leaf.items():
            if isinstance(part, Grouped):
                groups = self.parts.setdefault(name, {})
                for group, inner in part.leaves.items():
                    groups.setdefault(group, Totals()).add(inner)
            elif isinstance(part, Largest):
                self.parts[name] = _larger(self.parts.get(name), part)
            elif isinstance(part, Rows):
                self.parts.setdefault(name, []).append(part)
            elif np.asarray(part).dtype.kind in "iub":
                self.parts[name] = self.parts.get(name, 0) + np.asarray(part).astype(np.int64)
            else:
                values = np.asarray(part, np.float64)
                if name not in self.parts:
                    self.parts[name] = ExactSum(values.shape)
                self.parts[name].add(values)

    def merge(self, other: "Totals") -> "Totals":
        """Add other totals, which stay as they are; return self."""
        self.n_rows += other.n_rows
        self.n_bytes += other.n_bytes
        self.n_leaves += other.n_leaves
        for worker, done in other.work.items():
            self.work[worker] = self.work.get(worker, Done()) + done
        for name, theirs in other.parts.items():
            mine = self.parts.get(name)
            if isinstance(theirs, list):  # rows never change
                self.parts[name] = [*(mine or []), *theirs]
            elif mine is None:
                self.parts[name] = copy.deepcopy(theirs)
            elif isinstance(mine, ExactSum):
                mine.merge(theirs)
            elif isinstance(mine, Largest):
                self.parts[name] = _larger(mine, theirs)
            elif isinstance(mine, dict):
                for group, inner in theirs.items():
                    mine.setdefault(group, Totals()).merge(inner)
            else:
                self.parts[name] = mine + theirs
        return self

    def rounded(self) -> "Totals":
        """Return these totals with every exact sum rounded, a third of the bytes; nothing can be added to them."""
        done = copy.copy(self)
        done.parts = {name: _rounded(part) for name, part in self.parts.items()}
        return done

    def result(self) -> dict[str, Any]:
        """Return the totals by name: float64 and int64 arrays, `Rows`, and a dict of such dicts where leaves were grouped."""
        return {name: _finished(part) for name, part in self.parts.items()}


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


def _in_order(pieces: list[Rows]) -> Rows:
    """Join rows, ascending by their numbers."""
    pieces = [piece for piece in pieces if len(piece.numbers)] or pieces[
        :1
    ]  # where there are no rows, nor is their dtype
    numbers = np.concatenate([piece.numbers for piece in pieces])
    order = np.argsort(numbers)
    columns = {}
    for name in pieces[0].columns:
        parts = [piece.columns[name] for piece in pieces]
        joined = (
            scipy.sparse.vstack(parts, "csr")
            if scipy.sparse.issparse(parts[0])
            else np.concatenate(parts)
        )
        columns[name] = joined[order]
    return Rows(numbers[order], columns)
