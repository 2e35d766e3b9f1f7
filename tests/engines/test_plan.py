"""The plan of a pass: blocks, threads, sums and caches within the memory allowed."""

import gc
import re

import pytest
from counted import BLOCK, Counting, bits, limit_of, rows_and_labels

from dsoftmax.engines.limits import PROCESS_BYTES
from dsoftmax.engines.plan import LEAF_ENTRY_BYTES, Needs, plan_pass
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import MemoryLimitError
from dsoftmax.sums.exact import ENTRY_BYTES
from dsoftmax.system.process import available_cores


@pytest.mark.parametrize(("n_threads", "blocks"), [(1, 2), (1, 1), (3, 6), (3, 3), (3, 4), (8, 16)])
def test_the_blocks_alive_at_once_are_bounded(n_threads, blocks):
    engine, source = ThreadsEngine(n_threads, limit_of(n_threads, blocks)), Counting(40)
    plan = engine.plan(source)
    assert (plan.threads, plan.blocks, plan.read_ahead, plan.cache) == (
        n_threads,
        blocks,
        blocks - n_threads,
        0,
    )
    assert plan.projected == engine.memory_limit
    assert engine.total(rows_and_labels, source).result()["sum"] == 100 * sum(range(40))
    assert sorted(source.loads) == list(range(40))
    assert source.most_alive <= blocks
    engine.close()
    gc.collect()
    assert source.alive == 0


def test_serial_has_at_most_two_blocks_in_memory():
    source = Counting(10)
    SerialEngine().total(rows_and_labels, source)
    assert source.loads == list(range(10))
    assert source.most_alive <= 2


@pytest.mark.parametrize("engine", [SerialEngine, lambda limit: ThreadsEngine(4, limit)])
@pytest.mark.parametrize("limit", [0, 10**6, limit_of(1, 1) - 1], ids=["0", "1 MB", "one less"])
def test_a_limit_that_is_too_low_is_refused_before_the_first_load(engine, limit):
    source = Counting(10)
    with pytest.raises(
        MemoryLimitError, match=r"The memory allowed is .* Allow at least [\d,]+ MiB"
    ) as error:
        engine(limit).total(rows_and_labels, source)
    assert source.loads == []
    assert (
        "or store X in chunks of 64 rows or fewer (the largest now has 100):\n  rechunk 64"
        in str(error.value)
    ) == (limit == limit_of(1, 1) - 1)


@pytest.mark.parametrize(("blocks", "threads"), [(1, 1), (2, 2), (3, 3), (4, 4), (7, 4), (8, 4)])
def test_a_tight_limit_means_fewer_threads_and_no_reading_ahead(blocks, threads):
    engine, source = ThreadsEngine(4, limit_of(4, blocks)), Counting(10)
    plan = engine.plan(source)
    assert (plan.threads, plan.blocks) == (threads, blocks)
    engine.total(rows_and_labels, source)
    assert source.most_alive <= blocks


def test_the_rest_of_the_limit_caches_blocks_and_never_more():
    engine, source = ThreadsEngine(2, limit_of(2, 4, cache=4 * BLOCK)), Counting(10)
    first = engine.total(rows_and_labels, source)
    most = 1600 * 4
    for _ in range(3):
        before = len(source.loads)
        again = engine.total(rows_and_labels, source)
        assert bits(again.result()) == bits(first.result())
        assert again.work[""].cached_bytes == 1600 * (10 - len(source.loads[before:])) > 0
        assert again.work[""].cached_bytes <= most + 1600
    assert first.work[""].cached_bytes == 0


def test_without_a_limit_all_blocks_are_cached():
    engine, source = ThreadsEngine(2), Counting(10)
    engine.total(rows_and_labels, source)
    done = engine.total(rows_and_labels, source).work[""]
    assert sorted(source.loads) == list(range(10))
    assert (done.rows, done.bytes, done.cached) == (1000, 16_000, 1.0)
    other = Counting(4)
    engine.total(rows_and_labels, other)
    assert sorted(other.loads) == list(range(4))  # each source has blocks of its own
    engine.total(rows_and_labels, source)
    assert len(source.loads) == 20


def test_views_of_memory_are_not_cached():
    engine, source = ThreadsEngine(2), Counting(10, resident=True)
    engine.total(rows_and_labels, source)
    engine.total(rows_and_labels, source)
    assert len(source.loads) == 20
    assert engine.plan(source).cache == 0


def test_threads_share_the_sums_of_wide_models_if_memory_is_tight():
    def plan(limit):
        needs = Needs(limit, 4, 100, 1000, 2000, sums=10**6, scratch=0)
        return plan_pass(needs)

    leaf, total = 10**6 * LEAF_ENTRY_BYTES, 10**6 * ENTRY_BYTES
    roomy = PROCESS_BYTES + 4 * (leaf + total) + 8 * 1000 + 4 * 2000
    assert (plan(roomy).threads, plan(roomy).totals) == (4, 4)
    assert (plan(roomy - total - 8000).threads, plan(roomy - total - 8000).totals) == (4, 1)
    assert (
        plan(PROCESS_BYTES + leaf + total + 3000).threads,
        plan(PROCESS_BYTES + leaf + total + 3000).fits,
    ) == (1, True)
    assert not plan(PROCESS_BYTES + leaf + total + 2999).fits


def test_reserved_bytes_are_not_planned():
    engine, source = ThreadsEngine(4, limit_of(4, 8)), Counting(10)
    engine.reserve(4 * BLOCK)
    assert engine.plan(source).blocks == 4
    engine.reserve(limit_of(4, 8))
    with pytest.raises(MemoryLimitError, match="the solver"):
        engine.plan(source)


def test_there_are_no_more_threads_than_chunks():
    assert ThreadsEngine(8).plan(Counting(3)).threads == 3
    assert ThreadsEngine(8).plan(Counting(0)).threads == 1
    assert ThreadsEngine().n_threads == available_cores()


def test_the_limit_that_a_message_asks_for_is_enough():
    source = Counting(10, n_rows=10**6)
    with pytest.raises(MemoryLimitError) as error:
        ThreadsEngine(2, 2**20).plan(source)
    asked = int(re.search(r"Allow at least ([\d,]+) MiB", str(error.value))[1].replace(",", ""))
    assert ThreadsEngine(2, asked * 2**20).plan(source).blocks == 1
    with pytest.raises(MemoryLimitError):
        ThreadsEngine(2, (asked - 1) * 2**20).plan(source)
