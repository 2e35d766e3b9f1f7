"""Every engine on every storage: the same bits, within the memory allowed, and errors that stop the pass."""

import gc
import re
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pytest
import stored
import zarr
from opening import opened
from threadpoolctl import ThreadpoolController, threadpool_info
from visits import Visiting
from zarr.codecs import BloscCodec

from dsoftmax.data.block import Block, Names
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share
from dsoftmax.data.zarr.local import blosc
from dsoftmax.engines.base import Engine
from dsoftmax.engines.choose import make_engine
from dsoftmax.engines.feed import Feed
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.limits import PROCESS_BYTES, process_bytes
from dsoftmax.engines.plan import (
    LEAF_ENTRY_BYTES,
    LOADING,
    Needs,
    Plan,
    needs_of,
    plan_pass,
)
from dsoftmax.engines.retry import LOADS
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine, visit_all
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import DataError, MemoryLimitError, OptionError, ReadError
from dsoftmax.first_pass.labels import Encoder, plain_labels
from dsoftmax.first_pass.visit import Collect
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query
from dsoftmax.sums.exact import ENTRY_BYTES
from dsoftmax.system.blas import one_blas_thread
from dsoftmax.system.process import available_cores
from dsoftmax.testing.engines import check_engine

DOUBLE = np.dtype("f8")
ENGINES = {
    "serial": SerialEngine,
    "threads": ThreadsEngine,
    "1 thread": lambda: ThreadsEngine(1),
    "2 threads": lambda: ThreadsEngine(2),
    "8 threads": lambda: ThreadsEngine(8),
}


def bits(value):
    """What is equal only where all bits are."""
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    return np.asarray(value).dtype.str, np.asarray(value).shape, np.asarray(value).tobytes()


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_keeps_the_contract(engine):
    engine = ENGINES[engine]()
    check_engine(engine)
    engine.close()


def test_an_engine_that_is_wrong_fails_the_contract():
    class Forgetful(SerialEngine):
        def total(self, visit, source):
            totals = super().total(visit, source)
            totals.n_rows -= 1
            return totals

    with pytest.raises(AssertionError, match="n_rows is 519; expected 520"):
        check_engine(Forgetful())


@pytest.mark.parametrize("kind", stored.KINDS)
def test_all_engines_return_the_same_bits_from_every_storage(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2000)
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    data = stored.KINDS[kind](tmp_path)
    source = opened(*data)
    assert (
        len(source.chunk_rows) > 1
        or "one chunk" in kind
        or kind in ("lists", "numpy with labels in dask")
    )
    rng = np.random.default_rng(0)
    queries = tuple(Query(*rng.normal(size=(2, 3, stored.P + 1)), hessian=True) for _ in range(2))
    questions = tuple(
        Question(query, np.array([1.0, 0.3, 2.0]), np.dtype("f8")) for query in queries
    )
    evaluate = Evaluate(questions, Encoder(np.unique(plain_labels(data.y))))
    for visit in (Collect(gram=True), evaluate):
        expected = SerialEngine().total(visit, source)
        assert expected.n_rows == stored.N
        for n_threads in (1, 2, 8):
            found = ThreadsEngine(n_threads).total(visit, source)
            assert bits(found.result()) == bits(expected.result())
            assert (found.n_rows, found.n_bytes, found.n_leaves) == (
                expected.n_rows,
                expected.n_bytes,
                expected.n_leaves,
            )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_many_leaves_of_many_tiles_have_the_same_bits_on_any_number_of_threads(rng, dtype):
    X = rng.normal(size=(200_000, 9)).astype(dtype)
    source = opened(X, rng.integers(0, 4, 200_000))
    visit = Evaluate(
        (Question(Query(rng.normal(size=(4, 10))), None, np.dtype(dtype)),), Encoder(np.arange(4))
    )
    expected = bits(SerialEngine().total(visit, source).result())
    for n_threads in (2, 3, 8):
        assert bits(ThreadsEngine(n_threads).total(visit, source).result()) == expected


# --- memory -------------------------------------------------------------------------------------------------------------


@dataclass
class Counting(Share):
    """A source that counts loads and the blocks alive at once."""

    n_chunks: int
    n_rows: int = 100
    fails: dict = field(default_factory=dict)
    n_features: int = 2
    dtype: np.dtype = DOUBLE
    sparse: bool = False
    resident: bool = False
    names: Names = field(default_factory=Names)
    columns: ColumnBytes = field(default_factory=lambda: ColumnBytes(row=8))
    bad: int = -1
    loads: list = field(default_factory=list)
    alive: int = 0
    most_alive: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def chunk_rows(self):
        return np.full(self.n_chunks, self.n_rows)

    @property
    def chunk_bytes(self):
        return self.chunk_rows * 16

    def load(self, chunk, buffer=None):
        with self.lock:
            self.loads.append(chunk)
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
            failed = self.loads.count(chunk) <= self.fails.get(chunk, 0)
        if failed:
            self.alive -= 1
            raise ReadError(f"chunk {chunk} is out of reach")
        if chunk == self.bad:
            raise DataError(f"chunk {chunk} is bad")
        time.sleep(0.001)
        block = Block(np.full((100, 2), float(chunk)), np.arange(100) % 2, None, 100 * chunk)
        weakref.finalize(block.X, self.gone)
        return block

    def gone(self):
        with self.lock:
            self.alive -= 1

    def smaller_chunks(self, rows):
        return f"rechunk {rows}"

    def share(self, chunks):
        return self

    def needs(self, chunk):
        return ()

    def describe(self):
        return {}


@Visiting
def rows_and_labels(block):
    return {"rows": block.n_rows, "sum": np.array([block.X[:, 0].sum()])}


BLOCK = 1600 + 100 * 8
LOAD = LOADING * 1600


def room(threads, blocks, cache=0):
    """The limit that just holds so many blocks of `Counting` in flight."""
    return process_bytes() + blocks * BLOCK + min(threads, blocks) * LOAD + cache


@pytest.mark.parametrize(("n_threads", "blocks"), [(1, 2), (1, 1), (3, 6), (3, 3), (3, 4), (8, 16)])
def test_the_blocks_alive_at_once_are_bounded(n_threads, blocks):
    engine, source = ThreadsEngine(n_threads, room(n_threads, blocks)), Counting(40)
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


def test_serial_holds_at_most_two_blocks():
    source = Counting(10)
    SerialEngine().total(rows_and_labels, source)
    assert source.loads == list(range(10))
    assert source.most_alive <= 2


@pytest.mark.parametrize("engine", [SerialEngine, lambda limit: ThreadsEngine(4, limit)])
@pytest.mark.parametrize("limit", [0, 10**6, room(1, 1) - 1])
def test_too_little_memory_is_refused_before_the_first_load(engine, limit):
    source = Counting(10)
    with pytest.raises(
        MemoryLimitError, match=r"The memory allowed is .* Allow at least [\d,]+ MiB"
    ) as error:
        engine(limit).total(rows_and_labels, source)
    assert source.loads == []
    assert (
        "or store X in chunks of 64 rows or fewer (the largest now has 100):\n  rechunk 64"
        in str(error.value)
    ) == (limit == room(1, 1) - 1)


@pytest.mark.parametrize(("blocks", "threads"), [(1, 1), (2, 2), (3, 3), (4, 4), (7, 4), (8, 4)])
def test_fewer_threads_and_no_reading_ahead_where_memory_is_tight(blocks, threads):
    engine, source = ThreadsEngine(4, room(4, blocks)), Counting(10)
    plan = engine.plan(source)
    assert (plan.threads, plan.blocks) == (threads, blocks)
    engine.total(rows_and_labels, source)
    assert source.most_alive <= blocks


def test_what_the_limit_leaves_keeps_blocks_and_never_more():
    held = 1600 + 100 * 8
    engine, source = ThreadsEngine(2, room(2, 4, cache=3 * held + BLOCK)), Counting(10)
    first = engine.total(rows_and_labels, source)
    kept = 1600 * 4
    for _ in range(3):
        before = len(source.loads)
        again = engine.total(rows_and_labels, source)
        assert bits(again.result()) == bits(first.result())
        assert again.work[""].cached_bytes == 1600 * (10 - len(source.loads[before:])) > 0
        assert again.work[""].cached_bytes <= kept + 1600
    assert first.work[""].cached_bytes == 0


def test_without_a_limit_everything_that_there_is_room_for_stays():
    engine, source = ThreadsEngine(2), Counting(10)
    engine.total(rows_and_labels, source)
    done = engine.total(rows_and_labels, source).work[""]
    assert sorted(source.loads) == list(range(10))
    assert (done.rows, done.bytes, done.cached) == (1000, 16_000, 1.0)
    other = Counting(4)
    engine.total(rows_and_labels, other)
    assert sorted(other.loads) == list(range(4))  # another source's blocks are others
    engine.total(rows_and_labels, source)
    assert len(source.loads) == 20


def test_blocks_in_memory_anyway_are_not_kept():
    engine, source = ThreadsEngine(2), Counting(10, resident=True)
    engine.total(rows_and_labels, source)
    engine.total(rows_and_labels, source)
    assert len(source.loads) == 20
    assert engine.plan(source).cache == 0


def test_the_sums_of_wide_models_are_shared_where_memory_is_tight():
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


def test_sums_that_threads_share_have_the_same_bits():
    source = Counting(40)
    needs = needs_of(source, Footprint(), 4, None)
    expected = bits(SerialEngine().total(rows_and_labels, source).result())
    for totals in (1, 2, 3, 4):
        found = visit_all(rows_and_labels, Feed(source, range(40), Plan(needs, 4, 8, totals)))
        assert bits(found.result()) == expected
        assert (found.n_rows, found.n_leaves) == (int(source.chunk_rows.sum()), 40)


@pytest.mark.parametrize("n_threads", [1, 2, 5, 16])
def test_threads_that_merge_two_by_two_leave_one_sum_of_everything(n_threads):
    source = Counting(16)
    for _ in range(20):  # who finishes first is for the machine to say
        totals = ThreadsEngine(n_threads).total(rows_and_labels, source)
        assert totals.n_leaves == 16
        assert bits(totals.result()) == bits(SerialEngine().total(rows_and_labels, source).result())


def test_what_others_hold_in_the_process_is_left_to_them():
    engine, source = ThreadsEngine(4, room(4, 8)), Counting(10)
    engine.reserve(4 * BLOCK)
    assert engine.plan(source).blocks == 4
    engine.reserve(room(4, 8))
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


def test_what_memory_does_not_keep_is_read_back_from_the_spool(tmp_path):
    engine = ThreadsEngine(2, room(2, 4, cache=3 * 2400 + BLOCK), SpoolTo(str(tmp_path / "spool")))
    source = Counting(10)
    expected = bits(engine.total(rows_and_labels, source).result())
    for _ in range(2):  # two readers may both have hoped for the last place in memory
        assert bits(engine.total(rows_and_labels, source).result()) == expected
    before = len(source.loads)
    assert bits(engine.total(rows_and_labels, source).result()) == expected
    assert len(source.loads) == before < 13
    assert list((tmp_path / "spool").glob("*/*.block"))
    engine.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_spool_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=r"spool is .*file.*expected a directory on a local disk"):
        ThreadsEngine(2, spool=SpoolTo(str(tmp_path / "file"))).total(rows_and_labels, Counting(2))


@pytest.mark.parametrize("fails", [1, LOADS - 1])
@pytest.mark.parametrize("engine", ["threads", "1 thread"])
def test_a_chunk_that_fails_to_read_is_read_again(engine, fails, monkeypatch):
    monkeypatch.setattr("dsoftmax.engines.retry.PAUSE", 0.001)
    source = Counting(10, fails={3: fails})
    totals = ENGINES[engine]().total(rows_and_labels, source)
    assert bits(totals.result()) == bits(
        SerialEngine().total(rows_and_labels, Counting(10)).result()
    )
    assert source.loads.count(3) == fails + 1
    assert totals.work[""].retries == fails


def test_a_chunk_that_always_fails_to_read_stops_the_pass_with_its_name(monkeypatch):
    monkeypatch.setattr("dsoftmax.engines.retry.PAUSE", 0.001)
    source = Counting(10, fails={3: 10**6})
    with pytest.raises(ReadError, match="chunk 3 is out of reach"):
        ThreadsEngine(2).total(rows_and_labels, source)
    assert source.loads.count(3) == LOADS


def in_blosc(path):
    """A source of ten chunks, each of which is decoded in some four pieces."""
    values = np.arange(10 * 16_384 * 40, dtype="i4").reshape(-1, 40)
    made = zarr.create_array(
        path, data=values, chunks=(16_384, 40), compressors=BloscCodec(cname="lz4")
    )
    return opened(made, np.arange(len(values)) % 3)


def failing(monkeypatch, fails):
    """Let the third leaf of the chunk that begins with row 49,152 fail to be decoded, so many times; return how often it was tried."""
    decode, tried = blosc.BloscDecoder.decode, []

    def now_and_then(self, start, target):
        decode(self, start, target)
        if target.view("i4")[0] <= (49_152 + 9_000) * 40 < target.view("i4")[-1]:
            tried.append(start)
            if len(tried) <= fails:
                raise RuntimeError("torn")

    monkeypatch.setattr(blosc.BloscDecoder, "decode", now_and_then)
    return tried


@pytest.mark.parametrize("fails", [0, 1, LOADS - 1, 10**6])
def test_a_chunk_that_fails_to_be_decoded_is_fetched_again(fails, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.engines.retry.PAUSE", 0.001)
    monkeypatch.setattr("dsoftmax.data.leaves.LEAST_LEAF_ROWS", 4096)
    monkeypatch.setattr("dsoftmax.data.leaves.LEAF_BYTES", 4 * 40 * 4096)
    source, engine = in_blosc(tmp_path), ThreadsEngine(2)
    expected = bits(SerialEngine().total(rows_and_labels, source).result())
    tried = failing(monkeypatch, fails)
    monkeypatch.setattr("dsoftmax.engines.threads.spare_bytes", lambda: 0)  # nothing is kept
    if fails < LOADS:
        totals = engine.total(rows_and_labels, source)
        assert (bits(totals.result()), totals.work[""].retries, len(tried)) == (
            expected,
            fails,
            fails + 1,
        )
        return
    with pytest.raises(
        ReadError, match=r"rows 49,152–65,535 cannot be read \(RuntimeError: torn\).*c/3/0"
    ):
        engine.total(rows_and_labels, source)
    assert len(tried) == LOADS


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_error_of_a_load_or_a_visit_stops_the_pass(engine):
    engine, source = ENGINES[engine](), Counting(400, bad=5)
    with pytest.raises(DataError, match="chunk 5 is bad"):
        engine.total(rows_and_labels, source)
    assert len(source.loads) < 60

    @Visiting
    def visit(block):
        if block.first_row == 500:
            raise ZeroDivisionError("row 500")
        return rows_and_labels(block)

    source = Counting(400)
    with pytest.raises(ZeroDivisionError, match="row 500"):
        engine.total(visit, source)
    assert len(source.loads) < 60
    assert threading.active_count() < 30
    assert engine.total(rows_and_labels, Counting(4)).n_rows == 400


@pytest.mark.parametrize("n_threads", [1, 3])
def test_an_error_leaves_no_block_for_the_garbage_collector(n_threads):
    @Visiting
    def visit(block):
        raise ZeroDivisionError

    engine, source = ThreadsEngine(n_threads), Counting(40)
    gc.collect()
    gc.disable()
    try:
        with suppress(
            ZeroDivisionError
        ):  # pytest.raises would hold the error, and with it the frames
            engine.total(visit, source)
        engine.close()
        assert source.loads
        assert source.alive == 0
    finally:
        gc.enable()


def test_ctrl_c_stops_the_threads():
    @Visiting
    def visit(block):
        raise KeyboardInterrupt

    source = Counting(300)
    with pytest.raises(KeyboardInterrupt):
        ThreadsEngine(2).total(visit, source)
    assert len(source.loads) < 20


# --- BLAS ---------------------------------------------------------------------------------------------------------------


def blas_threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def test_blas_has_one_thread_until_the_last_who_needs_it_leaves():
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


def test_a_limit_that_another_thread_has_set_and_not_lifted_does_not_keep_us_out():
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


# --- the table ----------------------------------------------------------------------------------------------------------


def test_engines_by_name():
    assert isinstance(make_engine("serial"), SerialEngine)
    assert isinstance(make_engine("threads"), ThreadsEngine)
    assert make_engine("threads", 2**30).memory_limit == 2**30
    assert make_engine("serial", 2**30).memory_limit == 2**30
    engine = ThreadsEngine(3)
    assert make_engine(engine) is engine
    assert isinstance(engine, Engine)
    assert "3" in engine.describe()


def test_auto_without_a_client_is_this_machine():
    assert isinstance(make_engine("auto"), ThreadsEngine)


@pytest.mark.parametrize(
    ("name", "message"),
    [("thread", "Did you mean 'threads'"), ("spark", "Known: 'auto'"), (3, "engine=3 is unknown")],
)
def test_an_unknown_engine_is_answered_with_the_nearest(name, message):
    with pytest.raises(OptionError, match=message):
        make_engine(name)


def test_a_cluster_needs_a_client():
    with pytest.raises(OptionError, match="needs an active dask client"):
        make_engine("cluster")
