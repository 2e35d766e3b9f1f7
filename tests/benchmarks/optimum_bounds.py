r"""Bounds of the optimum from a θ: F, its gradient and a proven lower bound of F*, in plain NumPy.

Nothing here uses the package's kernels, solvers or sums, so it can judge them. All is float64.
For K ≥ 3 classes and n rows

.. math::
    F(W, b) = \frac1n \sum_i (\log\textstyle\sum_k e^{z_{ik}} - z_{iy_i}) + \frac λ2 \|W\|^2,

with :math:`z_i = W x_i + b` and :math:`λ = 1/(Cn)`. G(W) = min_b F(W, b) is strongly convex with
modulus λ: a minimum over some variables of a convex function stays convex, and λ/2·‖W‖² is added.
So with b at its minimum

.. math::  F^* ≥ F(W, b) - \|∇_W F(W, b)\|^2 / (2λ)

(Boyd and Vandenberghe 2004, eq. 9.9).

With an L1 part :math:`λ_1 \|W\|_1` the subgradient of least norm takes the place of the gradient.
If λ is 0, duality bounds F* instead. Let f be the mean loss, g its gradient by W, and t = min(1,
λ₁/max|g|). The dual point that is t times the residuals is feasible, and entropy is concave, so

.. math::  F^* ≥ t \, (f - ⟨W, g⟩)

(Kim, Koh, Lustig, Boyd and Gorinevsky 2007, section III-B).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

Float = NDArray[np.float64]

BLOCK_BYTES = 32 * 2**20
NEWTON_ENTRIES = 1500
"""Most entries of a θ that is refined by Newton's method with the whole Hessian."""
CLOSE = 1e-9
"""Unknown part of F that is small enough not to be refined."""
REFINEMENTS, HALVINGS, INTERCEPT_STEPS = 8, 30, 30


@dataclass(frozen=True)
class Bounds:
    """Bounds of the optimum.

    Attributes
    ----------
    theta : (K, p+1) float64
        The best point known.
    value : float
        F at this point: an upper bound of F*.
    lower : float
        A lower bound of F*.
    """

    theta: Float
    value: float
    lower: float

    @property
    def looseness(self) -> float:
        """The unknown part of F*, relative to F."""
        return (self.value - self.lower) / self.value


@dataclass(frozen=True)
class PlainObjective:
    """F by its definition.

    Attributes
    ----------
    X : (n, p) ndarray or CSR
    y : (n,) integers
        Codes 0 … K-1. K ≥ 3, because two classes have another formula.
    penalty : float
        λ.
    l1 : float
        λ₁.
    """

    X: Any
    y: NDArray
    penalty: float
    l1: float = 0.0

    @classmethod
    def of(cls, X: Any, y: NDArray, C: float, l1_ratio: float = 0.0) -> "PlainObjective":
        """Return the objective for scikit-learn's C and ``l1_ratio``."""
        total = 1 / (C * len(y))
        return cls(X, y, (1 - l1_ratio) * total, l1_ratio * total)

    def _l1_norm(self, theta: Float) -> float:
        return self.l1 * float(np.sum(np.abs(theta[:, :-1])))

    def _blocks(self) -> Iterator[tuple[Any, NDArray]]:
        step = max(BLOCK_BYTES // (8 * self.X.shape[1]), 1000)
        for start in range(0, len(self.y), step):
            yield self.X[start : start + step].astype(np.float64), self.y[start : start + step]

    def value(self, theta: Float) -> float:
        """Return F at (K, p+1)."""
        total = 0.0
        for X, y in self._blocks():
            total += _losses(np.asarray(X @ theta[:, :-1].T) + theta[:, -1], y)[0]
        smooth = total / len(self.y) + 0.5 * self.penalty * float(np.sum(theta[:, :-1] ** 2))
        return smooth + self._l1_norm(theta)

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F at (K, p+1), without the L1 part."""
        total, gradient = 0.0, np.zeros_like(theta)
        for X, y in self._blocks():
            loss, P = _losses(np.asarray(X @ theta[:, :-1].T) + theta[:, -1], y)
            P[np.arange(len(y)), y] -= 1
            total += loss
            gradient[:, :-1] += (X.T @ P).T
            gradient[:, -1] += P.sum(axis=0)
        gradient /= len(self.y)
        gradient[:, :-1] += self.penalty * theta[:, :-1]
        return total / len(self.y) + 0.5 * self.penalty * float(
            np.sum(theta[:, :-1] ** 2)
        ), gradient

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F, (K·(p+1), K·(p+1)); X is dense."""
        K, d = theta.shape
        H = np.zeros((K, d, K, d))
        for X, y in self._blocks():
            P = _losses(X @ theta[:, :-1].T + theta[:, -1], y)[1]
            tilde = np.column_stack([X, np.ones(len(y))])
            for k in range(K):
                for m in range(k + 1):
                    part = tilde.T @ ((P[:, k] * ((k == m) - P[:, m]))[:, None] * tilde)
                    H[k, :, m] += part
                    if m < k:
                        H[m, :, k] += part
        H /= len(self.y)
        H = H.reshape(K * d, K * d)
        H[np.diag_indices(K * d)] += np.tile(np.append(np.full(d - 1, self.penalty), 0.0), K)
        return H

    def with_best_intercepts(self, theta: Float) -> Float:
        """Return θ with b at its minimum, by Newton's method for K numbers."""
        theta = theta.copy()
        products = np.concatenate([np.asarray(X @ theta[:, :-1].T) for X, _ in self._blocks()])
        value, P = _losses(products + theta[:, -1], self.y)
        shares = np.bincount(self.y, minlength=len(theta))
        for _ in range(INTERCEPT_STEPS):
            slope = P.sum(axis=0) - shares
            step = np.linalg.lstsq(np.diag(P.sum(axis=0)) - P.T @ P, slope)[0]
            trial = theta[:, -1] - (step - step.mean())
            after, there = _losses(products + trial, self.y)
            if not (
                after < value or np.abs(there.sum(axis=0) - shares).max() < np.abs(slope).max()
            ):
                break
            theta[:, -1], value, P = trial, after, there
        return theta

    def bounds(self, theta: Float) -> Bounds:
        """Return the bounds that θ proves, by the inequalities at the top of this file."""
        theta = self.with_best_intercepts(theta)
        value, gradient = self.value_and_gradient(theta)
        W, slope = theta[:, :-1], gradient[:, :-1]
        upper = value + self._l1_norm(theta)
        if not self.penalty:
            share = min(1.0, self.l1 / float(np.abs(slope).max()))
            return Bounds(theta, upper, share * (value - float(np.sum(W * slope))))
        at_zero = np.sign(slope) * np.maximum(np.abs(slope) - self.l1, 0)
        slope = np.where(W != 0, slope + self.l1 * np.sign(W), at_zero)
        return Bounds(theta, upper, upper - float(np.sum(slope**2)) / (2 * self.penalty))

    def refined(self, theta: Float) -> Bounds:
        """Return the bounds of θ, after Newton steps if they are loose and θ is small."""
        best = self.bounds(theta)
        for _ in range(REFINEMENTS):
            if (
                best.looseness <= CLOSE
                or self.l1
                or theta.size > NEWTON_ENTRIES
                or scipy.sparse.issparse(self.X)
            ):
                break
            found = self.bounds(self._newton_step(best.theta))
            if not (found.value < best.value or found.looseness < best.looseness):
                break
            best = found
        return best

    def _newton_step(self, theta: Float) -> Float:
        value, gradient = self.value_and_gradient(theta)
        K, d = theta.shape
        H = self.hessian(theta)
        last = np.arange(d - 1, K * d, d)
        # A shift of all intercepts changes nothing, so any curvature serves.
        H[np.ix_(last, last)] += 1 / K
        scale = 1 / np.sqrt(np.diag(H))
        step = scale * scipy.linalg.solve(
            H * np.outer(scale, scale), scale * gradient.ravel(), assume_a="sym"
        )
        step = step.reshape(theta.shape)
        for halving in range(HALVINGS):
            trial = theta - step / 2**halving
            if self.value(trial) <= value:
                return trial
        return theta - step


def _losses(Z: Float, y: NDArray) -> tuple[float, Float]:
    """Return the sum of the losses, and the probabilities in the buffer of the logits."""
    chosen = Z[np.arange(len(y)), y]
    top = Z.max(axis=1)
    Z -= top[:, None]
    np.exp(Z, out=Z)
    sums = Z.sum(axis=1)
    Z /= sums[:, None]
    return float(np.sum(np.log(sums) + top - chosen)), Z
