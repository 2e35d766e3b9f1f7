"""How arrays reach compiled loops: by address, stride and dtype, or padded to whole vectors."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.kernels.compiled.shapes import LINE


def takes(stored: np.dtype) -> bool:
    """Return whether the loops read this dtype.

    NumPy computes with others (float16, long double, big-endian).
    """
    return stored.isnative and (stored.kind in "biu" or stored in (np.float32, np.float64))


def takes_csr(X: Features) -> bool:
    """Return whether the loops read this sparse array.

    They read CSR whose three arrays are contiguous, which SciPy does not require.
    """
    return X.format == "csr" and all(
        part.flags.c_contiguous for part in (X.data, X.indices, X.indptr)
    )


def dense_arguments(X: NDArray) -> tuple[int, int, int, NDArray]:
    """Return the address of X, its strides in bytes, and its tag: all layouts share one loop."""
    return X.ctypes.data, X.strides[0], X.strides[1], _tag(X)


def csr_arguments(X: Features) -> list[Any]:
    """Return the addresses and the tags of the three arrays of CSR."""
    return [
        part for array in (X.data, X.indices, X.indptr) for part in (array.ctypes.data, _tag(array))
    ]


def _tag(array: NDArray) -> NDArray:
    """Return an empty array of the stored dtype; the loops read booleans as bytes."""
    return np.empty(0, np.uint8 if array.dtype.kind == "b" else array.dtype)


def padded(values: Any, dtype: np.dtype, lanes: int) -> NDArray:
    """Return one number a row in the compute dtype, then zeros that fill the last vectors.

    Labels are exact in it.
    """
    out = np.zeros(len(values) + 2 * lanes, dtype)
    out[: len(values)] = values
    return out


def padded_weights(weights: Any, dtype: np.dtype, lanes: int, n: int) -> NDArray:
    """Return the weight of each of ``n`` rows as `padded` does; None and 1.0 stand for ones."""
    return _ones(n, dtype, lanes) if np.ndim(weights) == 0 else padded(weights, dtype, lanes)


@lru_cache(maxsize=4)
def _ones(n: int, dtype: np.dtype, lanes: int) -> NDArray:
    """Return ones for a leaf.

    Most leaves have the same number of rows, and nobody writes to the ones.
    """
    return padded(np.ones(n, dtype), dtype, lanes)


def aligned(n: int, dtype: np.dtype) -> NDArray:
    """Return an empty array whose vectors cross no cache line."""
    buffer = np.empty(n * dtype.itemsize + LINE, np.uint8)
    start = -buffer.ctypes.data % LINE
    return buffer[start : start + n * dtype.itemsize].view(dtype)
