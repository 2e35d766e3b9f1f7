"""Totals that do not depend on the order of addition: the same bits from one core, eight threads or fifty workers.

A leaf is a mapping from names to parts. Parts of one name are added by their kind:

=====================  =============================================================
float64 array          exactly, without order (`ExactSum`)
integer array or int   as integers
`Largest`              element by element, the larger; nan wins
`Grouped`              group by group, each a leaf of its own
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
from numpy.typing import NDArray

Float = NDArray[np.float64]

_BITS = 32
_BASE = float(2**_BITS)
_LOWEST, _HIGHEST = -31, 31  # bins of 2^-992 … 2^1024, so that scales and limits stay finite


@dataclass(frozen=True)
class Largest:
    """An array of which the largest value of each entry is kept."""

    values: Float


@dataclass(frozen=True)
class Grouped:
    """Leaves by group, such as class sums by label."""

    leaves: Mapping[Any, Mapping[str, Any]]


class ExactSum:
    """The sum of float64 arrays of one shape, to within 2⁻⁶⁴ of the largest addend, in any order.

    Notes
    -----
    Memory 45 bytes an entry (three digits, a bin, its limit and scale), of which 29 travel; adding costs about a dozen
    sweeps over the array. Not thread-safe: give each thread its own and `merge` them.
    """

    __slots__ = ("broken", "digits", "limit", "scale", "top")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.digits = np.zeros((3, *shape), np.int64)  # bins top, top − 1, top − 2
        self.top = np.full(shape, _LOWEST, np.int32)
        self.limit, self.scale = _limit_and_scale(self.top)
        self.broken = np.zeros(shape, bool)  # a nan or an infinity was added

    def __getstate__(self) -> tuple[NDArray, NDArray, NDArray]:
        return self.digits, self.top, self.broken

    def __setstate__(self, state: tuple[NDArray, NDArray, NDArray]) -> None:
        self.digits, self.top, self.broken = (np.array(part) for part in state)  # what travelled may be read-only
        self.limit, self.scale = _limit_and_scale(self.top)

    def add(self, values: Float) -> None:
        """Add one array of the same shape."""
        size = np.abs(values)
        if not np.all(size < self.limit):  # also false for nan
            values = self._make_room(values, size)
        rest, digit, whole = values * self.scale, np.empty_like(self.scale), np.empty_like(self.digits[0])
        for k in range(3):
            np.trunc(rest, out=digit)
            np.copyto(whole, digit, casting="unsafe")
            self.digits[k] += whole
            if k < 2:
                rest -= digit
                rest *= _BASE

    def _make_room(self, values: Float, size: Float) -> Float:
        finite = np.isfinite(values)
        if not finite.all():
            self.broken |= ~finite
            values = np.where(finite, values, 0.0)
            size = np.abs(values)
        _, exponent = np.frexp(size)  # size < 2^exponent
        top = np.where(size >= self.limit, (exponent - 1) // _BITS, self.top)
        self._raise_to(np.minimum(top, _HIGHEST).astype(np.int32))
        return values

    def _raise_to(self, top: NDArray[np.int32]) -> None:
        self.digits = _shifted(self.digits, top - self.top)
        self.top = top
        self.limit, self.scale = _limit_and_scale(top)

    def merge(self, other: "ExactSum") -> None:
        """Add another sum of the same shape, which stays as it is."""
        top = np.maximum(self.top, other.top)
        if np.any(self.top != top):
            self._raise_to(top)
        self.digits += other.digits if np.all(other.top == top) else _shifted(other.digits, top - other.top)
        self.broken |= other.broken

    def result(self) -> Float:
        """Return the sum, rounded to float64; nan where a nan or an infinity was added."""
        sign = np.where(_carried(self.digits)[0] < 0, -1, 1)
        d0, d1, d2 = _carried(self.digits * sign)  # of the size: digits of one sign, so that nothing cancels below
        total = sign * (d0.astype(np.float64) + (d1 * _BASE + d2) / _BASE**2)
        with np.errstate(over="ignore"):
            total = np.ldexp(total, _BITS * self.top)
        return np.where(self.broken, np.nan, total)


def _carried(digits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Carry, so that the two lower digits lie in 0 … 2³² − 1 and the first has the sign of the sum."""
    d0, d1, d2 = digits
    d1 = d1 + (d2 >> _BITS)
    return d0 + (d1 >> _BITS), d1 & (2**_BITS - 1), d2 & (2**_BITS - 1)


def _shifted(digits: NDArray[np.int64], shift: NDArray[np.int32]) -> NDArray[np.int64]:
    """Move the digits of each entry down by ``shift`` ≥ 0 bins; what falls under the third bin is cut off."""
    d0, d1, d2 = digits
    zero = np.int64(0)
    return np.stack(
        [
            np.where(shift == 0, d0, zero),
            np.where(shift == 0, d1, np.where(shift == 1, d0, zero)),
            np.where(shift == 0, d2, np.where(shift == 1, d1, np.where(shift == 2, d0, zero))),
        ]
    )


def _limit_and_scale(top: NDArray[np.int32]) -> tuple[Float, Float]:
    """The first value too large for bin top (infinity for the highest), and 1/2³²ᵗᵒᵖ."""
    with np.errstate(over="ignore"):
        return np.ldexp(1.0, _BITS * (top + 1)), np.ldexp(1.0, -_BITS * top)


class Totals:
    """Leaves added so far; engines fold leaves into it and merge the totals of threads and workers.

    Attributes
    ----------
    n_rows, n_bytes, n_leaves : int
        What was visited, decoded bytes of X.
    """

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
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
        for name, theirs in other.parts.items():
            mine = self.parts.get(name)
            if mine is None:
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

    def result(self) -> dict[str, Any]:
        """Return the totals by name: float64 and int64 arrays, and a dict of such dicts where leaves were grouped."""
        return {name: _finished(part) for name, part in self.parts.items()}


def _larger(mine: Largest | None, theirs: Largest) -> Largest:
    return theirs if mine is None else Largest(np.maximum(mine.values, theirs.values))


def _finished(part: Any) -> Any:
    if isinstance(part, ExactSum):
        return part.result()
    if isinstance(part, Largest):
        return part.values
    if isinstance(part, dict):
        return {group: inner.result() for group, inner in part.items()}
    return part
