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
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax import fused
from dsoftmax.engine.meter import Done

Float = NDArray[np.float64]

_BITS = fused.DIGIT_BITS
_BASE = float(2**_BITS)
_LOWEST, _HIGHEST = -31, 31  # bins of 2^-992 … 2^1024, so that scales and limits stay finite
_SCALES = np.ldexp(1.0, -_BITS * np.arange(_LOWEST, _HIGHEST + 1))

ENTRY_BYTES = 33
"""What an entry of a sum takes (bytes); 26 of them travel."""
SLAB = 32_768
"""Entries that are worked on at once: a handful of arrays of so many float64 stay in the second-level cache."""


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


class ExactSum:
    """The sum of float64 arrays of one shape, to within 2⁻⁶⁴ of the largest addend, in any order.

    Notes
    -----
    Memory `ENTRY_BYTES` an entry (three digits, a scale, a flag), and `SLAB` entries of scratch while it works; adding costs
    about a dozen sweeps over a slab in the cache, or two where `dsoftmax.fused` runs, with the same digits. Not thread-safe:
    give each thread its own and `merge` them.
    """

    __slots__ = ("broken", "digits", "scale", "shape")

    def __init__(self, shape: tuple[int, ...]) -> None:
        n = math.prod(shape)
        self.shape = shape
        self.digits = np.zeros((3, n), np.int64)  # bins top, top − 1, top − 2
        self.scale = np.full(n, _SCALES[0])  # 1/2³²ᵗᵒᵖ
        self.broken = np.zeros(n, bool)  # a nan or an infinity was added

    def __getstate__(self) -> tuple[tuple[int, ...], NDArray, NDArray, NDArray]:
        return self.shape, self.digits, _top(self.scale), self.broken

    def __setstate__(self, state: tuple[tuple[int, ...], NDArray, NDArray, NDArray]) -> None:
        self.shape, digits, top, broken = state
        self.digits, self.broken = (part if part.flags.writeable else part.copy() for part in (digits, broken))
        self.scale = _SCALES.take(top - _LOWEST)

    def add(self, values: Float) -> None:
        """Add one array of the same shape."""
        if values.shape != self.shape:
            raise ValueError(f"an array of shape {values.shape} cannot be added to a sum of shape {self.shape}")
        flat, compiled = values.reshape(-1), fused.loops_of_digits()
        for slab in _slabs(len(flat)):
            digits = self.digits[:, slab]
            if compiled is not None:
                compiled.add_digits(flat[slab], self.scale[slab], self.broken[slab], *digits)
                continue
            with np.errstate(over="ignore"):  # a sum's first numbers lie far above the lowest bin
                rest = flat[slab] * self.scale[slab]
            digit = np.abs(rest)
            if not np.all(digit < _BASE):  # too large for the bin; also true of nan
                rest = self._make_room(flat[slab], slab)
            whole = np.empty(rest.shape, np.int64)
            for k in range(3):
                np.trunc(rest, out=digit)
                np.copyto(whole, digit, casting="unsafe")
                digits[k] += whole
                if k < 2:
                    rest -= digit
                    rest *= _BASE

    def _make_room(self, values: Float, slab: slice) -> Float:
        """Raise the bins of a slab to what the values need, and return the values in the new scale."""
        finite = np.isfinite(values)
        if not finite.all():
            self.broken[slab] |= ~finite
            values = np.where(finite, values, 0.0)
        _, exponent = np.frexp(values)  # |value| < 2^exponent
        top = _top(self.scale[slab])
        self._raise_to(np.where(values == 0, top, np.maximum((exponent - 1) // _BITS, top)), slab)
        return values * self.scale[slab]

    def _raise_to(self, top: NDArray[np.integer], slab: slice) -> None:
        digits = self.digits[:, slab]
        digits[...] = _shifted(digits, top - _top(self.scale[slab]))
        self.scale[slab] = _SCALES.take(top - _LOWEST)

    def merge(self, other: "ExactSum") -> None:
        """Add another sum of the same shape, which stays as it is."""
        if (compiled := fused.loops_of_digits()) is not None:
            compiled.merge_digits(self.scale, self.broken, *self.digits, other.scale, other.broken, *other.digits)
            return
        for slab in _slabs(len(self.scale)):
            mine, theirs, digits = self.scale[slab], other.scale[slab], other.digits[:, slab]
            if not np.array_equal(mine, theirs):
                top, lower = np.maximum(_top(mine), _top(theirs)), _top(theirs)
                self._raise_to(top, slab)
                digits = _shifted(digits, top - lower)
            self.digits[:, slab] += digits
        self.broken |= other.broken

    def result(self) -> Float:
        """Return the sum, rounded to float64; nan where a nan or an infinity was added."""
        total = np.empty(len(self.scale))
        if (compiled := fused.loops_of_digits()) is not None:
            compiled.rounded_digits(self.scale, self.broken, *self.digits, total)
            return total.reshape(self.shape)
        for slab in _slabs(len(total)):
            digits = self.digits[:, slab]
            sign = np.where(_carried(digits)[0] < 0, -1, 1)
            d0, d1, d2 = _carried(digits * sign)  # of the size: digits of one sign, so that nothing cancels below
            part = sign * (d0.astype(np.float64) + (d1 * _BASE + d2) / _BASE**2)
            with np.errstate(over="ignore"):
                np.divide(part, self.scale[slab], out=total[slab])
        total[self.broken] = np.nan
        return total.reshape(self.shape)


def _slabs(n: int) -> Iterator[slice]:
    """Cut ``n`` entries into slabs that stay in the cache."""
    return (slice(start, start + SLAB) for start in range(0, n, SLAB))


def _top(scale: Float) -> NDArray[np.int8]:
    """The highest bin of each entry, from 2⁻³²ᵗᵒᵖ."""
    exponent = (scale.view(np.int64) >> 52).astype(np.int16)  # of a power of two, 1,023 included
    return ((1023 - exponent) // _BITS).astype(np.int8)


def _carried(digits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Carry, so that the two lower digits lie in 0 … 2³² − 1 and the first has the sign of the sum."""
    d0, d1, d2 = digits
    d1 = d1 + (d2 >> _BITS)
    return d0 + (d1 >> _BITS), d1 & (2**_BITS - 1), d2 & (2**_BITS - 1)


def _shifted(digits: NDArray[np.int64], shift: NDArray[np.integer]) -> NDArray[np.int64]:
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
    return {group: inner.rounded() for group, inner in part.items()} if isinstance(part, dict) else part


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
    pieces = [piece for piece in pieces if len(piece.numbers)] or pieces[:1]  # where there are no rows, nor is their dtype
    numbers = np.concatenate([piece.numbers for piece in pieces])
    order = np.argsort(numbers)
    columns = {}
    for name in pieces[0].columns:
        parts = [piece.columns[name] for piece in pieces]
        joined = scipy.sparse.vstack(parts, "csr") if scipy.sparse.issparse(parts[0]) else np.concatenate(parts)
        columns[name] = joined[order]
    return Rows(numbers[order], columns)
