"""Compilation of the loops, which hold no interpreter lock.

The machine code is stored for the next process.
"""

import itertools
import logging
import multiprocessing
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
    """Log `COMPILING` when numba compiles a function of this package.

    Loading machine code from the disk logs nothing. The line is a warning, because Python prints
    warnings of a logger that has no handler. Processes that another Python process has started,
    such as the workers of a local cluster, would repeat the line, so theirs is not a warning.
    """

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"].py_func
        if not self.said and function.__module__.startswith(f"{__package__}."):
            self.said = True
            alone = multiprocessing.parent_process() is None
            log.log(logging.WARNING if alone else logging.INFO, COMPILING)

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _SayThatItCompiles())


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at the first call of each combination of types.

    Arithmetic keeps its order: LLVM may not reassociate it. The machine code is stored beside the
    source, or in the user's cache directory if that folder is read-only; ``NUMBA_CACHE_DIR``
    names another. If neither can be written, every process compiles for itself.
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

    numba removes it if the function's own file changes. It would keep code that was compiled from
    other versions of `simd`, `registers` or `shapes`.
    """
    with suppress(OSError):  # whoever can write to the folder has left its machine code
        stamp = Path(folder) / "dsoftmax-fused.sources"
        if stamp.is_file() and stamp.read_text() == _sources():
            return
        for stale in itertools.chain(Path(folder).glob("*.nbi"), Path(folder).glob("*.nbc")):
            stale.unlink(missing_ok=True)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(_sources())


@cache
def _sources() -> str:
    """Return a hash of the sources of all machine code.

    They are this folder's files, and the constants that the files import.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return blake2b(
        b"".join(file.read_bytes() for file in files) + repr(softmax.LOWEST).encode(),
        digest_size=16,
    ).hexdigest()
