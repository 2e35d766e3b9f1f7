r"""Features that are stored as packed integers: x = scale · q + offset, by the CF conventions.

Rows stay packed. The logits are the same for

.. math::  z = W x + b = (W \circ s) q + (b + W o),

so that θ is folded into the units of q once a leaf, and sums over q̃ = (q, 1) become sums over x̃.
The penalty knows W alone, and never sees the packed units.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """The map from stored to meant features.

    Attributes
    ----------
    scale, offset : (p,) float64
    """

    scale: Float
    offset: Float

    def theta(self, theta: Float) -> Float:
        """Return θ, or a direction, for stored features from that for meant ones, (..., K, p+1)."""
        found = np.empty_like(theta)
        found[..., :-1] = theta[..., :-1] * self.scale
        found[..., -1] = theta[..., -1] + theta[..., :-1] @ self.offset
        return found

    def gradient(self, stored: Float) -> Float:
        """Return derivatives by θ of meant features from those of stored ones, (..., K, p+1)."""
        found = stored.copy()
        found[..., :-1] = stored[..., :-1] * self.scale + stored[..., -1:] * self.offset
        return found

    def pairs(self, stored: Float) -> Float:
        """Return Hessian sums by θ of meant features from those of stored ones.

        Parameters
        ----------
        stored : (n_pairs, entries) float64
            Upper triangles of Σ w q̃q̃ᵀ, as in `dsoftmax.kernels.packed`.
        """
        d = len(self.scale) + 1
        A = np.zeros((d, d))
        A[np.arange(d - 1), np.arange(d - 1)] = self.scale
        A[:-1, -1], A[-1, -1] = self.offset, 1.0
        upper = np.triu_indices(d)
        found = np.empty_like(stored)
        G = np.empty((d, d))
        for one, out in zip(
            stored.reshape(-1, len(upper[0])), found.reshape(-1, len(upper[0])), strict=True
        ):
            G[upper] = one
            G.T[upper] = one
            out[...] = (A @ G @ A.T)[upper]
        return found

    def decoded(self, X: Any) -> Float:
        """Return meant features of some rows, float64."""
        found: Float = X * self.scale
        found += self.offset
        return found
