"""Work that an interrupt (Ctrl-C) does not end half way."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def finished(work: Callable[[], T], stop: Callable[[], None] | None = None) -> T:
    """Return what a function returns, and raise KeyboardInterrupt only after its end.

    The function runs in another thread, because Python raises KeyboardInterrupt in the main thread
    only. There it would end a wait and not the work that is waited for: Zarr's own thread would
    write on, into a draft that was removed meanwhile, and an executor would lose the thread that
    it is starting, and would not join it.

    Parameters
    ----------
    work : callable
    stop : callable, optional
        Called after an interrupt, to let the work end soon. It must not raise.
    """
    lock, done = threading.Lock(), Future[T]()
    try:
        threading.Thread(target=_once, args=(work, lock, done), name="dsoftmax-work").start()
        return done.result()
    except BaseException:
        if stop is not None:
            stop()
        raise
    finally:
        _once(work, lock, done)  # here, if an interrupt came before the thread began
        wait([done])
        del done  # an error refers to this frame, and would keep itself and its blocks alive


def _once(work: Callable[[], T], lock: threading.Lock, done: "Future[T]") -> None:
    """Let the future carry the outcome of the work, unless another thread does."""
    with lock:
        if done.running() or done.done():
            return
        done.set_running_or_notify_cancel()
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
    finally:
        del done
