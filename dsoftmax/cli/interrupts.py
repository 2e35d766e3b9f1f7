"""Ctrl-C and SIGTERM, which schedulers send before they kill, as one orderly end of a command.

A signal raises KeyboardInterrupt in the main thread, wherever it is: in the middle of a pass that is what is wanted. Where
it is not, while files are written, modules imported and processes started, `shielded` holds it back to the end of the
block. A second wish, more than `GRACE` seconds after the first, ends the process at once: nothing that hangs can hold it.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 1.0
"""Seconds in which further signals are the same wish: ``timeout`` and some schedulers send theirs twice."""
STOPPED = 3
"""Exit code of what was stopped."""
NOTHING = "Interrupted; this command has completed nothing."


class _Wish:
    """What was asked by signals, and what holds them back.

    Attributes
    ----------
    handled : bool
        Whether signals come here.
    alone : bool
        Whether this process is ours alone to end.
    shields : int
    since : float, optional
        When the first signal came (monotonic seconds).
    pending : bool
        Whether it came behind a shield, and KeyboardInterrupt is due.
    code : int, optional
        Exit code of a process that is ending.
    """

    def __init__(self) -> None:
        self.handled = self.alone = False
        self.shields = 0
        self.since: float | None = None
        self.pending = False
        self.code: int | None = None

    def __call__(self, number: int, frame: Any) -> None:
        if self.code is not None:
            os._exit(self.code)
        now = time.monotonic()
        if self.since is None:
            self.since = now
        elif now - self.since <= GRACE:
            return
        elif self.alone:
            os.write(
                2,
                b"\nStopped at once. Files that were complete are whole; the same command goes on.\n",
            )
            os._exit(STOPPED)
        self.pending = self.shields > 0
        if not self.pending:
            raise KeyboardInterrupt


_wish = _Wish()


@contextmanager
def handled(alone: bool = False) -> Iterator[None]:
    """Take SIGINT and SIGTERM for the time of the block; inside another such block, and beside the main thread, do nothing.

    Parameters
    ----------
    alone : bool
        Whether the process does nothing but this: a second wish may end it at once, and it keeps the handlers to its end.
    """
    global _wish
    if _wish.handled:
        yield
        return
    wish = _Wish()
    hook = sys.unraisablehook
    try:
        before = [signal.signal(number, wish) for number in SIGNALS]
    except ValueError:  # not the main thread
        yield
        return
    wish.handled, wish.alone = True, alone
    outer, _wish = _wish, wish
    if alone:
        atexit.register(_end)

    def quiet(unraisable: Any) -> None:
        # Raised where Python cannot pass it on, in a destructor: `require_none` raises it again after the pass. What it left half
        # made may fail in its own destructor afterwards.
        if wish.since is None and not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)

    sys.unraisablehook = quiet
    try:
        yield
    finally:
        if not alone:
            sys.unraisablehook = hook
            _wish = outer
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold signals back to the end of the block.

    Raises
    ------
    KeyboardInterrupt
        At the end, if a signal came.
    """
    wish = _wish
    wish.shields += 1
    try:
        yield
    finally:
        wish.shields -= 1
        if wish.pending and not wish.shields:
            wish.pending = False
            raise KeyboardInterrupt


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the KeyboardInterrupt that an error of the block wraps.

    Where a signal arrives in ``__set_name__`` or in a library's extension, a RuntimeError or a SystemError comes out, with
    the KeyboardInterrupt as its cause.

    Raises
    ------
    KeyboardInterrupt
    """
    try:
        yield
    except Exception as error:
        inner: BaseException | None = error
        seen: set[int] = set()
        while inner is not None and id(inner) not in seen:
            if isinstance(inner, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            seen.add(id(inner))
            inner = inner.__cause__ or inner.__context__
        raise


def require_none() -> None:
    """Raise if a signal has come, also one whose KeyboardInterrupt was lost on its way.

    Raises
    ------
    KeyboardInterrupt
    """
    if _wish.since is not None:
        raise KeyboardInterrupt


def _end() -> None:
    """End the process here, after what registered later: the interpreter would first give the signals back, which then kill it."""
    if _wish.code is not None:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_wish.code)


def leave(code: int) -> NoReturn:
    """End the process with its exit code; threads that wait for a disk or a network do not hold one that was stopped."""
    _wish.code = code
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the end of the interpreter would try again, and show a traceback
        os._exit(code or 1)
    if _wish.since is not None:
        os._exit(code)
    sys.exit(code)
