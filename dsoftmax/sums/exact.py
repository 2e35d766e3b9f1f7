"""Exact addition of float64 arrays, with the same result in any order."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.kernels.compiled import availability
from dsoftmax.kernels.compiled.shapes import DIGIT_BITS

Float = NDArray[np.float64]

_BASE = float(2**DIGIT_BITS)
_LOWEST, _HIGHEST = -31, 31
"""Lowest and highest bin, of 2⁻⁹⁹² and 2¹⁰²⁴, for which scales and limits stay finite."""
_SCALES = np.ldexp(1.0, -DIGIT_BITS * np.arange(_LOWEST, _HIGHEST + 1))
_NO_FLAGS = np.zeros(0, bool)

ENTRY_BYTES = 33
"""Bytes of one entry of a sum; 26 of them travel between processes."""
SLAB = 32_768
"""Entries added at a time.

A handful of float64 arrays of this length fit the second-level cache.
"""


class ExactSum:
    """Sum of float64 arrays of one shape, to within 2⁻⁶⁴ of the largest addend, in any order.

    Notes
    -----
    Memory `ENTRY_BYTES` an entry (three digits, a scale, a flag), and scratch for `SLAB` entries.
    Adding costs about a dozen sweeps over a slab in the cache. Compiled loops need two, if this
    process has loaded them, and leave the same digits. One array alone is kept as it is, because
    its sum needs no digits. A sum is not thread-safe: give each thread its own, and `merge` them.
    """

    __slots__ = ("alone", "broken", "digits", "scale", "shape")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.alone: Float | None = None  # the only array that was added
        self.digits: NDArray[np.int64] | None = None  # (3, n) in the bins top, top − 1, top − 2
        self.scale: Float = _SCALES[:0]  # 1/2³²ᵗᵒᵖ, (n,)
        self.broken: NDArray[np.bool_] = _NO_FLAGS  # whether nan or an infinity was added, (n,)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.shape, self.alone, self.digits, _top(self.scale), self.broken

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.shape, self.alone, digits, top, broken = state
        self.digits, self.broken = (
            part if part is None or part.flags.writeable else part.copy()
            for part in (digits, broken)
        )
        self.scale = _SCALES.take(top - _LOWEST)

    def add(self, values: Float) -> None:
        """Add one array of the same shape, which must not change afterwards."""
        if values.shape != self.shape:
            raise ValueError(
                f"The array has shape {values.shape}; expected {self.shape}, the shape of the sum. "
                "Pass arrays of one shape."
            )
        if self.alone is None and self.digits is None:
            self.alone = values
        else:
            self._add(self._as_digits(), values.reshape(-1))

    def _as_digits(self) -> NDArray[np.int64]:
        """Return the digits, made of the array that was alone so far, if there is one."""
        if self.digits is None:
            n = math.prod(self.shape)
            self.digits, self.broken = np.zeros((3, n), np.int64), np.zeros(n, bool)
            self.scale = np.full(n, _SCALES[0])
            if self.alone is not None:
                flat, self.alone = self.alone.reshape(-1), None
                self.scale = _SCALES.take(_bins(flat) - _LOWEST)
                self._add(self.digits, flat)
        return self.digits

    def _add(self, all_digits: NDArray[np.int64], flat: Float) -> None:
        compiled = availability.loops_of_digits()
        for slab in _slabs(len(flat)):
            digits = all_digits[:, slab]
            if compiled is not None:
                compiled.add_digits(flat[slab], self.scale[slab], self.broken[slab], *digits)
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # far above the lowest bin, or nan
                rest = flat[slab] * self.scale[slab]
            digit = np.abs(rest)
            if not np.all(digit < _BASE):  # too large for the bin, or nan
                rest = self._raise_bins(flat[slab], slab)
            whole = np.empty(rest.shape, np.int64)
            for k in range(3):
                np.trunc(rest, out=digit)
                np.copyto(whole, digit, casting="unsafe")
                digits[k] += whole
                if k < 2:
                    rest -= digit
                    rest *= _BASE

    def _raise_bins(self, values: Float, slab: slice) -> Float:
        """Raise the bins of a slab until the values fit; return the values in the new scale."""
        finite = np.isfinite(values)
        if not finite.all():
            self.broken[slab] |= ~finite
            values = np.where(finite, values, 0.0)
        self._raise_to(np.maximum(_bins(values), _top(self.scale[slab])), slab)
        return values * self.scale[slab]

    def _raise_to(self, top: NDArray[np.integer], slab: slice) -> None:
        """Raise the bins of a slab. Most entries keep theirs, so only the others are touched."""
        assert self.digits is not None
        digits, scale = self.digits[:, slab], self.scale[slab]
        shift = top - _top(scale)
        raised = np.flatnonzero(shift)
        digits[:, raised] = _shifted(digits[:, raised], shift[raised])
        scale[raised] = _SCALES.take(top[raised] - _LOWEST)

    def merge(self, other: "ExactSum") -> None:
        """Add another sum of the same shape, which does not change."""
        if other.digits is None:
            if other.alone is not None:
                self.add(other.alone)
            return
        mine_digits = self._as_digits()
        if (compiled := availability.loops_of_digits()) is not None:
            compiled.merge_digits(
                self.scale, self.broken, *mine_digits, other.scale, other.broken, *other.digits
            )
            return
        for slab in _slabs(len(self.scale)):
            mine, theirs, digits = self.scale[slab], other.scale[slab], other.digits[:, slab]
            if not np.array_equal(mine, theirs):
                top, lower = np.maximum(_top(mine), _top(theirs)), _top(theirs)
                self._raise_to(top, slab)
                digits = _shifted(digits, top - lower)
            mine_digits[:, slab] += digits
        self.broken |= other.broken

    def result(self) -> Float:
        """Return the sum rounded to float64; nan if an entry's addends had nan or an infinity."""
        if self.digits is None:
            return np.zeros(self.shape) if self.alone is None else _without_infinities(self.alone)
        total = np.empty(len(self.scale))
        if (compiled := availability.loops_of_digits()) is not None:
            compiled.rounded_digits(self.scale, self.broken, *self.digits, total)
            return total.reshape(self.shape)
        for slab in _slabs(len(total)):
            digits = self.digits[:, slab]
            sign = np.where(_carried(digits)[0] < 0, -1, 1)
            # Digits of the absolute value have one sign, so nothing cancels below.
            d0, d1, d2 = _carried(digits * sign)
            part = sign * (d0.astype(np.float64) + (d1 * _BASE + d2) / _BASE**2)
            with np.errstate(over="ignore"):
                np.divide(part, self.scale[slab], out=total[slab])
        total[self.broken] = np.nan
        return total.reshape(self.shape)


def _without_infinities(values: Float) -> Float:
    """Return an array as the sum of it alone: nan for an infinity, and no negative zero."""
    found: Float = values + 0.0
    finite = np.isfinite(found)
    return found if finite.all() else np.where(finite, found, np.nan)


def _bins(values: Float) -> NDArray[np.int16]:
    """Return the bin of each value, at least the lowest; the lowest for nan and infinity."""
    exponent = (values.view(np.int64) >> 52).astype(np.int16) & 2047
    exponent[exponent == 2047] = 0
    return np.maximum((exponent - 1023) // DIGIT_BITS, _LOWEST)


def _slabs(n: int) -> Iterator[slice]:
    """Return the slices that cut ``n`` entries into slabs."""
    return (slice(start, start + SLAB) for start in range(0, n, SLAB))


def _top(scale: Float) -> NDArray[np.int8]:
    """Return the highest bin of each entry, from its scale 2⁻³²ᵗᵒᵖ."""
    exponent = (scale.view(np.int64) >> 52).astype(np.int16)  # the scale's, plus 1,023
    return ((1023 - exponent) // DIGIT_BITS).astype(np.int8)


def _carried(
    digits: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Carry, so that the lower two digits are in 0 … 2³² − 1 and the first has the sum's sign."""
    d0, d1, d2 = digits
    d1 = d1 + (d2 >> DIGIT_BITS)
    return d0 + (d1 >> DIGIT_BITS), d1 & (2**DIGIT_BITS - 1), d2 & (2**DIGIT_BITS - 1)


def _shifted(digits: NDArray[np.int64], shift: NDArray[np.integer]) -> NDArray[np.int64]:
    """Move the digits of each entry down by ``shift`` ≥ 0 bins.

    Digits below the third bin are cut off.
    """
    d0, d1, d2 = digits
    zero = np.int64(0)
    return np.stack(
        [
            np.where(shift == 0, d0, zero),
            np.where(shift == 0, d1, np.where(shift == 1, d0, zero)),
            np.where(shift == 0, d2, np.where(shift == 1, d1, np.where(shift == 2, d0, zero))),
        ]
    )
