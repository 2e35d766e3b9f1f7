"""Symmetric matrices of low rank that fit a Hessian to the gradients of a few points."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Float = NDArray[np.float64]

LEAST_EIGENVALUE = 1e-8
"""Least eigenvalue of the scaled middle matrix that `inverse_middle` inverts.

Smaller ones would divide by rounding.
"""
LEAST_CURVATURE = 1e-3
"""Least curvature of a pair that `bfgs_update` believes, as a fraction of the old curvature."""


def rank_one_fit(steps: Float, lacks: Float, size: int) -> Float:
    """Return the symmetric C of least rank with C·stepᵢ = lackᵢ.

    C = Y (SᵀY)⁻¹ Yᵀ, with SᵀY made symmetric: the symmetric rank-one updates in the compact form
    of Byrd, Nocedal and Schnabel (1994, eq. 5.2).

    Parameters
    ----------
    steps, lacks : (n, ...) float64
    size : int
        Entries of one step.

    Returns
    -------
    (size, size) float64
    """
    if not len(steps):
        return np.zeros((size, size))
    S, Y = steps.reshape(len(steps), -1), lacks.reshape(len(lacks), -1)
    turn, values = inverse_middle(S, Y)
    half = turn.T @ Y
    found: Float = half.T @ (half / values[:, None])
    return found


def inverse_middle(S: Float, Y: Float) -> tuple[Float, Float]:
    """Return T and v with (SYᵀ)⁻¹ = T·diag(1/v)·Tᵀ, SYᵀ made symmetric.

    Pairs whose curvature is rounding are left out (Nocedal and Wright 2006, eq. 6.26).

    Parameters
    ----------
    S, Y : (n, size) float64
        Steps and lacks.

    Returns
    -------
    turn : (n, m) float64
    values : (m,) float64
    """
    products = S @ Y.T
    middle = np.tril(products) + np.tril(products, -1).T
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(middle)), 1e-300))
    values, vectors = scipy.linalg.eigh(middle * np.outer(scale, scale))
    seen = np.abs(values) > LEAST_EIGENVALUE
    return vectors[:, seen] * scale[:, None], values[seen]


@dataclass(frozen=True)
class LowRank:
    """The symmetric matrix −Wᵀ·M·W.

    Attributes
    ----------
    factor : (m, size) float64
        W.
    middle : (m, m) float64
        M.
    """

    factor: Float
    middle: Float

    def product(self, V: Float) -> Float:
        """Return the product with V, which may have any shape of ``size`` entries."""
        if not len(self.middle):
            return np.zeros_like(V)
        found: Float = -((self.middle @ (self.factor @ V.ravel())) @ self.factor).reshape(V.shape)
        return found

    def matrix(self) -> Float:
        """Return the matrix itself, (size, size)."""
        found: Float = -(self.factor.T @ (self.middle @ self.factor))
        return found


def bfgs_update(
    steps: Float,
    lacks: Float,
    here: Callable[[Float], Float],
    first: Callable[[Float], Float],
) -> LowRank:
    """Return the BFGS update of a matrix by the pairs δ, here·δ + lack.

    The compact form of Byrd, Nocedal and Schnabel (1994, eq. 2.17). It leaves out pairs with less
    curvature than `LEAST_CURVATURE`.

    Parameters
    ----------
    steps, lacks : (n, K, p+1) float64
        δ and the lacks.
    here : callable
        Product with the Hessian that lacks something.
    first : callable
        Product with the matrix that is updated.
    """
    n, size = len(steps), steps.shape[1] * steps.shape[2]
    S, factor = steps.reshape(n, size), np.empty((2 * n, size))
    for i in range(n):
        factor[i], factor[n + i] = first(steps[i]).ravel(), (here(steps[i]) + lacks[i]).ravel()
    bends, along = (
        np.array([float(s @ f) for s, f in zip(S, part, strict=True)])
        for part in (factor[:n], factor[n:])
    )
    believed = (bends > 0) & (along > LEAST_CURVATURE * bends)
    if not believed.all():
        S, factor, n = S[believed], factor[np.tile(believed, 2)], int(believed.sum())
    products = S @ factor[n:].T
    lower = np.tril(products, -1)
    middle = np.block([[S @ factor[:n].T, lower], [lower.T, -np.diag(np.diag(products))]])
    scale = 1 / np.sqrt(np.abs(np.diag(middle)))
    inverse = np.linalg.pinv(middle * np.outer(scale, scale), rcond=1e-12) if n else middle
    return LowRank(factor, inverse * np.outer(scale, scale))
