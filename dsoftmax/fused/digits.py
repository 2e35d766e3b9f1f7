"""The loops of `dsoftmax.engine.sums.ExactSum`: one or two passes over its entries in place of a dozen sweeps.

A sum has bins of 2^bits; its scales, its flags and the digits of its three bins are arrays of n entries. Every step is exact, so
what is left is what the sweeps of NumPy leave.
"""

import math
from typing import Any

import numpy as np

from dsoftmax.fused.compiled import compiled


@compiled
def add_digits(values: Any, scale: Any, broken: Any, first: Any, second: Any, third: Any, bits: Any) -> Any:
    """Add ``values`` to a sum. Work 5 flops and 56 bytes an entry."""
    base = math.ldexp(1.0, bits)
    for i in range(len(values)):
        if abs(values[i] * scale[i]) < base:
            continue
        if not math.isfinite(values[i]):
            broken[i] = True
            continue
        top = (math.frexp(values[i])[1] - 1) // bits
        shift = top - (1 - math.frexp(scale[i])[1]) // bits
        third[i] = second[i] if shift == 1 else first[i] if shift == 2 else 0
        second[i] = first[i] if shift == 1 else 0
        first[i] = 0
        scale[i] = math.ldexp(1.0, -bits * top)
    for i in range(len(values)):
        rest = values[i] * scale[i]
        rest = rest if abs(rest) < base else 0.0  # not finite
        digit = np.trunc(rest)
        first[i] += np.int64(digit)
        rest = (rest - digit) * base
        digit = np.trunc(rest)
        second[i] += np.int64(digit)
        third[i] += np.int64((rest - digit) * base)


@compiled
def merge_digits(
    scale: Any, broken: Any, first: Any, second: Any, third: Any,
    other_scale: Any, other_broken: Any, other_first: Any, other_second: Any, other_third: Any, bits: Any,
) -> Any:  # fmt: skip
    """Add another sum, which stays as it is. Work 6 integer operations and 100 bytes an entry."""
    for i in range(len(scale)):
        broken[i] |= other_broken[i]
        a, b, c = other_first[i], other_second[i], other_third[i]
        if scale[i] != other_scale[i]:
            shift = (math.frexp(scale[i])[1] - math.frexp(other_scale[i])[1]) // bits
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
def rounded_digits(scale: Any, broken: Any, first: Any, second: Any, third: Any, bits: Any, out: Any) -> Any:
    """Round a sum to ``out``; nan where a flag stands. Work 12 operations and 41 bytes an entry."""
    base, mask = math.ldexp(1.0, bits), (1 << bits) - 1
    for i in range(len(scale)):
        negative = first[i] + ((second[i] + (third[i] >> bits)) >> bits) < 0
        a, b, c = (-first[i], -second[i], -third[i]) if negative else (first[i], second[i], third[i])
        b += c >> bits
        size = np.float64(a + (b >> bits)) + (np.float64(b & mask) * base + np.float64(c & mask)) / (base * base)
        out[i] = np.nan if broken[i] else (-size if negative else size) / scale[i]
