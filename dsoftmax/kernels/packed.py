"""Symmetric matrices packed as their upper triangles, row by row."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def triangle_entries(d: int) -> int:
    """Return the entries of the upper triangle of a (d, d) matrix."""
    return d * (d + 1) // 2


@lru_cache(maxsize=1)
def upper_triangle(d: int) -> NDArray[np.int64]:
    """Return the flat indices of the upper triangle of a (d, d) matrix, (d·(d+1)/2,)."""
    return np.flatnonzero(np.triu(np.ones((d, d), bool)))


def hessian_entries(n_features: int, n_classes: int) -> int:
    """Return the entries of `dsoftmax.kernels.hessian.hessian_pairs`: a triangle for each pair."""
    return (n_classes * (n_classes - 1) // 2) * triangle_entries(n_features + 1)
