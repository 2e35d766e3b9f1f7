"""Blocks of remote storage that are loaded at once: as many as memory allows, and never more."""

import threading
from dataclasses import dataclass, field

import pytest
from counted import Counting, limit_of, rows_and_labels

from dsoftmax.engines.plan import MOST_LOADS, Needs, plan_pass
from dsoftmax.engines.threads import ThreadsEngine

SIZE, LOAD = 1000, 2000


@dataclass
class Distant(Counting):
    """A source with eight loads in flight for each thread, which come when enough have begun."""

    wanted: int = 16
    loading: int = 0
    most_loading: int = 0
    begun: threading.Condition = field(default_factory=threading.Condition)

    @property
    def in_flight(self):
        return 8

    def load(self, chunk, buffer=None):
        with self.begun:
            self.loading += 1
            self.most_loading = max(self.most_loading, self.loading)
            self.begun.notify_all()
            if not self.begun.wait_for(lambda: self.most_loading >= self.wanted, timeout=5):
                self.wanted = 0  # waited in vain: the test fails, and soon
        try:
            return super().load(chunk, buffer)
        finally:
            with self.begun:
                self.loading -= 1


def needs(allowed, **others):
    return Needs(allowed, 2, 100, SIZE, LOAD, process=0, in_flight=8, **others)


@pytest.mark.parametrize("engine", [lambda: ThreadsEngine(2), lambda: ThreadsEngine(2, 2**40)])
def test_as_many_loads_are_in_flight_as_the_storage_asks_for(engine):
    source = Distant(64)
    total = engine().total(rows_and_labels, source)
    assert total.result()["sum"] == 100 * sum(range(64))
    assert source.most_loading == 16


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 18])
def test_a_limit_bounds_the_blocks_that_are_loaded_and_wait(blocks):
    # The scratch and the sums of a thread are those of `limit_of`; only loads differ.
    plan = ThreadsEngine(2, 2**40).plan(Distant(64))
    threads = min(2, blocks)
    more = min(16, blocks) - threads
    limit = limit_of(threads, blocks) + more * plan.needs.loading
    engine, source = ThreadsEngine(2, limit), Distant(64, wanted=1)
    found = engine.plan(source)
    assert (found.threads, found.blocks, found.readers) == (threads, blocks, min(16, blocks))
    assert found.projected == limit
    engine.total(rows_and_labels, source)
    assert source.most_alive <= blocks
    assert source.most_loading <= found.readers


@pytest.mark.parametrize(
    ("spare", "blocks"), [(0, 4), (2 * 3000, 5), (2 * 3000 * 3, 7), (10**9, 18)]
)
def test_without_a_limit_half_of_the_spare_memory_reads_ahead(spare, blocks):
    plan = plan_pass(needs(None, spare=spare, total=10**7))
    assert plan.blocks == blocks
    assert plan.cache == min(spare - (blocks - 4) * (SIZE + LOAD), 10**7)


def test_no_more_blocks_are_planned_than_there_are():
    assert plan_pass(Needs(None, 2, 5, SIZE, LOAD, spare=10**9, in_flight=8)).blocks == 2 + 5
    many = plan_pass(Needs(None, 32, 10**4, SIZE, LOAD, spare=10**12, in_flight=8))
    assert (many.readers, many.blocks) == (MOST_LOADS, 32 + MOST_LOADS)
    more = plan_pass(Needs(None, 100, 10**4, SIZE, LOAD, spare=10**12, in_flight=8))
    assert more.readers == 100


def test_other_storage_has_one_load_for_each_thread():
    plan = ThreadsEngine(3, 2**40).plan(Counting(40))
    assert (plan.readers, plan.blocks) == (3, 6)
