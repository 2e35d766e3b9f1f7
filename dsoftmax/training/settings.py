"""What to minimise, how, and when to stop."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OptionError
from dsoftmax.first_pass.held_out import Held
from dsoftmax.kernels.choose import choose_kernel
from dsoftmax.solvers.table import AUTO, SOLVERS, solver_entry


@dataclass(frozen=True)
class Settings:
    """What to minimise, how, and when to stop.

    Attributes
    ----------
    C : float
        Inverse strength of the penalty; ``inf`` for none.
    l1_ratio : float
        ρ: the L1 part of the penalty, 0 … 1; the rest is L2.
    solver : str
        A name in `dsoftmax.solvers.table.SOLVERS`.
    tol : float
        Converged when max|∇F| ≤ tol.
    max_iter : int
        Iterations (accepted steps) at most.
    fit_intercept : bool
    class_weight : dict, "balanced" or None
    classes : (K,) ndarray, optional
        Found in the first pass when None.
    dtype : str or dtype, optional
        Of the products; by the rule of `compute_dtype` when None.
    kernel : {"auto", "numpy", "fused"}
        What computes value and gradient; see `choose_kernel`.
    validation_fraction : float, optional
        Part of the rows that is held out, by a hash of their numbers or groups, to stop where the loss on them no longer falls.
    n_iter_no_change : int
        Iterations without a smaller loss on the held-out or validation rows after which training stops.
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

    @property
    def held(self) -> Held | None:
        """The rows that are held out to stop early; None where none are."""
        return (
            None if self.validation_fraction is None else Held(0.0, float(self.validation_fraction))
        )

    def check(self) -> None:
        """Raise unless every setting makes sense.

        Raises
        ------
        OptionError
        """
        entry = None if self.solver == AUTO else solver_entry(self.solver)
        if not _is_number(self.l1_ratio) or not 0 <= self.l1_ratio <= 1:
            raise OptionError(
                f"l1_ratio={self.l1_ratio!r}; needed is a number from 0 (L2 alone) to 1 (L1 alone)."
            )
        if self.l1_ratio > 0 and entry is not None and not entry.l1:
            able = " or ".join(f"solver={name!r}" for name, other in SOLVERS.items() if other.l1)
            raise OptionError(
                f"solver={self.solver!r} needs a penalty with a gradient, and the L1 part of l1_ratio={self.l1_ratio} has none. "
                f"Pass {able} (--solver), or leave it to solver={AUTO!r}."
            )
        if not isinstance(self.fit_intercept, (bool, np.bool_)):
            raise OptionError(f"fit_intercept={self.fit_intercept!r}; needed is True or False.")
        if not _is_number(self.C) or not self.C > 0:
            raise OptionError(f"C={self.C!r}; needed is a positive number, or inf for no penalty.")
        if not _is_number(self.tol) or not self.tol >= 0:
            raise OptionError(f"tol={self.tol!r}; needed is a number of at least 0.")
        if (
            not isinstance(self.max_iter, (int, np.integer))
            or isinstance(self.max_iter, bool)
            or self.max_iter < 0
        ):
            raise OptionError(
                f"max_iter={self.max_iter!r}; needed is a whole number of at least 0."
            )
        fraction = self.validation_fraction
        if fraction is not None and not (_is_number(fraction) and 0 < fraction < 1):
            raise OptionError(
                f"validation_fraction={fraction!r}; needed is a number between 0 and 1, or None."
            )
        if not isinstance(self.n_iter_no_change, (int, np.integer)) or self.n_iter_no_change < 1:
            raise OptionError(
                f"n_iter_no_change={self.n_iter_no_change!r}; needed is a whole number of at least 1."
            )
        if self.dtype is not None:
            product_dtype(self.dtype)
        if self.kernel != "auto":
            choose_kernel(self.kernel)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def product_dtype(dtype: Any) -> np.dtype:
    """Return the dtype of products that an option names.

    Raises
    ------
    OptionError
        It is neither float32 nor float64.
    """
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in (np.float32, np.float64):
        raise OptionError(
            f"dtype={dtype!r}; needed is 'float32', 'float64' or None (chosen by what is stored)."
        )
    return found
