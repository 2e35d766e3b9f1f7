"""Work that an interrupt must not end half way: it runs to its end, and the interrupt follows."""

import gc
import signal
import threading
import weakref

import pytest

from dsoftmax.system.interrupts import finished


def interrupt_main() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_the_result_comes_back():
    assert finished(lambda: 3) == 3


def test_the_error_of_the_work_comes_back():
    with pytest.raises(ZeroDivisionError):
        finished(lambda: 1 / 0)


def test_an_interrupt_is_raised_after_the_end_of_the_work():
    stop, done = threading.Event(), []

    def work() -> None:
        interrupt_main()
        assert stop.wait(60)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        finished(work, stop.set)
    assert done == [True]


def test_an_error_keeps_nothing_of_the_work_alive():
    """Blocks would otherwise stay in memory until the garbage collector runs."""

    class Block:
        pass

    seen = []

    def work() -> None:
        block = Block()
        seen.append(weakref.ref(block))
        raise ValueError

    gc.disable()
    try:
        with pytest.raises(ValueError):
            finished(work)
        assert seen[0]() is None
    finally:
        gc.enable()
