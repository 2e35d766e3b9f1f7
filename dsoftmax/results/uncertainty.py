"""Estimates with their uncertainty, and the table that prints them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OptionError
from dsoftmax.typing import Label

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """Estimates of some of the coefficients; every array has the shape of ``value``.

    Attributes
    ----------
    value : float64
        Coefficients.
    standard_error : float64
        Standard errors of the coefficients.
    z, p_value : float64
        ``value / standard_error``, and the two-sided p value of the normal distribution: the
        probability of a z at least as far from 0 if the coefficient were 0.
    low, high : float64
        Ends of the confidence interval.
    """

    value: Float
    standard_error: Float
    z: Float
    p_value: Float
    low: Float
    high: Float


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors, tests and confidence intervals of all coefficients.

    Attributes
    ----------
    classes : (m,) ndarray
        Class of each row of ``coef``.
    reference : label or None
        Class from which the rows are differences; None for differences from the mean row.
    level : float
        Level of the confidence intervals.
    coef : Estimates
        Estimates of the coefficients, (m, p).
    intercept : Estimates
        Estimates of the intercepts, (m,); nan if no intercepts were fitted.
    covariance : (m·(p+1), m·(p+1)) float64
        Covariance of the rows, one after the other, the intercept last in each.
    distance : float
        Largest entry of the Newton step from these coefficients, in standard errors. It says how
        far they are from the optimum.
    """

    classes: NDArray
    reference: Label | None
    level: float
    coef: Estimates
    intercept: Estimates
    covariance: Float
    distance: float

    def summary(self, feature_names: Sequence[str] | None = None) -> str:
        """Return a table of text with a line for each coefficient.

        Parameters
        ----------
        feature_names : sequence of p str, optional
            Names of the features; x0, x1, … when None.

        Returns
        -------
        str
            For each class a heading, and a line for each coefficient with its standard error, z,
            p value and confidence interval. The intercept comes first.

        Raises
        ------
        OptionError
            The number of names is not p.
        """
        p = self.coef.value.shape[1]
        names = (
            [f"x{j}" for j in range(p)]
            if feature_names is None
            else [str(name) for name in feature_names]
        )
        if len(names) != p:
            raise OptionError(
                f"feature_names has {len(names)} names; expected {p}. Pass one name per feature."
            )
        names = ["(intercept)", *names]
        width = max(map(len, names))
        tail = 50 * (1 - self.level)
        heads = ("coef", "std err", "z", "P>|z|", f"[{tail:g}%", f"{100 - tail:g}%]")
        lines = []
        for k, label in enumerate(self.classes.tolist()):
            against: object = (
                "the mean of all classes" if self.reference is None else self.reference
            )
            lines += [
                f"class {label} against {against}",
                " ".join([" " * width, *(f"{head:>11}" for head in heads)]),
            ]
            columns = [
                np.r_[getattr(self.intercept, one)[k], getattr(self.coef, one)[k]]
                for one in ("value", "standard_error", "z", "p_value", "low", "high")
            ]
            lines += [
                " ".join([f"{name:<{width}}", *(f"{column[j]:>11.4g}" for column in columns)])
                for j, name in enumerate(names)
            ]
        return "\n".join(lines)
