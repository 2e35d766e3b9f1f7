"""How the loops are compiled: without the interpreter's lock, and kept on the disk for the next process."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call of each combination of types.

    Arithmetic keeps its order: nothing here is allowed to reassociate. The machine code lies beside the source, or in the
    user's cache directory where that cannot be written (``NUMBA_CACHE_DIR`` names another); where neither can, every
    process compiles for itself.

    Notes
    -----
    What is kept is thrown away when the function's own file changes. After a change in `vectors`, `blocks` or `plan` alone, remove
    ``__pycache__``.
    """
    try:
        return njit(function, nogil=True, cache=True)
    except RuntimeError:  # numba: "no locator available"
        return njit(function, nogil=True)
