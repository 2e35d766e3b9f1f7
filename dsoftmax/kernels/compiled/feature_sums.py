"""The loop of the first pass over CSR rows: sums by class and by feature in one sweep."""

from typing import Any

import numpy as np

from dsoftmax.kernels.compiled.compile import compiled
from dsoftmax.kernels.compiled.registers import take, whole_at

SQUARES, ABSOLUTE, LOW, HIGH, COUNT, FIELDS = 0, 1, 2, 3, 4, 8
"""Places of the sums of one feature, which share a cache line."""


@compiled
def add_rows(
    data: Any, data_tag: Any, indices: Any, indices_tag: Any, pointers: Any, pointers_tag: Any,
    codes: Any, w: Any, n: Any, p: Any, by_class: Any, features: Any, values: Any,
) -> Any:  # fmt: skip
    """Add the rows to ``by_class``, (labels, p+1), and to ``features``, (p, FIELDS).

    Return Σ wᵢ‖x̃ᵢ‖₁, or -1 if the columns of some row do not ascend. ``data``, ``indices`` and
    ``pointers`` are addresses. ``codes`` and ``w`` are (n,). ``values`` is scratch for the
    longest row.
    """
    mass = 0.0
    for i in range(n):
        first = whole_at(pointers + i * pointers_tag.itemsize, pointers_tag)
        count = whole_at(pointers + (i + 1) * pointers_tag.itemsize, pointers_tag) - first
        norm, last = 1.0, -1
        for t in range(count):
            take(data + (first + t) * data_tag.itemsize, data_tag, values, t, 1)
            norm += abs(values[t])
        norm *= w[i]
        mass += norm
        for t in range(count):
            j = whole_at(indices + (first + t) * indices_tag.itemsize, indices_tag)
            if j <= last:
                return -1.0
            last = j
            value, at = values[t], FIELDS * j
            weighted = w[i] * value
            by_class[codes[i] * (p + 1) + j] += weighted
            features[at + SQUARES] += weighted * value
            features[at + ABSOLUTE] += norm * abs(value)
            features[at + LOW] = min(features[at + LOW], value)
            features[at + HIGH] = max(features[at + HIGH], value)
            features[at + COUNT] += 1
    return mass


def empty_features(p: int) -> Any:
    """Return the sums of no rows, flat."""
    found = np.zeros((p, FIELDS))
    found[:, LOW], found[:, HIGH] = np.inf, -np.inf
    return found.reshape(-1)
