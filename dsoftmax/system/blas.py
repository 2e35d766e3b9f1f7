"""BLAS limited to one thread, in the whole process, while some caller needs it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import threadpoolctl
from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_controller: ThreadpoolController | None = None
_limiter = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread.

    With one thread per product its bits are repeatable, and the cores are busy with other chunks
    anyway. Callers are counted, so workers that share a process do not undo each other's limit.
    """
    global _users, _controller, _limiter
    with _lock:
        _users += 1
        if _users == 1:
            _controller = _controller or ThreadpoolController()
            _take_control()
            _limiter = _controller.limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _limiter is not None:
                _take_control()
                _limiter.restore_original_limits()
                _limiter = None
                _take_control()


def _take_control() -> None:
    """Allow the next thread to set the limit.

    Since threadpoolctl 3.7, only the thread that first set OpenBLAS's limit may set it again.
    Other threads silently do nothing, but the tasks of a worker run on any of its threads.
    """
    clear = getattr(
        getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None
    )
    if clear is not None:
        clear(force=True)
