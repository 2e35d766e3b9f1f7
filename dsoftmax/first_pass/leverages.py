"""Leverages of rows: how much each one matters among all.

The leverage of a row is s·x̃ᵀG⁺x̃ with x̃ = [x, 1] and G = Σ sx̃x̃ᵀ (Drineas, Mahoney and
Muthukrishnan 2008). All leverages add up to the rank of G. The diagonal of G stands in for a G
that is not known.
"""

from collections.abc import Iterator

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.features import Features

Float = NDArray[np.float64]

LEVERAGE_BYTES = 2**20
"""Bytes, in float64, of the dense rows whose leverages are computed at a time."""
LEVERAGE_FEATURES = 1024
"""Most features for which leverages follow from the whole Gram matrix.

Beyond, its diagonal gives them.
"""
LEVERAGE_LIFT = 1e-8
"""Constant added to the diagonal of a Gram matrix of unit diagonal: it may be singular."""
SKETCHED, SKETCHES = 64, 32
"""Columns of the rows above which leverages are sketched, and columns of the sketch."""


def leverages(X: Features, weights: Float, gram: Float) -> Float:
    """Return x̃ᵀG⁺x̃ of each row with x̃ = [x, 1], (rows,).

    The diagonal of G replaces a G of shape (0, 0).
    """
    n, p = X.shape
    if not weights.any():  # no row counts
        return np.zeros(n)
    if 0 < len(gram) <= LEVERAGE_FEATURES + 1:
        basis, out = _leverage_basis(gram), np.empty(n)
        for rows in _slices(n, p + 1):
            some = X[rows] if scipy.sparse.issparse(X) else np.ascontiguousarray(X[rows])
            out[rows] = np.square(np.asarray(some @ basis[:-1]) + basis[-1]).sum(axis=1)
        return out
    if scipy.sparse.issparse(X):
        squares = X.astype(np.float64)
        squares.data **= 2
        total = squares.T @ weights
        return squares @ np.divide(1, total, out=np.zeros(p), where=total > 0) + 1 / weights.sum()
    total = np.zeros(p)
    for rows in _slices(n, p + 1):
        total += weights[rows] @ _squares(X[rows])
    inverse, out = np.divide(1, total, out=np.zeros(p), where=total > 0), np.empty(n)
    for rows in _slices(n, p + 1):
        out[rows] = _squares(X[rows]) @ inverse
    return out + 1 / weights.sum()


def _leverage_basis(gram: Float) -> Float:
    """Return B with x̃ᵀG⁺x̃ = ‖Bᵀx̃‖², exactly or about.

    With more than `SKETCHED` columns B is multiplied by a random matrix of `SKETCHES` columns, so
    that ‖Bᵀx̃‖² is right to about a quarter (Drineas, Magdon-Ismail, Mahoney and Woodruff 2012,
    section 3).

    Parameters
    ----------
    gram : (p+1, p+1) float64
    """
    d, size = len(gram), np.sqrt(np.diag(gram))
    inverse = np.divide(1, size, out=np.zeros(d), where=size > 0)
    scaled = gram * np.outer(inverse, inverse)
    scaled[np.diag_indices(d)] = 1 + LEVERAGE_LIFT
    factor = scipy.linalg.cholesky(scaled, lower=True, overwrite_a=True, check_finite=False)
    right = np.eye(d)
    if d > SKETCHED:
        right = np.random.default_rng(0).standard_normal((d, SKETCHES)) / np.sqrt(SKETCHES)
    found: Float = scipy.linalg.solve_triangular(
        factor, right, lower=True, trans=1, overwrite_b=True, check_finite=False
    )
    return inverse[:, None] * found


def _squares(X: NDArray) -> Float:
    """Return squares in C order.

    Products round by the order, and a cached block may have another.
    """
    return np.square(X, order="C", dtype=np.float64)


def _slices(n: int, n_columns: int) -> Iterator[slice]:
    """Cut ``n`` rows into slices of about `LEVERAGE_BYTES`."""
    step = max(LEVERAGE_BYTES // (8 * n_columns), 64)
    return (slice(start, start + step) for start in range(0, n, step))


def leverage_bytes(n_features: int, gram: bool) -> int:
    """Return the bytes that `leverages` allocates over dense rows."""
    d = n_features + 1
    rows = 4 * max(LEVERAGE_BYTES, 8 * 64 * d)  # as stored, in float64, and their squares
    return rows + (6 * 8 * d * d if gram and n_features <= LEVERAGE_FEATURES else 32 * d)
