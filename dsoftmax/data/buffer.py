"""Buffers: memory that many blocks use one after the other."""

import math

import numpy as np
from numpy.typing import NDArray

Buffer = NDArray[np.uint8]
"""Reusable memory of one dimension, in bytes."""


def array_in(buffer: Buffer | None, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """Return an uninitialised C-ordered array, in ``buffer`` if it fits.

    The array is a new one if the buffer is too small or not aligned.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if buffer is None or buffer.nbytes < n_bytes or buffer.ctypes.data % dtype.alignment:
        return np.empty(shape, dtype)
    return buffer[:n_bytes].view(dtype).reshape(shape)
