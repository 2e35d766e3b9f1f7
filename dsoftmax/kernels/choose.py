"""The kernels a run may use, and which one it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsoftmax.errors import OptionError, unknown_option
from dsoftmax.kernels import hessian, softmax
from dsoftmax.kernels.compiled import kernel as fused


@dataclass(frozen=True)
class Kernel:
    """What sums the rows of a block: see `dsoftmax.kernels.softmax` and `dsoftmax.kernels.hessian` for the functions."""

    value_and_gradient: Callable[..., Any]
    hessian_pairs: Callable[..., Any]
    hessian_products: Callable[..., Any]
    hessian_scratch_bytes: Callable[..., int]


KERNELS: dict[str, Kernel] = {
    "numpy": Kernel(
        softmax.value_and_gradient,
        hessian.hessian_pairs,
        hessian.hessian_products,
        hessian.hessian_scratch_bytes,
    ),
    "fused": Kernel(
        fused.value_and_gradient,
        fused.hessian_pairs,
        fused.hessian_products,
        fused.hessian_scratch_bytes,
    ),
}
"""Where a run may take ``value_and_gradient``, ``hessian_pairs`` and ``hessian_products`` from. Their last bits differ, so it keeps to
one."""
FUSED_FROM = 512 * 2**20
"""Least memory limit of a process, in bytes, for "auto" to choose the compiled kernel.

The compiler itself takes `dsoftmax.kernels.compiled.kernel.CODE_BYTES`."""
FUSED_VALUES = 2**28
"""Least number of values of X, times models, for "auto" to choose the compiled kernel.

The first fit on a machine compiles for about 13 s. NumPy takes 1.0 to 2.8 s for 10⁹ values in a
pass on one core (2 to 100 classes, 10 to 784 features), and compiled loops save about half of it.
A fit of 15 passes over 2²⁸ values takes NumPy 4 to 11 s, so smaller fits never earn the wait. The
rule reads sizes alone: a clock, or a look for code that is compiled
already, would change the last bits from one fit to the next."""


@dataclass(frozen=True)
class KernelChoice:
    """A kernel and the reason for it.

    Attributes
    ----------
    name : str
        A name in `KERNELS`.
    why : str
        A clause.
    """

    name: str
    why: str


def choose_kernel(
    asked: str,
    used: str | None = None,
    allowed: int | None = None,
    n_values: int | None = None,
) -> KernelChoice:
    """Return the kernel of a run.

    Parameters
    ----------
    asked : {"auto", "numpy", "fused"}
        "auto" is the kernel of the run being resumed. A new run gets "fused" if numba can be
        imported, the memory limit is at least `FUSED_FROM` and the work is at least
        `FUSED_VALUES`; else "numpy".
    used : str, optional
        Kernel of the run being resumed.
    allowed : int, optional
        Memory limit of each process that computes, in bytes.
    n_values : int, optional
        Stored values of X, times the models that share a pass; None for many.

    Raises
    ------
    OptionError
        The kernel is unknown, or another than the run being resumed has, or numba cannot be
        imported.
    """
    if asked not in ("auto", *KERNELS):
        raise unknown_option("kernel", asked, ("auto", *KERNELS))
    if used is not None and asked not in ("auto", used):
        raise OptionError(
            f"kernel={asked!r}, but the run to resume used {used!r}. A run keeps its kernel, "
            "because another one changes the last bits. Pass kernel='auto', or begin anew."
        )
    if used is None and asked == "auto":
        return _choose_by_size(allowed, n_values)
    chosen = used or asked
    if chosen == "fused" and not fused.available():
        why, instead = (
            ("", "pass kernel='numpy'")
            if used is None
            else (", which this run used,", "begin anew with kernel='numpy'")
        )
        raise OptionError(
            f"kernel='fused'{why} needs numba, which cannot be imported here. Install it with "
            f"pip install 'dsoftmax[fast]', or {instead}."
        )
    return KernelChoice(chosen, "as asked" if used is None else "the run to resume used it")


def _choose_by_size(allowed: int | None, n_values: int | None) -> KernelChoice:
    if allowed is not None and allowed < FUSED_FROM:
        return KernelChoice(
            "numpy", f"the memory limit of a process is below {FUSED_FROM // 2**20} MiB"
        )
    if n_values is not None and n_values < FUSED_VALUES:
        return KernelChoice("numpy", f"{n_values:,} values are too few to compile for")
    if not fused.available():
        return KernelChoice("numpy", "numba cannot be imported")
    return KernelChoice("fused", "compiled with numba, faster than numpy")
