r"""What the sample's Hessian lacks, as far as the gradients of a few passes tell.

A pair is a step δ and its lack l: the change of ∇F along δ less that of the sample's ∇f. The
symmetric matrix of least rank with Cδ = l for all pairs is L(SᵀL)⁻¹Lᵀ (Byrd, Nocedal and Schnabel
1994, eq. 5.2). Its negative part is where the sample curves more than the data. There the sample is
too cautious, which does no harm, and a surrogate with negative curvature would have no minimum. So
only the positive part is kept, in the metric M of the damping.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Float = NDArray[np.float64]

LEAST_EIGENVALUE = 1e-8
"""Least eigenvalue of the scaled middle matrix that is inverted. Smaller ones are rounding."""


@dataclass(frozen=True)
class Correction:
    """The positive semidefinite matrix Σ qᵢqᵢᵀ.

    Attributes
    ----------
    vectors : (m, K·(p+1)) float64
        qᵢ.
    """

    vectors: Float

    def product(self, V: Float) -> Float:
        """Return the product with V (K, p+1). Work 4·m·K·(p+1) flops."""
        found: Float = ((self.vectors @ V.ravel()) @ self.vectors).reshape(V.shape)
        return found


def positive_correction(steps: Float, lacks: Float, metric: Float) -> Correction:
    """Return the positive part of L(SᵀL)⁻¹Lᵀ in a diagonal metric.

    Parameters
    ----------
    steps, lacks : (n, K, p+1) float64
    metric : (K, p+1) float64
        M > 0.

    Notes
    -----
    Let N = LᵀM⁻¹L = VDVᵀ. In the orthonormal basis M^-½LVD^-½ the matrix is D^½Vᵀ(SᵀL)⁻¹VD^½, of
    size n. Its positive part UEUᵀ gives the vectors LVD^-½UE^½. Work 6·n²·K·(p+1) flops, memory
    the result and one array with the shape of θ.
    """
    n = len(steps)
    if not n:
        return Correction(np.zeros((0, metric.size)))
    S, L = steps.reshape(n, -1), lacks.reshape(n, -1)
    products = S @ L.T
    middle, units = _scaled(np.tril(products) + np.tril(products, -1).T)
    values, vectors = scipy.linalg.eigh(middle)
    seen = np.abs(values) > LEAST_EIGENVALUE
    inverse = (units[:, None] * vectors[:, seen] / values[seen]) @ (
        units[:, None] * vectors[:, seen]
    ).T
    lengths, scale = _scaled(np.array([L @ (one / metric.ravel()) for one in L]))
    sizes, basis = scipy.linalg.eigh(lengths)
    kept = sizes > LEAST_EIGENVALUE * sizes[-1]
    root = np.sqrt(sizes[kept])
    turned = basis[:, kept] / scale[:, None]
    inner, outer = scipy.linalg.eigh((turned * root).T @ inverse @ (turned * root))
    positive = inner > 0
    mixed = (
        scale[:, None] * (basis[:, kept] / root) @ (outer[:, positive] * np.sqrt(inner[positive]))
    )
    return Correction(mixed.T @ L)


def _scaled(matrix: Float) -> tuple[Float, Float]:
    """Return a symmetric matrix scaled to a diagonal of ±1, and the factors of its rows."""
    factors = 1 / np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-300))
    return matrix * np.outer(factors, factors), factors
