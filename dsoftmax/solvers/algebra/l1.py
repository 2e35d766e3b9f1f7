"""The L1 penalty Σ wⱼ|xⱼ|: its subgradient, its proximal operator and its best shift."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

SHIFT_ROUNDING = 1e-9
"""Rounding of a shift, as a fraction of the feature's largest coefficient."""


def l1_norm(theta: Float, weights: Float) -> float:
    """Return Σ wⱼ|θⱼ|."""
    return float(np.sum(weights * np.abs(theta)))


def subgradient(gradient: Float, x: Float, weights: Float) -> Float:
    """Return the minimum-norm subgradient of f + Σ wⱼ|xⱼ|, from ∇f.

    Andrew and Gao 2007, eq. 4, give its negative.
    """
    return np.where(x != 0, gradient + weights * np.sign(x), shrunk(gradient, weights))


def shrunk(x: Float, weights: Float) -> Float:
    """Return x with each entry closer to zero by w, or zero: the proximal operator of Σ wⱼ|xⱼ|."""
    found: Float = np.sign(x) * np.maximum(np.abs(x) - weights, 0.0)
    return found


def shift(theta: Float, penalty: float, l1: float) -> Float:
    """Return θ with the coefficients of each feature shifted to the least λ/2·‖W‖² + λ₁‖W‖₁.

    A shift of all classes changes no probability. The best shift is the median of the
    coefficients and of their mean + λ₁/(λK)·(K − 2i), i = 0 … K (Li and Osher 2009, "A new median
    formula with applications to PDE based denoising").
    """
    W = theta[:, :-1]
    K = len(W)
    spread = np.array(
        [
            0.0 if K == 2 * i else (K - 2 * i) * (l1 / (penalty * K) if penalty else np.inf)
            for i in range(K + 1)
        ]
    )
    best = np.median(np.vstack([W, W.mean(axis=0) + spread[:, None]]), axis=0)
    best[np.abs(best) <= SHIFT_ROUNDING * np.abs(W).max(axis=0)] = 0.0  # zeros stay exact
    return np.column_stack([W - best, theta[:, -1]])
