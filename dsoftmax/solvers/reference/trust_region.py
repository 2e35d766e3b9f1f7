"""The trust-region subproblem, solved for any radius by one eigendecomposition.

The subproblem is min over s of ⟨g, s⟩ + ½ sᵀHs with sᵀMs ≤ Δ² (Nocedal and Wright 2006, section
4.3; Moré and Sorensen 1983). The generalised eigenvectors V of H and M, with VᵀMV = I and VᵀHV =
Λ, turn it into a search for one number μ: s(μ) = −V(Λ + μ)⁻¹Vᵀg.

F is convex, so Λ ≥ 0 except for the errors of an estimate of H; the module takes |Λ|. The hard
case then occurs only at Λ = 0 and Vᵀg = 0, and the shortest step is a solution.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from dsoftmax.solvers.algebra.kronecker import kronecker_matrix, shift_matrix
from dsoftmax.solvers.protocol import Problem

Float = NDArray[np.float64]

EIGEN_LIFT = 1e-11
"""Constant added to the diagonals of H and M, scaled to 1.

Every direction then has curvature and length.
"""
EIGEN_SHIFT_CURVATURE = 1e-8
"""Curvature of the shift of all classes, as a fraction of the feature's own.

The shift changes no probability. An eigendecomposition needs its curvature only to be above
rounding.
"""
MAX_ROOTS = 100
"""Limit on the iterations that find μ."""


@dataclass(frozen=True)
class Quadratic:
    """⟨g, s⟩ + ½ sᵀHs in the eigenvectors of H and M.

    Attributes
    ----------
    sizes : (m,) float64
        |Λ|.
    vectors : (m, m) float64
        V.
    slopes : (m,) float64
        Vᵀg.
    free : (K, p+1) bool
        The m entries that move.
    """

    sizes: Float
    vectors: Float
    slopes: Float
    free: NDArray[np.bool_]

    def step(self, radius: float = np.inf) -> tuple[Float, float, float]:
        """Return the step (K, p+1), the fall of the quadratic along it, and its length in M."""
        turned = self.slopes / (self.sizes + self._damping(radius))
        found = np.zeros(self.free.shape)
        found[self.free] = -self.vectors @ turned
        fall = float(self.slopes @ turned - 0.5 * self.sizes @ turned**2)
        return found, fall, float(np.linalg.norm(turned))

    def _damping(self, radius: float) -> float:
        """Return μ by Newton's method on 1/Δ − 1/‖s(μ)‖, from the left (algorithm 4.3)."""
        steepest = float(np.linalg.norm(self.slopes)) / max(radius, 1e-300)
        damping = max(steepest - float(self.sizes.max(initial=0)), 0.0)
        for _ in range(MAX_ROOTS):
            turned = self.slopes / (self.sizes + damping)
            square = float(turned @ turned)
            length = np.sqrt(square)
            if not length > radius * (1 + 1e-6):
                break
            slope = float(turned @ (turned / (self.sizes + damping)))
            damping += square / slope * (length - radius) / radius
        return damping


@dataclass(frozen=True)
class Metric:
    """The length of a step: the mean square change of the logits, M = (I − 11ᵀ/K) ⊗ G + penalty.

    A length that depends on the probabilities, as in A ⊗ G or in the Hessian itself, lets a step
    move the rows that are fitted well by any amount. This metric needed fewer passes than those.

    Attributes
    ----------
    matrix : (m, m) float64
        M of the m free entries, scaled to a diagonal of ones.
    scale : (m,) float64
        Reciprocal square roots of M's diagonal.
    pins : (m, m) float64
        Curvature of the shift of all classes, scaled as M.
    free : (K, p+1) bool
        Entries that move.
    """

    matrix: Float
    scale: Float
    pins: Float
    free: NDArray[np.bool_]

    @classmethod
    def of(cls, problem: Problem) -> "Metric":
        """Return the metric of a problem."""
        K, moves = len(problem.free), problem.free.ravel()
        mean, entries = np.full((K, K), 1 / K), np.ix_(moves, moves)
        gram = problem.gram if problem.gram.ndim == 2 else np.diag(problem.gram)
        # A feature that is zero everywhere has the length 1.
        gram = gram + np.diag(np.where(np.diag(gram) > 0, 0.0, 1.0))
        pins = shift_matrix(EIGEN_SHIFT_CURVATURE * np.diag(gram), K)[entries]
        matrix = kronecker_matrix(np.eye(K) - mean, gram, problem.penalty)[entries] + pins
        scale = 1 / np.sqrt(np.diag(matrix))
        both = np.outer(scale, scale)
        return cls(_lifted(matrix * both), scale, pins * both, problem.free)

    def quadratic(self, hessian: Float, gradient: Float) -> Quadratic:
        """Return the quadratic of H (K·(p+1), K·(p+1)) and g (K, p+1). Work: about 25·m³ flops."""
        moves = self.free.ravel()
        scaled = hessian[np.ix_(moves, moves)] * np.outer(self.scale, self.scale)
        sizes, vectors = scipy.linalg.eigh(_lifted(scaled + self.pins), self.matrix)
        vectors *= self.scale[:, None]
        sizes = np.maximum(np.abs(sizes), 1e-300)
        return Quadratic(sizes, vectors, vectors.T @ gradient[self.free], self.free)


def _lifted(matrix: Float) -> Float:
    matrix[np.diag_indices(len(matrix))] += EIGEN_LIFT
    return matrix
