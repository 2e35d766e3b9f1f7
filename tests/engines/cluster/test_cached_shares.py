"""Blocks that workers cache between passes."""

import os
from functools import partial

import numpy as np
import pytest
from local_workers import ROWS, SIGNALS, N, engine_of, rows_and_sum, shares_of, until, workers
from mischief import Log, Mischief, Slow, Visited, Watched
from visits import Visiting

from dsoftmax.data.block import Block
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share
from dsoftmax.data.table import Names
from dsoftmax.engines.cluster import deal, dispatch
from dsoftmax.engines.visit import Footprint

pytestmark = [SIGNALS, pytest.mark.usefixtures("quick"), pytest.mark.timeout(100)]


def cached_bytes():
    """Bytes of all caches of this worker, without the cycles that cancelled tasks leave."""
    import gc

    from dsoftmax.engines.cluster import worker

    gc.collect()
    return sum(cache.n_bytes for home in worker._homes.values() for cache in home.caches.values())


def chunks_of(engine):
    return {name: set(one.chunks.tolist()) for name, one in shares_of(engine).items()}


def test_cached_blocks_are_not_read_again_and_are_evicted_with_their_engine(pair, source, tmp_path):
    log = Log(tmp_path)
    seen = Watched(source, log, resident=False)
    with engine_of(pair) as engine:
        first = engine.total(rows_and_sum, seen)
        log.take()
        # The owner of a piece that was stolen in the first pass has not cached it yet.
        engine.total(rows_and_sum, seen)
        log.take()
        totals = engine.total(rows_and_sum, seen)
        assert len(log.take()) <= 4
        assert sum(done.cached_bytes for done in totals.work.values()) >= 0.9 * totals.n_bytes
        assert totals.result()["sum"].tobytes() == first.result()["sum"].tobytes()
        assert sum(pair.run(cached_bytes).values()) > 0
        other = Watched(source, Slow(0.0))
        engine.total(rows_and_sum, other)
        until(lambda: sum(pair.run(cached_bytes).values()) == 0)
        engine.total(rows_and_sum, seen)
        assert sum(pair.run(cached_bytes).values()) > 0
    until(lambda: sum(pair.run(cached_bytes).values()) == 0)


def die_as(mischief, pid):
    if os.getpid() == pid:
        mischief()


def test_workers_that_stay_keep_their_cached_blocks(source, tmp_path, monkeypatch):
    monkeypatch.setattr(deal, "CUT_SECONDS", 60.0)  # nothing is stolen
    monkeypatch.setattr(deal, "CUT_BYTES", 2**40)
    monkeypatch.setattr(dispatch, "PATIENCE_SECONDS", 60.0)  # nor duplicated, while a worker starts
    log = Log(tmp_path)
    seen = Watched(source, log, resident=False)
    with workers(2) as (cluster, client), engine_of(client) as engine:
        engine.total(rows_and_sum, seen)
        engine.total(rows_and_sum, seen)
        before = chunks_of(engine)
        log.take()
        cluster.scale(3)
        client.wait_for_workers(3, timeout=30)
        engine.total(rows_and_sum, seen)
        after = chunks_of(engine)
        moved = {chunk for name in after for chunk in after[name] - before.get(name, set())}
        assert 0 < len(moved) < N // ROWS / 2
        assert {chunk for _, chunk in log.take()} == moved
        # One worker is killed in a pass. The others visit its share and keep their own blocks.
        victim = sorted(after)[-1]
        pid = client.run(os.getpid, workers=[shares_of(engine)[victim].address]).popitem()[1]
        mischief = Mischief(tmp_path, "SIGKILL")
        mischief.arm()
        total = engine.total(Visited(rows_and_sum, partial(die_as, mischief, pid)), seen)
        assert total.n_rows == N
        assert {chunk for _, chunk in log.take()} <= after[victim]
        client.wait_for_workers(3, timeout=30)
        engine.total(rows_and_sum, seen)
        assert {chunk for _, chunk in log.take()} <= after[victim]


class Wide(Share):
    """A source of 30 blocks of 8 MiB, which fill the memory allowed."""

    n_features, dtype, sparse, resident, names, columns = (
        1024,
        np.dtype("f8"),
        False,
        False,
        Names(),
        ColumnBytes(),
    )
    chunk_rows = np.full(30, 1024)
    chunk_bytes = np.full(30, 8 * 2**20)

    def load(self, chunk, buffer=None):
        return Block(np.full((1024, 1024), float(chunk)), None, None, 1024 * chunk)

    def share(self, chunks):
        return self

    def needs(self, chunk):
        return ()

    def smaller_chunks(self, rows):
        return ""


def count_rows(block):
    return {"rows": block.n_rows}


def test_blocks_of_another_run_are_evicted_and_the_memory_limit_holds():
    limit = 640 * 2**20
    with (
        workers(1, memory_limit=limit) as (_, client),
        engine_of(client) as first,
        engine_of(client) as second,
    ):
        for _ in range(2):
            peak = first.total(Visiting(count_rows), Wide()).work["0"].peak
        cached = client.run(cached_bytes).popitem()[1]
        assert cached > 50 * 2**20
        totals = second.total(Visiting(count_rows, Footprint(scratch=90 * 2**20)), Wide())
        assert totals.n_rows == 30 * 1024
        assert client.run(cached_bytes).popitem()[1] < cached
        assert max(peak, totals.work["0"].peak) < 0.7 * limit  # where dask would begin to spill
