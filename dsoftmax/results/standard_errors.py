r"""Standard errors, Wald tests and confidence intervals, from one pass with the exact Hessian.

The sums of a pass give the information :math:`I = \nabla^2 J` at the optimum. With the penalty
:math:`Λ = 1/C` of every penalised coefficient it is :math:`I_λ = I + Λ` (S cancels). With
standardised features it is :math:`Λ = σ^2/C`. The covariance of the estimate θ is approximately

.. math::  \mathrm{cov} = I_λ^{-1}\, I\, I_λ^{-1},

the sandwich with the model's own variance of the gradient. Without a penalty this is the inverse
Fisher information. With a penalty it is the spread of the penalised estimate, and says nothing of
its bias towards zero. The intervals then cover the unpenalised coefficients less often than their
level says.

Adding one vector to all rows of θ changes no probability, so the rows themselves are not
determined. Contrasts of rows are, and only they have standard errors: :math:`θ_k - θ_r` for a
reference class r, or rows minus their mean. Everything is computed in a basis of the contrasts.

References
----------
McCullagh, P. and Nelder, J. (1989). Generalized Linear Models, section 5.4 (the information) and
4.4 (Wald tests).
"""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import erfc, ndtri

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.errors import DataError, MemoryLimitError, OptionError
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.first_pass.skipped import skipped_counts
from dsoftmax.kernels.hessian import unpack_hessian
from dsoftmax.objective.visit import Evaluate, Question, parts_at
from dsoftmax.results.model import Model
from dsoftmax.results.uncertainty import Estimates, Uncertainty
from dsoftmax.solvers.protocol import Query
from dsoftmax.system.blas import one_blas_thread
from dsoftmax.system.process import free_bytes
from dsoftmax.system.units import size
from dsoftmax.typing import Label

Float = NDArray[np.float64]

MATRICES = 8
"""Arrays in the shape of the Hessian that are in memory at once."""
SINGULAR = 1e-10
"""Least eigenvalue below which the information, scaled to a unit diagonal, counts as singular."""
SEPARATED = 0.5
"""Sum of the losses below which, without a penalty, the classes count as separable."""


def uncertainty(
    model: Model,
    source: Source,
    engine: Engine,
    *,
    C: float,
    fit_intercept: bool = True,
    reference: Label | None = None,
    level: float = 0.95,
) -> Uncertainty:
    """Return standard errors, tests and confidence intervals of a model's coefficients.

    One pass over the rows of the training computes the Hessian at the optimum.

    Parameters
    ----------
    model : Model
        Model at the optimum.
    source : Source
        Rows with labels; weights count as repetitions of rows.
    engine : Engine
    C : float
        Inverse strength of the penalty of the training; ``inf`` for none.
    fit_intercept : bool
    reference : label, optional
        Class with which the others are compared. When None, rows minus their mean; for two
        classes, the second minus the first.
    level : float
        Level of the confidence intervals, between 0 and 1.

    Raises
    ------
    OptionError
        The reference is no class, or the level is not between 0 and 1.
    DataError
        The information is singular, because features depend on each other or the classes are
        separable.
    MemoryLimitError
        The Hessian, (K·(p+1))² entries, does not fit.

    Notes
    -----
    Work: (K·(p+1))²/2 flops per row, and about 10·(K·(p+1))³ for the inverse.
    """
    if not 0 < level < 1:
        raise OptionError(
            f"level={level!r} is no level; expected a number between 0 and 1. Pass 0.95."
        )
    rows, contrasts = _contrasts(model.classes, reference)
    K, d = model.theta.shape
    _require_memory(K, d, engine)
    question = Question(Query(model.theta, hessian=True), None, np.dtype(np.float64))
    visit = Evaluate((question,), Encoder(model.classes, trained=True))
    totals = engine.total(visit, source)
    skipped_counts(totals, source.names.X)
    sums = parts_at(totals.result())
    moves = np.full(d, True)
    moves[-1] = fit_intercept
    strength = 1 / (C / 2 if K == 2 else C)  # as in dsoftmax.objective.objective
    penalty = np.append(np.full(d - 1, strength), 0.0)
    if model.scaling is not None:  # the penalty was on coefficients times standard deviations
        penalty[:-1] *= np.square(model.scaling[1])
    with one_blas_thread():
        if not np.isfinite(sums["hessian"]).all():
            raise DataError(
                f"{source.names.X} holds NaN or infinity, so the Hessian is not finite. Fill or "
                "leave out these rows."
            )
        if not strength and sums["value"] < SEPARATED:
            raise DataError(
                f"The losses of all rows add up to {sums['value']:.1e}, so the classes are "
                "separable. Without a penalty there is no optimum and no standard error. Train "
                "with a finite C."
            )
        information = unpack_hessian(sums["hessian"], K)
        covariance, newton = _covariance(
            information, sums["gradient"] + penalty * model.theta, penalty, moves
        )
        covariance, newton = _on_rows(contrasts, covariance), contrasts @ newton
    value = contrasts @ model.theta
    error = np.sqrt(np.maximum(np.diag(covariance), 0)).reshape(value.shape)
    fitted = error > 0
    distance = float(np.max(np.abs(newton[fitted]) / error[fitted], initial=0))
    coef, intercept = (
        _estimates(value[:, part], error[:, part], level) for part in (slice(-1), -1)
    )
    named = reference if reference is not None or K > 2 else model.classes[0]
    return Uncertainty(model.classes[rows], named, level, coef, intercept, covariance, distance)


def _require_memory(K: int, d: int, engine: Engine) -> None:
    needed = MATRICES * 8 * (K * d) ** 2
    free = free_bytes()
    allowed = engine.process_limit or (free if free else needed)
    if needed > allowed:
        raise MemoryLimitError(
            f"Standard errors of {K:,} classes and {d - 1:,} features need the Hessian "
            f"({size(8 * (K * d) ** 2)}) and allocate {size(needed)}; the limit is "
            f"{size(allowed)}. Allow more memory, or use fewer features."
        )
    engine.reserve(needed)


def _contrasts(classes: NDArray, reference: Any) -> tuple[NDArray[np.intp], Float]:
    """Return the classes that have a row, (m,), and the matrix from θ to these rows, (m, K)."""
    K = len(classes)
    if reference is None:
        if K > 2:
            return np.arange(K), np.eye(K) - 1 / K
        reference = classes[0]
    found = np.flatnonzero(classes == reference)
    if len(found) != 1:
        raise OptionError(
            f"reference={reference!r} is no class; expected one of "
            f"[{' '.join(map(str, classes[:12]))}], or None. Pass a label of the training."
        )
    rows = np.delete(np.arange(K), found[0])
    contrasts = np.eye(K)[rows]
    contrasts[:, found[0]] = -1
    return rows, contrasts


def _covariance(
    information: Float, gradient: Float, penalty: Float, moves: NDArray[np.bool_]
) -> tuple[Float, Float]:
    """Return the covariance of θ minus its mean over the classes, and the Newton step there."""
    K, d = gradient.shape
    basis = scipy.linalg.null_space(np.ones((1, K))).T  # rows span the contrasts
    lifted = information.copy()
    lifted[np.diag_indices(len(lifted))] += np.tile(penalty, K)
    entries = np.flatnonzero(np.tile(moves, K - 1))
    inner, lifted = (
        _on_rows(basis, one)[np.ix_(entries, entries)] for one in (information, lifted)
    )
    scale = 1 / np.sqrt(np.maximum(np.diag(lifted), 1e-300))
    values, vectors = scipy.linalg.eigh(lifted * np.outer(scale, scale))
    if not values[0] > SINGULAR:
        raise DataError(
            f"The information is singular: scaled to a unit diagonal, its least eigenvalue is "
            f"{values[0]:.1e}; expected more than {SINGULAR:g}. Features depend on each other, or "
            "the classes are separable. Leave features out, or train with a finite C."
        )
    half = scale[:, None] * vectors
    inverse = (half / values) @ half.T
    within = np.zeros(((K - 1) * d,) * 2)
    within[np.ix_(entries, entries)] = inverse if not penalty.any() else inverse @ inner @ inverse
    step = np.zeros((K - 1) * d)
    step[entries] = -inverse @ (basis @ gradient).ravel()[entries]
    return _on_rows(basis.T, within), basis.T @ step.reshape(K - 1, d)


def _on_rows(matrix: Float, square: Float) -> Float:
    """Return (B ⊗ I)·S·(B ⊗ I)ᵀ for B (m, K) and S (K·d, K·d)."""
    m, K = matrix.shape
    d = len(square) // K
    half = np.einsum("ik,kajb->iajb", matrix, square.reshape(K, d, K, d), optimize=True)
    found: Float = np.einsum("iajb,lj->ialb", half, matrix, optimize=True).reshape(m * d, m * d)
    return found


def _estimates(value: Float, error: Float, level: float) -> Estimates:
    wide = float(ndtri(0.5 + level / 2)) * error
    z = np.divide(value, error, out=np.full(value.shape, np.nan), where=error > 0)
    known = np.where(error > 0, error, np.nan)
    return Estimates(
        value,
        known,
        z,
        erfc(np.abs(z) / np.sqrt(2)),
        value - wide + 0 * known,
        value + wide + 0 * known,
    )
