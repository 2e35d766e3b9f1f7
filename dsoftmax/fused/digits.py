"""The loop of `dsoftmax.engine.sums.ExactSum`: one pass over a slab in place of a dozen."""

from typing import Any

import numpy as np

from dsoftmax.fused.compiled import compiled


@compiled
def add_digits(values: Any, scale: Any, base: Any, first: Any, second: Any, third: Any) -> Any:
    """Add the digits of ``values·scale`` to those of a sum; return False, and add nothing, where one does not fit its bin.

    Every step is exact, so the digits are those of the NumPy sweeps. Work 5 flops and 56 bytes an entry.
    """
    fits = True
    for i in range(len(values)):
        fits &= abs(values[i] * scale[i]) < base  # also false for nan
    if not fits:
        return False
    for i in range(len(values)):
        rest = values[i] * scale[i]
        digit = np.trunc(rest)
        first[i] += np.int64(digit)
        rest = (rest - digit) * base
        digit = np.trunc(rest)
        second[i] += np.int64(digit)
        third[i] += np.int64((rest - digit) * base)
    return True
