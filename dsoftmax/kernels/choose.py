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
"""A process that may take less (bytes) is not burdened with a compiler: see `dsoftmax.kernels.compiled.kernel.CODE_BYTES`."""


def choose_kernel(asked: str, used: str | None = None, allowed: int | None = None) -> str:
    """Return the name of the kernel of a run.

    Parameters
    ----------
    asked : {"auto", "numpy", "fused"}
        "auto" is what was used, else fused where numba can be imported and memory is not tight.
    used : str, optional
        By the run that is gone on with.
    allowed : int, optional
        Bytes that each process which computes may take.

    Raises
    ------
    OptionError
        No such kernel, not the one that was used, or numba is missing.
    """
    if asked not in ("auto", *KERNELS):
        raise unknown_option("kernel", asked, ("auto", *KERNELS))
    if used is not None and asked not in ("auto", used):
        raise OptionError(
            f"kernel={asked!r}, but the run to go on with used {used!r}; it must keep to one, or its last bits change. "
            "Leave kernel='auto', or begin anew."
        )
    chosen = used or asked
    if chosen == "auto":
        tight = allowed is not None and allowed < FUSED_FROM
        return "fused" if not tight and fused.available() else "numpy"
    if chosen == "fused" and not fused.available():
        why, instead = (
            ("", "pass kernel='numpy'")
            if used is None
            else (", which this run used,", "begin anew with kernel='numpy'")
        )
        raise OptionError(
            f"kernel='fused'{why} needs numba, which cannot be imported here. Install it with pip install 'dsoftmax[fast]', or "
            f"{instead}."
        )
    return chosen
