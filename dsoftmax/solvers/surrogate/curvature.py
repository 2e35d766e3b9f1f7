"""The curvature of a surrogate: bounded, pinned in flat directions, and judged for float32."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra import definite
from dsoftmax.solvers.algebra.kronecker import shift_matrix

Float = NDArray[np.float64]

CHOLESKY_SHIFT_CURVATURE = 1e-3
"""Curvature of the shift of all classes, as a fraction of the others' mean.

The shift changes no probability. A Cholesky factor needs its curvature, and a smaller one would
make the factor's condition worse.
"""
MOST_TAKEN = 0.9
"""Limit on the fraction of the sample's curvature that C takes away in any direction.

C is wrong beyond it.
"""
LEAST_CONDITION = 1e-6
"""Reciprocal condition number below which passes sum the Hessian in float64.

It is that of the Hessian scaled to a unit diagonal.
"""


@dataclass(frozen=True)
class Gauge:
    """The directions of θ in which F does not curve.

    Attributes
    ----------
    free : (K, p+1) bool
        Entries that move.
    penalty : (K, p+1) float64
        λ of every entry.
    """

    free: NDArray[np.bool_]
    penalty: Float

    def pinned(self, B: Float, shifts: bool = False) -> Float:
        """Return B with curvature in every direction.

        It is added to the shifts of all classes and to the entries that must not move. With
        ``shifts`` it is added to penalised shifts too.
        """
        K, d = self.free.shape
        size = np.maximum(np.diag(B).reshape(K, d).mean(axis=0), 0)
        penalised = (self.penalty.max(axis=0) > 0) & (not shifts)
        shift = np.where(penalised, 0.0, CHOLESKY_SHIFT_CURVATURE * np.maximum(size, 1e-12))
        found = B + shift_matrix(shift, K)
        floor = 1e-12 * np.maximum(np.diag(found), 0) + 1e-300
        found[np.diag_indices(len(found))] += np.where(self.free.ravel(), floor, 1.0)
        return found

    def bounded(self, C: Float, H: Float) -> tuple[Float, float]:
        """Return C, and the largest α with C + (1 - α)·H positive semidefinite.

        The surrogate with this α is convex and has a minimum. C is cut off in directions in which
        it would take more than `MOST_TAKEN` of H.
        """
        if not C.any():
            return C, 1.0
        pinned = self.pinned(H)
        size = np.sqrt(np.diag(pinned) + np.abs(np.diag(C)))  # H may be zero for a feature
        scale = np.outer(size, size)
        try:
            half = scipy.linalg.cholesky(
                definite.scaled(pinned, size), lower=True, check_finite=False
            )
        except scipy.linalg.LinAlgError:  # rounding hides curvature: there is no metric for C
            return np.zeros_like(C), 1.0
        inner = scipy.linalg.solve_triangular(half, C / scale, lower=True, check_finite=False)
        inner = scipy.linalg.solve_triangular(half, inner.T, lower=True, check_finite=False)
        values, vectors = scipy.linalg.eigh(inner, check_finite=False)
        kept = np.maximum(values, -MOST_TAKEN)
        if kept[0] > values[0]:
            outer = size[:, None] * (half @ vectors)
            C = C + (outer * (kept - values)) @ outer.T
        return C, 1 + min(float(kept[0]), 0.0)

    def needs_double(self, H: Float) -> bool:
        """Return whether float32 would hide the smallest curvature, in units of the features."""
        pinned = self.pinned(H, shifts=True)
        scaled = definite.scaled(pinned, np.sqrt(np.diag(pinned)))
        factor, failed = scipy.linalg.lapack.dpotrf(scaled)
        reciprocal, _ = scipy.linalg.lapack.dpocon(factor, float(np.abs(scaled).sum(axis=0).max()))
        return bool(failed) or float(reciprocal) < LEAST_CONDITION
