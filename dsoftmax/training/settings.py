"""What to minimise, how, and when to stop."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OptionError
from dsoftmax.first_pass.held_out import HeldOut
from dsoftmax.kernels.choose import choose_kernel
from dsoftmax.kernels.tiles import product_dtype
from dsoftmax.solvers.table import AUTO, SOLVERS, solver_entry

STANDARD = "standard"
"""Name of the scaling by mean and standard deviation."""


@dataclass(frozen=True)
class Settings:
    """What to minimise, how, and when to stop.

    Attributes
    ----------
    C : float
        Inverse strength of the penalty; ``inf`` for none.
    l1_ratio : float
        ρ, the L1 part of the penalty, 0 … 1. The rest is L2.
    solver : str
        "auto", or a name in `dsoftmax.solvers.table.SOLVERS`.
    tol : float
        Largest max|∇F| at which a run has converged.
    max_iter : int
        Largest number of iterations (accepted steps).
    fit_intercept : bool
    class_weight : dict, "balanced" or None
    classes : (K,) ndarray, optional
        All classes; the first pass finds them when None.
    dtype : str or dtype, optional
        Dtype of the products; chosen by `compute_dtype` when None.
    kernel : {"auto", "numpy", "fused"}
        Kernel of value and gradient; see `choose_kernel`.
    validation_fraction : float, optional
        Part of the rows that is held out, by a hash of their numbers or groups. Training stops
        early if the loss on these rows stops falling.
    n_iter_no_change : int
        Iterations without a smaller loss on the held-out rows after which training stops.
    scale : {"standard"} or None
        Scaling of the features that the penalty sees; None leaves them as they are.
    """

    C: float = 1.0
    l1_ratio: float = 0.0
    solver: str = "auto"
    tol: float = 1e-4
    max_iter: int = 100
    fit_intercept: bool = True
    class_weight: Any = None
    classes: NDArray | None = None
    dtype: Any = None
    kernel: str = "auto"
    validation_fraction: float | None = None
    n_iter_no_change: int = 5
    scale: str | None = None

    @property
    def held_out(self) -> HeldOut | None:
        """Rows that ``validation_fraction`` holds out; None if it is None."""
        fraction = self.validation_fraction
        return None if fraction is None else HeldOut(0.0, float(fraction))

    def check(self) -> None:
        """Raise unless every setting makes sense.

        Raises
        ------
        OptionError
        """
        self._check_penalty()
        self._check_stopping()
        if not isinstance(self.fit_intercept, (bool, np.bool_)):
            raise OptionError(f"fit_intercept={self.fit_intercept!r}; expected True or False.")
        self._check_scale()
        if self.dtype is not None:
            product_dtype(self.dtype)
        if self.kernel != "auto":
            choose_kernel(self.kernel)

    def _check_scale(self) -> None:
        if self.scale is None:
            return
        if not isinstance(self.scale, str) or self.scale != STANDARD:
            raise OptionError(
                f"scale={self.scale!r} is unknown; expected {STANDARD!r}, or None for features as "
                "they are. Pass one of these."
            )
        if not self.fit_intercept:
            raise OptionError(
                f"scale={self.scale!r} subtracts the means of the features, which become part of "
                "the intercepts, and fit_intercept=False fixes these at 0. Fit intercepts, or "
                "scale the features before."
            )

    def _check_penalty(self) -> None:
        entry = None if self.solver == AUTO else solver_entry(self.solver)
        if not _is_number(self.l1_ratio) or not 0 <= self.l1_ratio <= 1:
            raise OptionError(
                f"l1_ratio={self.l1_ratio!r}; expected a number from 0 (L2 alone) to 1 (L1 alone)."
            )
        if self.l1_ratio > 0 and entry is not None and not entry.l1:
            able = " or ".join(f"solver={name!r}" for name, other in SOLVERS.items() if other.l1)
            raise OptionError(
                f"solver={self.solver!r} needs a penalty with a gradient, and the L1 part of "
                f"l1_ratio={self.l1_ratio} has none. Pass {able} (--solver), or {AUTO!r}."
            )
        if not _is_number(self.C) or not self.C > 0:
            raise OptionError(f"C={self.C!r}; expected a positive number, or inf for no penalty.")

    def _check_stopping(self) -> None:
        if not _is_number(self.tol) or not self.tol >= 0:
            raise OptionError(f"tol={self.tol!r}; expected a number that is at least 0.")
        if not _is_whole(self.max_iter) or self.max_iter < 0:
            raise OptionError(
                f"max_iter={self.max_iter!r}; expected a whole number that is at least 0."
            )
        fraction = self.validation_fraction
        if fraction is not None and not (_is_number(fraction) and 0 < fraction < 1):
            raise OptionError(
                f"validation_fraction={fraction!r}; expected a number between 0 and 1, or None."
            )
        if not _is_whole(self.n_iter_no_change) or self.n_iter_no_change < 1:
            raise OptionError(
                f"n_iter_no_change={self.n_iter_no_change!r}; expected a whole number that is at "
                "least 1."
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
