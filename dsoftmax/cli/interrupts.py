"""Orderly end of a command after Ctrl-C or SIGTERM. Schedulers send SIGTERM before they kill.

A signal raises KeyboardInterrupt in the main thread, at any line. In a pass this is right. While
files are written, modules are imported or processes are started, `shielded` delays it to the end of
the block. A second signal ends the process at once, even if the process hangs. It must arrive more
than `GRACE` seconds after the first.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from dsoftmax.cli.exit_codes import STOPPED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 1.0
"""Time after the first signal in which further signals are ignored, in seconds.

``timeout`` and some schedulers send their signal twice.
"""
NOTHING = "Interrupted before anything was completed."


class _Signals:
    """The handler of the signals, and its state.

    Attributes
    ----------
    handled : bool
        Whether this handler is installed.
    alone : bool
        Whether the process runs nothing but the command, so a second signal may end it.
    shields : int
        Number of `shielded` blocks that are open.
    since : float, optional
        Time of the first signal, in monotonic seconds.
    pending : bool
        Whether a signal arrived in a shielded block, so KeyboardInterrupt is due at its end.
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
                b"\nStopped at once. Complete files are intact. The same command resumes.\n",
            )
            os._exit(STOPPED)
        self.pending = self.shields > 0
        if not self.pending:
            raise KeyboardInterrupt


_signals = _Signals()


@contextmanager
def handled(alone: bool = False) -> Iterator[None]:
    """Handle SIGINT and SIGTERM while the block runs.

    Inside another such block, or in another thread than the main one, do nothing.

    Parameters
    ----------
    alone : bool
        Whether the process runs nothing but the block. A second signal may then end the process at
        once, and the handlers stay to its end.
    """
    global _signals
    if _signals.handled:
        yield
        return
    mine = _Signals()
    hook = sys.unraisablehook
    try:
        before = [signal.signal(number, mine) for number in SIGNALS]
    except ValueError:  # not the main thread
        yield
        return
    mine.handled, mine.alone = True, alone
    outer, _signals = _signals, mine
    if alone:
        atexit.register(_end)

    def quiet(unraisable: Any) -> None:
        # Python cannot pass on a KeyboardInterrupt that a destructor raises. `require_none` raises
        # it again after the pass. Objects that it left half made may fail in their destructors.
        if mine.since is None and not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)

    sys.unraisablehook = quiet
    try:
        yield
    finally:
        if not alone:
            sys.unraisablehook = hook
            _signals = outer
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Delay signals to the end of the block.

    Raises
    ------
    KeyboardInterrupt
        A signal arrived in the block. Raised at its end.
    """
    signals = _signals
    signals.shields += 1
    try:
        yield
    finally:
        signals.shields -= 1
        if signals.pending and not signals.shields:
            signals.pending = False
            raise KeyboardInterrupt


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the KeyboardInterrupt that an error of the block wraps.

    A signal may arrive in ``__set_name__`` or in a library's extension. Python then raises a
    RuntimeError or a SystemError, and the KeyboardInterrupt is its cause.

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
    """Raise if a signal has arrived, even if its KeyboardInterrupt was lost in a destructor.

    Raises
    ------
    KeyboardInterrupt
    """
    if _signals.since is not None:
        raise KeyboardInterrupt


def _end() -> None:
    """End the process after all exit functions that registered later.

    The interpreter would next restore the default handlers, and a signal would then kill it.
    """
    if _signals.code is not None:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_signals.code)


def leave(code: int) -> NoReturn:
    """End the process with an exit code.

    A stopped process does not wait for threads that wait for a disk or a network.
    """
    _signals.code = code
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the interpreter would try again at its end, and print a traceback
        os._exit(code or 1)
    if _signals.since is not None:
        os._exit(code)
    sys.exit(code)
