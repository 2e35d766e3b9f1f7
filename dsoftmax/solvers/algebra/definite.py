"""Solving with a positive definite matrix whose entries differ by many orders of magnitude."""

from collections.abc import Callable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Float = NDArray[np.float64]

FACTOR_LIFT = 1e-10
"""Constant added to a diagonal of ones before a Cholesky factorisation.

It is far above the rounding of float64, which could make the matrix indefinite, and far below the
curvatures that shape a step.
"""


def scaled(matrix: Float, size: Float, lift: float = FACTOR_LIFT) -> Float:
    """Return a matrix in the units of ``size``, with ``lift`` added to its diagonal.

    Parameters
    ----------
    matrix : (n, n) float64
    size : (n,) float64
        Divisors of the rows and of the columns.
    """
    found: Float = matrix / np.outer(size, size)
    found[np.diag_indices(len(found))] += lift
    return found


def solver(matrix: Float, lift: float = FACTOR_LIFT) -> Callable[[Float], Float] | None:
    """Return the map from r (n,) to matrix⁻¹·r; None if the matrix is not positive definite.

    ``lift`` is a part of every diagonal entry that is added to it. Work: n³/3 flops, then 2·n² for
    each r.
    """
    diagonal = np.diag(matrix)
    if not (np.isfinite(matrix).all() and diagonal.min(initial=np.inf) > 0):
        return None
    size = np.sqrt(diagonal)
    try:
        factor = scipy.linalg.cho_factor(
            scaled(matrix, size, lift), overwrite_a=True, check_finite=False
        )
    except scipy.linalg.LinAlgError:
        return None
    return lambda right: scipy.linalg.cho_solve(factor, right / size) / size


def shaped_solver(matrix: Float, shape: tuple[int, ...]) -> Callable[[Float], Float] | None:
    """Return the map of `solver` for arrays of ``shape``, in C order."""
    solve = solver(matrix)
    return None if solve is None else lambda right: solve(right.ravel()).reshape(shape)


def diagonal_solver(matrix: Float, shape: tuple[int, ...]) -> Callable[[Float], Float]:
    """Return the division by the diagonal of a matrix, for arrays of ``shape``.

    Entries of the diagonal that are not positive are replaced by a tiny part of the largest entry.
    """
    size = np.maximum(np.diag(matrix), 1e-12 * float(np.abs(matrix).max()) + 1e-300).reshape(shape)
    return lambda right: right / size
