r"""How sure the coefficients are: standard errors, Wald tests and confidence intervals from one pass with the exact Hessian.

The sums of a pass give the information :math:`I = \nabla^2 J` at the optimum, and :math:`I_λ = I + Λ` with the penalty
:math:`Λ = 1/C` of every coefficient that has one (S cancels). The estimate θ has about the covariance

.. math::  \mathrm{cov} = I_λ^{-1}\, I\, I_λ^{-1},

the sandwich with the model's own variance of the gradient. Without a penalty this is the inverse Fisher information. With one it is
the spread of the penalised estimate and says nothing of its bias towards zero, so that intervals do not cover the coefficients of
an unpenalised model as often as they say.

Adding one vector to all rows of θ changes no probability, so that K rows are known up to that: what has a standard error are contrasts
of rows, :math:`θ_k - θ_r` for a reference class r, or rows less their mean. Everything is computed in a basis of the contrasts.

References
----------
McCullagh, P. and Nelder, J. (1989). Generalized Linear Models, section 5.4 (the information) and 4.4 (Wald tests).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import erfc, ndtri

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.errors import DataError, MemoryLimitError, OptionError
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels.hessian import unpack_hessian
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.results.model import Model
from dsoftmax.solvers.protocol import Query
from dsoftmax.system.blas import one_blas_thread
from dsoftmax.system.process import free_bytes
from dsoftmax.system.units import size

Float = NDArray[np.float64]

MATRICES = 8
"""Arrays in the shape of the Hessian that are held at once."""
SINGULAR = 1e-10
"""The information, scaled to a diagonal of ones, is singular where its least eigenvalue is below this."""
SEPARATED = 0.5
"""A sum of the losses below this, without a penalty, means that the classes can be told apart without error."""


@dataclass(frozen=True)
class Estimates:
    """Numbers about some of the coefficients; all arrays have the shape of ``value``.

    Attributes
    ----------
    value : float64
        The coefficients.
    standard_error : float64
    z, p_value : float64
        value/standard_error, and the chance of a z at least as far from zero if the coefficient were zero (two-sided, normal).
    low, high : float64
        The confidence interval.
    """

    value: Float
    standard_error: Float
    z: Float
    p_value: Float
    low: Float
    high: Float


@dataclass(frozen=True)
class Uncertainty:
    """What `uncertainty` found.

    Attributes
    ----------
    classes : (m,) ndarray
        The class of each row.
    reference : label or None
        What the rows are differences to; None for their mean.
    level : float
        Of the confidence intervals.
    coef : Estimates
        (m, p).
    intercept : Estimates
        (m,); nan where no intercepts were fitted.
    covariance : (m·(p+1), m·(p+1)) float64
        Of the rows, the intercept last in each.
    distance : float
        How far the coefficients are from the optimum at most, in standard errors: of the Newton step from here.
    """

    classes: NDArray
    reference: Any
    level: float
    coef: Estimates
    intercept: Estimates
    covariance: Float
    distance: float

    def summary(self, feature_names: Sequence[str] | None = None) -> str:
        """Return a table of text, a line a coefficient.

        Parameters
        ----------
        feature_names : sequence of p str, optional
            x0, x1, … when None.
        """
        p = self.coef.value.shape[1]
        names = (
            [f"x{j}" for j in range(p)]
            if feature_names is None
            else [str(name) for name in feature_names]
        )
        if len(names) != p:
            raise OptionError(
                f"feature_names has {len(names)} names; needed are {p}, one for each feature."
            )
        names = ["(intercept)", *names]
        width = max(map(len, names))
        tail = 50 * (1 - self.level)
        heads = ("coef", "std err", "z", "P>|z|", f"[{tail:g}%", f"{100 - tail:g}%]")
        lines = []
        for k, label in enumerate(self.classes.tolist()):
            against = "the mean of all classes" if self.reference is None else self.reference
            lines += [
                f"class {label} against {against}",
                " ".join([" " * width, *(f"{head:>11}" for head in heads)]),
            ]
            parts = (self.intercept, self.coef)
            columns = [
                np.r_[getattr(parts[0], one)[k], getattr(parts[1], one)[k]]
                for one in ("value", "standard_error", "z", "p_value", "low", "high")
            ]
            lines += [
                " ".join([f"{name:<{width}}", *(f"{column[j]:>11.4g}" for column in columns)])
                for j, name in enumerate(names)
            ]
        return "\n".join(lines)


def uncertainty(
    model: Model,
    source: Source,
    engine: Engine,
    *,
    C: float,
    fit_intercept: bool = True,
    reference: Any = None,
    level: float = 0.95,
) -> Uncertainty:
    """Return standard errors, tests and intervals of a model's coefficients, from one pass over the rows it was trained on.

    Parameters
    ----------
    model : Model
        At the optimum.
    source : Source
        With labels; weights count as repetitions of rows.
    engine : Engine
    C : float
        Inverse strength of the penalty of the training; ``inf`` for none.
    fit_intercept : bool
    reference : label, optional
        The class that the others are compared with. When None, rows less their mean, and for two classes the second less the first.
    level : float
        Of the confidence intervals, between 0 and 1.

    Raises
    ------
    OptionError
        A reference that is no class, or a level that is no probability.
    DataError
        The information is singular: features that depend on each other, or classes that can be told apart without error.
    MemoryLimitError
        The Hessian, (K·(p+1))² entries, does not fit.

    Notes
    -----
    Work (K·(p+1))²/2 flops a row, and some 10·(K·(p+1))³ for the inverse.
    """
    if not 0 < level < 1:
        raise OptionError(f"level={level!r}; needed is a number between 0 and 1, such as 0.95.")
    rows, contrasts = _contrasts(model.classes, reference)
    K, d = model.theta.shape
    _require_memory(K, d, engine)
    question = Question(Query(model.theta, hessian=True), None, np.dtype(np.float64))
    visit = Evaluate((question,), Encoder(model.classes, trained=True))
    sums = engine.total(visit, source).result()
    moves = np.full(d, True)
    moves[-1] = fit_intercept
    strength = 1 / (C / 2 if K == 2 else C)  # as in dsoftmax.objective.objective
    penalty = np.where(np.arange(d) < d - 1, strength, 0.0)
    with one_blas_thread():
        if not np.isfinite(sums["hessian 0"]).all():
            raise DataError(
                f"{source.names.X} holds NaN or infinity: the Hessian is not finite. Fill or leave out such rows."
            )
        if not strength and sums["value 0"] < SEPARATED:
            raise DataError(
                f"The losses of all rows add up to {sums['value 0']:.1e}: the classes can be told apart without error, so that without "
                "a penalty there is no optimum and no standard error. Train with a finite C."
            )
        information = unpack_hessian(sums["hessian 0"], K)
        covariance, newton = _covariance(
            information, sums["gradient 0"] + penalty * model.theta, penalty, moves
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
            f"Standard errors of {K:,} classes and {d - 1:,} features need the Hessian, {size(8 * (K * d) ** 2)}, and take "
            f"{size(needed)}; there are {size(allowed)}. Allow more, or use fewer features."
        )
    engine.reserve(needed)


def _contrasts(classes: NDArray, reference: Any) -> tuple[NDArray[np.intp], Float]:
    """Return which classes have a row, and the matrix from θ to these rows, (m, K)."""
    K = len(classes)
    if reference is None:
        if K > 2:
            return np.arange(K), np.eye(K) - 1 / K
        reference = classes[0]
    found = np.flatnonzero(classes == reference)
    if len(found) != 1:
        raise OptionError(
            f"reference={reference!r} is no class; needed is one of [{' '.join(map(str, classes[:12]))}], or None."
        )
    rows = np.delete(np.arange(K), found[0])
    contrasts = np.eye(K)[rows]
    contrasts[:, found[0]] = -1
    return rows, contrasts


def _covariance(
    information: Float, gradient: Float, penalty: Float, moves: NDArray[np.bool_]
) -> tuple[Float, Float]:
    """Return the covariance of θ less its mean over the classes, and the Newton step from there."""
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
            f"The information is singular: its least eigenvalue is {values[0]:.1e} of what is usual. Features depend on each other, or "
            "the classes can be told apart without error. Leave features out, or train with a finite C."
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
