"""How the loops are compiled: without the interpreter's lock, and kept on the disk for the next process."""

import itertools
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event

from dsoftmax.kernels import softmax

log = logging.getLogger("dsoftmax")
COMPILING = (
    "numba compiles the loops of kernel='fused' for this machine, which takes about 13 s. "
    "Later runs load the compiled loops."
)
"""Line that a process logs, once, if it finds no machine code of the loops."""


class _SayThatItCompiles(event.Listener):
    """Log `COMPILING` when numba compiles a function of this package: not when it loads machine code."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"].py_func
        if not self.said and function.__module__.startswith(f"{__package__}."):
            self.said = True
            log.info(COMPILING)

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _SayThatItCompiles())


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call of each combination of types.

    Arithmetic keeps its order: nothing here is allowed to reassociate. The machine code lies beside the source, or in the
    user's cache directory where that cannot be written (``NUMBA_CACHE_DIR`` names another); where neither can, every
    process compiles for itself.
    """
    try:
        dispatcher = njit(function, nogil=True, cache=True)
    except RuntimeError:  # numba: "no locator available"
        return njit(function, nogil=True)
    forget_stale(dispatcher.stats.cache_path)
    return dispatcher


@cache
def forget_stale(folder: str) -> None:
    """Remove machine code of other sources from a folder.

    numba throws it away when the file of the function itself changes, and would go on with what was compiled from another `vectors`,
    `blocks` or `plan`.
    """
    with suppress(OSError):  # a folder that cannot be written was left by who could
        stamp = Path(folder) / "dsoftmax-fused.sources"
        if stamp.is_file() and stamp.read_text() == _sources():
            return
        for kept in itertools.chain(Path(folder).glob("*.nbi"), Path(folder).glob("*.nbc")):
            kept.unlink(missing_ok=True)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(_sources())


@cache
def _sources() -> str:
    """What all machine code here is made of: this folder's files, and the constants that they take from outside."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return blake2b(
        b"".join(file.read_bytes() for file in files) + repr(softmax.LOWEST).encode(),
        digest_size=16,
    ).hexdigest()
