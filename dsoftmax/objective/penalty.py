r"""The penalty of F, and the step from sums over the rows to F.

.. math::  F(\theta) = J_s(\theta)/S + \frac{1}{CS}\Bigl(\frac{1-ρ}{2}\|W\|^2 + ρ\|W\|_1\Bigr)
           = J_s(\theta)/S + \frac{λ}{2}\|W\|^2 + λ_1\|W\|_1

ρ is the ``l1_ratio``. The intercepts are free of penalty. S is the sum of all weights, so ``tol``
does not depend on the number of rows. Answers contain all of F except the L1 part, which has no
gradient. A solver that supports it adds it (`dsoftmax.solvers.protocol.Problem.l1`).

Two classes: scikit-learn has one row of coefficients, w = θ₁ − θ₀. With θ₁ = −θ₀ = w/2, ‖θ‖² =
‖w‖²/2. So C/2 in the formula above gives scikit-learn's ‖w‖²/(2C): the same F, and the same
largest gradient entry. The L1 part would not halve in this way. If ρ > 0, the form is therefore z
= (0, wᵀx + b): row 0 of θ stays at 0, and row 1 is scikit-learn's own, with C.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.kernels.hessian import unpack_hessian
from dsoftmax.objective.coordinates import RAW, Coordinates

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Penalty:
    """The L2 and L1 parts of F, and the entries of θ that are fixed at 0.

    Attributes
    ----------
    total_weight : float
        S = Σ wᵢ c of the label.
    l2, l1 : float
        λ and λ₁.
    fit_intercept : bool
        Whether the intercepts are free; otherwise they are fixed at 0.
    one_row : bool
        Whether row 0 of θ is fixed at 0.
    """

    total_weight: float
    l2: float
    l1: float
    fit_intercept: bool
    one_row: bool

    @classmethod
    def of(
        cls, C: float, l1_ratio: float, total_weight: float, n_classes: int, fit_intercept: bool
    ) -> "Penalty":
        """Return the penalty for scikit-learn's C and ``l1_ratio``."""
        one_row = l1_ratio > 0 and n_classes == 2
        two_rows = n_classes == 2 and not one_row
        l2 = (1 - l1_ratio) / ((C / 2 if two_rows else C) * total_weight)
        return cls(total_weight, l2, l1_ratio / (C * total_weight), fit_intercept, one_row)

    def strengths(self, shape: tuple[int, ...]) -> Float:
        """Return λ of every entry of θ, (K, p+1): 0 for intercepts and fixed entries."""
        found = np.full(shape, self.l2)
        found[:, -1] = 0
        found[: self.one_row] = 0
        return found

    def free(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return whether each entry of θ is free, (K, p+1)."""
        found = np.ones(shape, bool)
        found[:, -1] = self.fit_intercept
        found[: self.one_row] = False
        return found

    def in_gauge(self, theta: Float) -> Float:
        """Return θ with row 0 at 0 if it is fixed, and the same probabilities."""
        return theta - theta[0] if self.one_row else theta

    def value(self, J: float, theta: Float) -> float:
        """Return F without its L1 part, from J at θ."""
        W = theta[:, :-1]
        return J / self.total_weight + 0.5 * self.l2 * float(np.sum(W * W))

    def derivative(self, sums: Float, along: Float) -> Float:
        """Return ``sums``/S plus λ times ``along``, with 0 in fixed entries, (K, p+1).

        From ∇J and θ this is ∇F. From ∇²J·V and V it is ∇²F·V.
        """
        found = sums / self.total_weight
        found[:, :-1] += self.l2 * along[:, :-1]
        if not self.fit_intercept:
            found[:, -1] = 0
        found[: self.one_row] = 0
        return found

    def hessian(self, pairs: Float, K: int, d: int, coordinates: Coordinates = RAW) -> Float:
        """Return ∇²F in the coordinates, (K·d, K·d), from the sums of all rows.

        They are the result of `dsoftmax.kernels.hessian.hessian_pairs`.
        """
        diagonal = np.tile(np.r_[np.full(d - 1, self.l2), 0.0], K)
        found = coordinates.hessian(unpack_hessian(pairs, K), K)
        found = found / self.total_weight + np.diag(diagonal)
        if not self.fit_intercept:
            intercepts = np.arange(d - 1, K * d, d)
            found[intercepts, :] = found[:, intercepts] = 0
        if self.one_row:
            found[:d, :] = found[:, :d] = 0
        return found
