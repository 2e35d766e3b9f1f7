r"""Coordinates of θ in which the features have mean zero, and perhaps standard deviation one.

With free intercepts the logits are the same for

.. math::  z = W x + b = W (x - μ) + \tilde b, \qquad \tilde b = b + W μ.

The penalty knows W alone, so F is the same function, and its optimum is the same. If the means of
features exceed their spreads, a change of W is nearly a change of b, and every solver needs more
passes. Solvers therefore move (W, b̃). The data are not changed: points and sums are converted.

With standardised features, (x − μ)/σ, solvers move (Wσ, b̃), and the penalty is that of Wσ. So F
is another function of W, with another optimum. It is that of features which were standardised
before the training, and the result is converted to the units of x.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def _none() -> Float:
    return np.zeros(0)


@dataclass(frozen=True)
class Coordinates:
    """The map between θ = (W, b) and the point (Wσ, b + Wμ) that a solver moves.

    Attributes
    ----------
    shift : (p,) float64
        μ; of shape (0,) for the identity.
    scale : (p,) float64
        σ, positive; of shape (0,) for ones. It needs a ``shift``.
    """

    shift: Float
    scale: Float = field(default_factory=_none)

    def raw(self, theta: Float) -> Float:
        """Return θ from a solver's point, (..., K, p+1)."""
        if not len(self.shift):
            return theta
        found = theta.copy()
        if len(self.scale):
            found[..., :-1] /= self.scale
        found[..., -1] -= found[..., :-1] @ self.shift
        return found

    def centred(self, theta: Float) -> Float:
        """Return a solver's point from θ, (..., K, p+1)."""
        if not len(self.shift):
            return theta
        found = self.scaled(theta.copy())
        found[..., -1] += theta[..., :-1] @ self.shift
        return found

    def scaled(self, theta: Float) -> Float:
        """Return (Wσ, b) from θ, (..., K, p+1): the coefficients that have the penalty."""
        if not len(self.scale):
            return theta
        found = theta.copy()
        found[..., :-1] *= self.scale
        return found

    def sizes(self, of_features: Float) -> Float:
        """Return sizes of the features in the units of a point, (..., p)."""
        return of_features / self.scale if len(self.scale) else of_features

    def gradient(self, raw: Float) -> Float:
        """Return derivatives by a solver's point from those by θ, (K, p+1)."""
        if not len(self.shift):
            return raw
        found = raw.copy()
        found[:, :-1] -= raw[:, -1:] * self.shift
        if len(self.scale):
            found[:, :-1] /= self.scale
        return found

    def raw_gradient(self, centred: Float) -> Float:
        """Return derivatives by θ from those by a solver's point, (K, p+1)."""
        if not len(self.shift):
            return centred
        found = self.scaled(centred.copy())
        found[:, :-1] += centred[:, -1:] * self.shift
        return found

    def gram(self, G: Float) -> Float:
        """Return Σ x̃x̃ᵀ with x̃ = [(x − μ)/σ, 1] from that with [x, 1].

        Also of stacks (..., p+1, p+1). A diagonal (p+1,) gives the diagonal.
        """
        if not len(self.shift):
            return G
        if G.ndim == 1:
            weight = G[-1]
            least = np.finfo(np.float64).eps * G[:-1]
            squares = np.maximum(G[:-1] - weight * self.shift**2, least)
            return np.append(self.sizes(self.sizes(squares)), weight)
        found = G.copy()
        found[..., :-1, :] -= self.shift[:, None] * found[..., -1:, :]
        found[..., :, :-1] -= found[..., :, -1:] * self.shift
        if len(self.scale):
            found[..., :-1, :] /= self.scale[:, None]
            found[..., :, :-1] /= self.scale
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
