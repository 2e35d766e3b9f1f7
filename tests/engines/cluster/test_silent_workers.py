"""Workers that freeze, pause or come late: passes continue without them."""

import os
import signal
import threading
import time

import pytest
from local_workers import SETTINGS, SIGNALS, bits, engine_of, ours, until, workers
from mischief import Mischief, Slow, Watched, at_pass, paused

from dsoftmax.engines.cluster import attempt as attempt_module
from dsoftmax.engines.cluster import waiting
from dsoftmax.errors import ClusterError
from dsoftmax.training.loop import train

pytestmark = [SIGNALS, pytest.mark.usefixtures("quick"), pytest.mark.timeout(100)]


def test_a_frozen_worker_is_left_out_until_it_answers_again(
    pair, source, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        attempt_module, "INLINE_BYTES", 0
    )  # θ is the result of a task, which the frozen worker may have run
    mischief = Mischief(tmp_path, "SIGSTOP")
    try:
        with engine_of(pair) as engine:
            result = train(
                Watched(source, mischief), engine, SETTINGS, watchers=[at_pass(3, mischief.arm)]
            )
            assert mischief.pid
            assert engine.n_stolen > 0
            assert len(engine.placement.in_order) == 1
            assert bits(result) == undisturbed
            os.kill(mischief.pid, signal.SIGCONT)
            deadline = time.monotonic() + 20
            while len(engine.placement.in_order) < 2 and time.monotonic() < deadline:
                again = train(source, engine, SETTINGS)
                assert bits(again) == undisturbed
            assert len(engine.placement.in_order) == 2
    finally:
        if mischief.pid:
            os.kill(mischief.pid, signal.SIGCONT)
    until(lambda: not pair.run_on_scheduler(ours))  # old shares are released too


def test_a_paused_worker_has_its_pieces_done_by_another(pair, source, undisturbed):
    address = min(pair.scheduler_info(n_workers=-1)["workers"])
    try:
        with engine_of(pair) as engine:

            def pause():
                threading.Timer(0.15, pair.run, [paused, True], {"workers": [address]}).start()

            result = train(
                Watched(source, Slow(0.01)), engine, SETTINGS, watchers=[at_pass(3, pause)]
            )
            assert bits(result) == undisturbed
            assert len(engine.placement.in_order) == 1
            assert pair.scheduler_info(n_workers=-1)["workers"][address]["status"] == "paused"
    finally:
        pair.run(paused, False, workers=[address])


def test_the_only_worker_is_waited_for_while_it_is_paused(source, undisturbed, monkeypatch):
    with workers(1, processes=False) as (_, client), engine_of(client) as engine:
        timers = []

        def pause():
            client.run(paused, True)
            timers.append(threading.Timer(2.0, client.run, [paused, False]))
            timers[0].start()

        started = time.monotonic()
        assert bits(train(source, engine, SETTINGS, watchers=[at_pass(3, pause)])) == undisturbed
        assert time.monotonic() - started > 1.5
        timers[0].join()
        client.run(paused, True)
        engine.waiting.timeout = 1.0
        monkeypatch.setattr(waiting, "STALL_SECONDS", 1.5)
        started = time.monotonic()
        with pytest.raises(ClusterError, match=r"has made progress for 1\.5 s"):
            train(source, engine, SETTINGS)
        assert time.monotonic() - started < 15
        client.run(paused, False)


def test_a_worker_that_joins_in_a_pass_works_in_the_next(source, undisturbed):
    with workers(1) as (cluster, client), engine_of(client) as engine:
        watch = at_pass(3, lambda: cluster.scale(2))
        counts = []
        result = train(
            Watched(source, Slow(0.01)),
            engine,
            SETTINGS,
            watchers=[watch, lambda *_: counts.append(len(engine.placement.in_order))],
        )
    assert bits(result) == undisturbed
    assert (counts[0], counts[-1]) == (1, 2)
