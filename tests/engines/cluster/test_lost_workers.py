"""Workers that die: a pass ends with the bits of one core."""

import os
import signal
import threading
from functools import partial

import pytest
from local_workers import SETTINGS, SIGNALS, bits, engine_of, workers
from mischief import Mischief, Slow, Visited, Watched, at_pass

from dsoftmax.engines.cluster import tree
from dsoftmax.engines.cluster.worker import merge as plain_merge
from dsoftmax.training.loop import train

pytestmark = [SIGNALS, pytest.mark.usefixtures("quick"), pytest.mark.timeout(100)]


def in_merge(mischief, parts, last):
    mischief()
    return plain_merge(parts, last)


@pytest.mark.parametrize(
    ("where", "pass_"),
    [("reading", 1), ("reading", 4), ("computing", 4), ("merging", 4), ("gathering", 4)],
)
def test_a_worker_killed_anywhere_changes_no_bit(
    where, pass_, pair, source, undisturbed, tmp_path, monkeypatch
):
    mischief = Mischief(tmp_path, "SIGKILL")
    if where == "merging":
        monkeypatch.setattr(tree, "DIRECT_BYTES", -1)  # all sums are added on the workers
        monkeypatch.setattr(tree, "merge", partial(in_merge, mischief))
    with engine_of(pair) as engine:
        if where == "computing":
            total = engine.total
            engine.total = lambda visit, source: total(Visited(visit, mischief), source)
        if where == "gathering":
            added = engine._added

            def gather(*args):
                pair.run(
                    mischief,
                    workers=[engine.placement.in_order[0].hand.address],
                    on_error="ignore",
                )
                return added(*args)

            engine._added = gather
        if pass_ == 1:
            mischief.arm()
        seen = Watched(source, mischief) if where == "reading" else source
        result = train(seen, engine, SETTINGS, watchers=[at_pass(pass_, mischief.arm)])
    assert mischief.pid
    assert bits(result) == undisturbed


def test_all_workers_gone_and_back_change_no_bit(source, undisturbed):
    with workers(2) as (cluster, client), engine_of(client) as engine:

        def leave():
            cluster.scale(0)
            threading.Timer(1.5, cluster.scale, [2]).start()

        result = train(source, engine, SETTINGS, watchers=[at_pass(4, leave)])
        assert bits(result) == undisturbed


def test_all_workers_killed_at_once_change_no_bit(source, undisturbed):
    def kill_all():
        for nanny in cluster.workers.values():
            os.kill(nanny.pid, signal.SIGKILL)

    with workers(2) as (cluster, client), engine_of(client) as engine:
        threads = [threading.Timer(0.2, kill_all)]
        watch = at_pass(3, threads[0].start)
        assert (
            bits(train(Watched(source, Slow(0.01)), engine, SETTINGS, watchers=[watch]))
            == undisturbed
        )
        threads[0].join()
