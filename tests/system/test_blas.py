"""One BLAS thread as long as somebody needs it."""

import threading

import pytest
from counted import Counting
from threadpoolctl import ThreadpoolController, threadpool_info
from visits import Visiting

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.system.blas import one_blas_thread


def blas_threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def test_blas_has_one_thread_until_the_last_user_leaves():
    before = blas_threads()
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert blas_threads() == before


def test_any_thread_may_set_the_limit_and_any_may_lift_it():
    """As on a dask worker, whose tasks run on any of its threads; the first of them stays alive."""
    before, seen, first_left, end = blas_threads(), [], threading.Event(), threading.Event()

    def first():
        with one_blas_thread():
            seen.append(blas_threads())
        first_left.set()
        end.wait()

    thread = threading.Thread(target=first)
    thread.start()
    first_left.wait()
    assert blas_threads() == before
    with one_blas_thread():
        seen.append(blas_threads())
    assert blas_threads() == before
    end.set()
    thread.join()
    assert seen == [{1}, {1}]


def test_a_limit_that_another_thread_has_set_can_be_changed():
    set_by_other, end = threading.Event(), threading.Event()

    def other():
        limiter = ThreadpoolController().limit(limits=2, user_api="blas")
        set_by_other.set()
        end.wait()
        limiter.restore_original_limits()

    thread = threading.Thread(target=other)
    thread.start()
    set_by_other.wait()
    with one_blas_thread():
        assert blas_threads() == {1}
    end.set()
    thread.join()


def test_two_threads_share_the_limit():
    before, both, done = blas_threads(), threading.Barrier(2), threading.Event()
    seen = []

    def stays():
        with one_blas_thread():
            both.wait()
            done.wait()
            seen.append(blas_threads())

    thread = threading.Thread(target=stays)
    thread.start()
    with one_blas_thread():
        both.wait()
    done.set()
    thread.join()
    assert seen == [{1}]
    assert blas_threads() == before


def test_visits_run_with_one_blas_thread():
    for engine in (SerialEngine(), ThreadsEngine(2)):
        seen = []
        engine.total(
            Visiting(lambda block, seen=seen: seen.append(blas_threads()) or {}), Counting(4)
        )
        assert seen == [{1}] * 4
