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

from dsoftmax.solvers.algebra.low_rank import inverse_middle

Float = NDArray[np.float64]


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
    With L̃ = M^-½L = QR it is M^½·Q·[R(SᵀL)⁻¹Rᵀ]₊·Qᵀ·M^½. Work 8·n²·K·(p+1) flops.
    """
    n, root = len(steps), np.sqrt(metric.ravel())
    if not n:
        return Correction(np.zeros((0, metric.size)))
    S, L = steps.reshape(n, -1), lacks.reshape(n, -1)
    turn, values = inverse_middle(S, L)
    Q, R = scipy.linalg.qr((L / root).T, mode="economic", check_finite=False)
    half = R @ turn
    sizes, turned = scipy.linalg.eigh((half / values) @ half.T)
    kept = sizes > 0
    found = (Q @ (turned[:, kept] * np.sqrt(sizes[kept]))).T
    found *= root
    return Correction(found)
