r"""Coordinates of θ in which the features have mean zero.

With free intercepts the logits are the same for

.. math::  z = W x + b = W (x - μ) + \tilde b, \qquad \tilde b = b + W μ.

The penalty knows W alone, so F is the same function, and its optimum is the same. If the means of
features exceed their spreads, a change of W is nearly a change of b, and every solver needs more
passes. Solvers therefore move (W, b̃). The data are not changed: points and sums are converted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Coordinates:
    """The map between θ = (W, b) and the point (W, b + Wμ) that a solver moves.

    Attributes
    ----------
    shift : (p,) float64
        μ; of shape (0,) for the identity.
    """

    shift: Float

    def raw(self, theta: Float) -> Float:
        """Return θ from a solver's point, (..., K, p+1)."""
        return self._moved(theta, -1.0)

    def centred(self, theta: Float) -> Float:
        """Return a solver's point from θ, (..., K, p+1)."""
        return self._moved(theta, 1.0)

    def _moved(self, theta: Float, sign: float) -> Float:
        if not len(self.shift):
            return theta
        found = theta.copy()
        found[..., -1] += sign * (theta[..., :-1] @ self.shift)
        return found

    def gradient(self, raw: Float) -> Float:
        """Return derivatives by a solver's point from those by θ, (K, p+1)."""
        if not len(self.shift):
            return raw
        found = raw.copy()
        found[:, :-1] -= raw[:, -1:] * self.shift
        return found

    def raw_gradient(self, centred: Float) -> Float:
        """Return derivatives by θ from those by a solver's point, (K, p+1)."""
        if not len(self.shift):
            return centred
        found = centred.copy()
        found[:, :-1] += centred[:, -1:] * self.shift
        return found

    def gram(self, G: Float) -> Float:
        """Return Σ x̃x̃ᵀ with x̃ = [x − μ, 1] from that with [x, 1]; also of stacks (..., p+1, p+1).

        A diagonal (p+1,) gives the diagonal.
        """
        if not len(self.shift):
            return G
        if G.ndim == 1:
            weight = G[-1]
            least = np.finfo(np.float64).eps * G[:-1]
            return np.append(np.maximum(G[:-1] - weight * self.shift**2, least), weight)
        found = G.copy()
        found[..., :-1, :] -= self.shift[:, None] * found[..., -1:, :]
        found[..., :, :-1] -= found[..., :, -1:] * self.shift
        return found

    def hessian(self, H: Float, n_classes: int) -> Float:
        """Return second derivatives by a solver's point from those by θ, (K·(p+1), K·(p+1))."""
        if not len(self.shift):
            return H
        d = len(self.shift) + 1
        blocks = H.reshape(n_classes, d, n_classes, d).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(self.gram(blocks).transpose(0, 2, 1, 3)).reshape(H.shape)


RAW = Coordinates(np.zeros(0))
"""The identity."""
