"""The bytes of an array's values, for digests."""

import numpy as np
from numpy.typing import NDArray


def contents(values: NDArray) -> NDArray:
    """Return values in an array whose bytes are their contents.

    Python objects and strings of any length are stored as pointers. They become strings of fixed
    width.
    """
    if not (values.dtype.hasobject or values.dtype.kind == "T"):
        return np.ascontiguousarray(values)
    return np.array([str(value) for value in values.tolist()], dtype=str)
