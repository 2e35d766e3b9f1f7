"""Rows of X in memory: an ndarray or a CSR array."""

from typing import Any

import numpy as np
import scipy.sparse

Features = Any
"""Rows of X: an ndarray or a SciPy CSR array or matrix, (rows, p)."""


def dense_or_csr(X: Features) -> Features:
    """Return a block as ndarray or CSR; other sparse formats are converted.

    The arrays of CSR are made contiguous, which SciPy does not guarantee. Its values get the
    machine's byte order. Values in float16 become float32, because SciPy does not compute with
    float16.
    """
    if not scipy.sparse.issparse(X):
        return np.asarray(X)
    X = X.tocsr()
    dtype = np.dtype(np.float32) if X.dtype == np.float16 else X.dtype.newbyteorder("=")
    parts = [
        np.ascontiguousarray(part)
        for part in (X.data.astype(dtype, copy=False), X.indices, X.indptr)
    ]
    same = all(
        mine is theirs for mine, theirs in zip(parts, (X.data, X.indices, X.indptr), strict=True)
    )
    return X if same else scipy.sparse.csr_array(tuple(parts), shape=X.shape)


def rows_between(X: Features, start: int, stop: int) -> Features:
    """Return rows ``start:stop`` of X as a view; only the row pointers of CSR are copied."""
    if not scipy.sparse.issparse(X):
        return X[start:stop]
    if X.format != "csr":
        raise TypeError(
            f"X is sparse in the format {X.format!r}; expected csr. Convert it with X.tocsr()."
        )
    pointers = X.indptr[start : stop + 1]
    first, last = int(pointers[0]), int(pointers[-1])
    found = scipy.sparse.csr_array((stop - start, X.shape[1]))
    # The constructor would copy these arrays.
    found.data, found.indices = X.data[first:last], X.indices[first:last]
    found.indptr = pointers - pointers[0]
    return found
