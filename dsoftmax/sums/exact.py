"""Exact addition of float64 arrays, with the same result in any order."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dsoftmax.kernels.compiled import availability
from dsoftmax.kernels.compiled.shapes import DIGIT_BITS

Float = NDArray[np.float64]

_BASE = float(2**DIGIT_BITS)
_LOWEST, _HIGHEST = -31, 31
"""Lowest and highest bin, of 2⁻⁹⁹² and 2¹⁰²⁴, for which scales and limits stay finite."""
_SCALES = np.ldexp(1.0, -DIGIT_BITS * np.arange(_LOWEST, _HIGHEST + 1))

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
    process has loaded them, and leave the same digits. A sum is not thread-safe: give each thread
    its own, and `merge` them.
    """

    __slots__ = ("broken", "digits", "scale", "shape")

    def __init__(self, shape: tuple[int, ...]) -> None:
        n = math.prod(shape)
        self.shape = shape
        self.digits = np.zeros((3, n), np.int64)  # in the bins top, top − 1, top − 2
        self.scale = np.full(n, _SCALES[0])  # 1/2³²ᵗᵒᵖ
        self.broken = np.zeros(n, bool)  # whether nan or an infinity was added

    def __getstate__(self) -> tuple[tuple[int, ...], NDArray, NDArray, NDArray]:
        return self.shape, self.digits, _top(self.scale), self.broken

    def __setstate__(self, state: tuple[tuple[int, ...], NDArray, NDArray, NDArray]) -> None:
        self.shape, digits, top, broken = state
        self.digits, self.broken = (
            part if part.flags.writeable else part.copy() for part in (digits, broken)
        )
        self.scale = _SCALES.take(top - _LOWEST)

    def add(self, values: Float) -> None:
        """Add one array of the same shape."""
        if values.shape != self.shape:
            raise ValueError(
                f"The array has shape {values.shape}; expected {self.shape}, the shape of the sum. "
                "Pass arrays of one shape."
            )
        flat, compiled = values.reshape(-1), availability.loops_of_digits()
        for slab in _slabs(len(flat)):
            digits = self.digits[:, slab]
            if compiled is not None:
                compiled.add_digits(flat[slab], self.scale[slab], self.broken[slab], *digits)
                continue
            with np.errstate(over="ignore"):  # the first numbers lie far above the lowest bin
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
        _, exponent = np.frexp(values)  # |value| < 2^exponent
        top = _top(self.scale[slab])
        self._raise_to(
            np.where(values == 0, top, np.maximum((exponent - 1) // DIGIT_BITS, top)), slab
        )
        return values * self.scale[slab]

    def _raise_to(self, top: NDArray[np.integer], slab: slice) -> None:
        digits = self.digits[:, slab]
        digits[...] = _shifted(digits, top - _top(self.scale[slab]))
        self.scale[slab] = _SCALES.take(top - _LOWEST)

    def merge(self, other: "ExactSum") -> None:
        """Add another sum of the same shape, which does not change."""
        if (compiled := availability.loops_of_digits()) is not None:
            compiled.merge_digits(
                self.scale, self.broken, *self.digits, other.scale, other.broken, *other.digits
            )
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
        """Return the sum rounded to float64; nan if an entry's addends had nan or an infinity."""
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
