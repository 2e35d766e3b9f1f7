"""The kernels that a run may use, and the choice between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dsoftmax.errors import OptionError, unknown_option
from dsoftmax.kernels import footprint, hessian, softmax
from dsoftmax.kernels.compiled import availability, csr_sums, fused
from dsoftmax.kernels.compiled.footprint import fused_gradient_bytes, fused_hessian_bytes


@dataclass(frozen=True)
class Kernel:
    """The functions that sum the rows of a block, and the bytes that they allocate.

    Attributes
    ----------
    value_and_gradient : callable
        See `dsoftmax.kernels.softmax.value_and_gradient`.
    hessian_pairs, hessian_products : callable
        See `dsoftmax.kernels.hessian`.
    csr_sums : callable
        Sums of the first pass over CSR rows, or None if NumPy should form them.
        See `dsoftmax.kernels.compiled.csr_sums`.
    gradient_bytes, hessian_bytes : callable
        Scratch bytes on a leaf of (n_features, n_classes, dtype of the products, sparse).
    code_bytes : int
        Bytes of compiled code in a process.
    require : callable
        Raises if this process cannot run the kernel.
    """

    value_and_gradient: Callable[..., Any]
    hessian_pairs: Callable[..., Any]
    hessian_products: Callable[..., Any]
    csr_sums: Callable[..., Any]
    gradient_bytes: Callable[..., int]
    hessian_bytes: Callable[..., int]
    code_bytes: int
    require: Callable[[], None]


def _no_sums(*_: Any) -> None:
    """Leave CSR rows to NumPy."""


def _nothing_required() -> None:
    """Accept every process: NumPy is always there."""


KERNELS: dict[str, Kernel] = {
    "numpy": Kernel(
        softmax.value_and_gradient,
        hessian.hessian_pairs,
        hessian.hessian_products,
        _no_sums,
        footprint.gradient_bytes,
        footprint.hessian_bytes,
        0,
        _nothing_required,
    ),
    "fused": Kernel(
        fused.value_and_gradient,
        fused.hessian_pairs,
        fused.hessian_products,
        csr_sums.csr_sums,
        fused_gradient_bytes,
        fused_hessian_bytes,
        availability.CODE_BYTES,
        availability.require,
    ),
}
"""Kernels by name. Their results differ in the last bits, so a run keeps one kernel."""
FUSED_FROM = 512 * 2**20
"""Least memory limit of a process, in bytes, for "auto" to choose the compiled kernel.

The compiler itself takes `dsoftmax.kernels.compiled.availability.CODE_BYTES`."""
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
    if chosen == "fused" and not availability.available():
        why, instead = (
            ("", "pass kernel='numpy'")
            if used is None
            else (", which this run used,", "start a new run with kernel='numpy'")
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
    if not availability.available():
        return KernelChoice("numpy", "numba cannot be imported")
    return KernelChoice("fused", "compiled with numba, faster than numpy")
