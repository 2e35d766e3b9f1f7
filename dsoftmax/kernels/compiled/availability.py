"""Whether this process can compile loops, and the memory that compiled code occupies."""

import sys
from functools import cache
from types import ModuleType

from dsoftmax.errors import DsoftmaxError

CODE_BYTES = 144 * 2**20
"""Bytes of numba and the loops of one shape in a process that compiles them, as measured.

A process that finds them compiled needs some 40 MiB less.
"""


@cache
def available() -> bool:
    """Return whether numba can be imported, by importing it.

    An installed numba may reject the installed NumPy.
    """
    try:
        import numba  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def require() -> None:
    """Raise if a run uses compiled loops and this process cannot.

    Raises
    ------
    DsoftmaxError
    """
    if not available():
        raise DsoftmaxError(
            "This run uses kernel='fused', which needs numba, and one of its processes cannot "
            "import numba. Install numba on every worker with pip install 'dsoftmax[fast]', or "
            "start a new run with kernel='numpy'."
        )


def loops_of_digits() -> ModuleType | None:
    """Return `dsoftmax.kernels.compiled.digits` if compiled loops are loaded, else None.

    Exact sums alone are no reason to import numba.
    """
    if "dsoftmax.kernels.compiled.compile" not in sys.modules:
        return None
    from dsoftmax.kernels.compiled import digits

    return digits
