"""The loops of `dsoftmax.sums.exact.ExactSum`.

They make one or two sweeps over its entries instead of a dozen.

The bins of a sum are 2^DIGIT_BITS wide. Its scales, its flags and the digits of its three bins
are arrays of n entries. Every step is exact, so the loops leave the same digits as NumPy's
sweeps.
"""

import math
from typing import Any

import numpy as np

from dsoftmax.kernels.compiled.compile import compiled
from dsoftmax.kernels.compiled.shapes import DIGIT_BITS

BASE = float(2**DIGIT_BITS)
FRACTION, BIAS = 52, 1023
"""Bits of the fraction of a float64, and the bias of its exponent."""


@compiled
def exponent(word: Any) -> Any:
    """Return the exponent of a normal float64 from its bits, `BIAS` included."""
    return (word >> FRACTION) & 2047


@compiled
def add_digits(values: Any, scale: Any, broken: Any, first: Any, second: Any, third: Any) -> Any:
    """Add ``values`` to a sum. Work 5 flops and 56 bytes an entry."""
    of_values, of_scale = values.view(np.int64), scale.view(np.int64)
    for i in range(len(values)):
        if abs(values[i] * scale[i]) < BASE:
            continue
        if not math.isfinite(values[i]):
            broken[i] = True
            continue
        top = (exponent(of_values[i]) - BIAS) // DIGIT_BITS
        shift = top + (exponent(of_scale[i]) - BIAS) // DIGIT_BITS
        third[i] = second[i] if shift == 1 else first[i] if shift == 2 else 0
        second[i] = first[i] if shift == 1 else 0
        first[i] = 0
        of_scale[i] = (BIAS - DIGIT_BITS * top) << FRACTION
    for i in range(len(values)):
        rest = values[i] * scale[i]
        rest = rest if abs(rest) < BASE else 0.0  # 0 if it is not finite
        digit = np.trunc(rest)
        first[i] += np.int64(digit)
        rest = (rest - digit) * BASE
        digit = np.trunc(rest)
        second[i] += np.int64(digit)
        third[i] += np.int64((rest - digit) * BASE)


@compiled
def merge_digits(
    scale: Any, broken: Any, first: Any, second: Any, third: Any,
    other_scale: Any, other_broken: Any, other_first: Any, other_second: Any, other_third: Any,
) -> Any:  # fmt: skip
    """Add another sum, which does not change. Work 6 integer operations and 100 bytes an entry."""
    of_scale, of_other = scale.view(np.int64), other_scale.view(np.int64)
    for i in range(len(scale)):
        broken[i] |= other_broken[i]
        a, b, c = other_first[i], other_second[i], other_third[i]
        if scale[i] != other_scale[i]:
            shift = (exponent(of_scale[i]) - exponent(of_other[i])) // DIGIT_BITS
            if shift > 0:  # the other's bins are higher
                third[i] = second[i] if shift == 1 else first[i] if shift == 2 else 0
                second[i] = first[i] if shift == 1 else 0
                first[i] = 0
                scale[i] = other_scale[i]
            else:
                c = b if shift == -1 else a if shift == -2 else 0
                b = a if shift == -1 else 0
                a = 0
        first[i] += a
        second[i] += b
        third[i] += c


@compiled
def rounded_digits(scale: Any, broken: Any, first: Any, second: Any, third: Any, out: Any) -> Any:
    """Round a sum to ``out``; nan if its flag is set. Work 12 operations and 41 bytes an entry."""
    mask = (1 << DIGIT_BITS) - 1
    for i in range(len(scale)):
        negative = first[i] + ((second[i] + (third[i] >> DIGIT_BITS)) >> DIGIT_BITS) < 0
        a, b, c = (
            (-first[i], -second[i], -third[i]) if negative else (first[i], second[i], third[i])
        )
        b += c >> DIGIT_BITS
        size = np.float64(a + (b >> DIGIT_BITS)) + (
            np.float64(b & mask) * BASE + np.float64(c & mask)
        ) / (BASE * BASE)
        out[i] = np.nan if broken[i] else (-size if negative else size) / scale[i]
