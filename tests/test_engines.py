"""Every engine on every storage: the same bits, within the memory allowed, and errors that stop the pass."""

import gc
import re
import threading
import time
import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest
import stored
from threadpoolctl import ThreadpoolController, threadpool_info

from dsoftmax.blocks import Block, Names
from dsoftmax.engine import Engine, make_engine
from dsoftmax.engine.blas import one_blas_thread
from dsoftmax.engine.memory import DECODE_FACTOR, PROCESS_BYTES, blocks_that_fit, require_blocks
from dsoftmax.engine.serial import SerialEngine
from dsoftmax.engine.threads import ThreadsEngine, available_cores
from dsoftmax.errors import DataError, MemoryLimitError, OptionError
from dsoftmax.labels import Encoder, plain_labels
from dsoftmax.objective import Evaluate
from dsoftmax.oracle import Query
from dsoftmax.sources import open_source
from dsoftmax.statistics import Collect
from dsoftmax.testing import check_engine

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

    with pytest.raises(AssertionError, match="n_rows is 519, needed is 520"):
        check_engine(Forgetful())


@pytest.mark.parametrize("kind", stored.KINDS)
def test_all_engines_return_the_same_bits_from_every_storage(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.sources.zarr_array.GROUP_BYTES", 0)
    monkeypatch.setattr("dsoftmax.sources.memory.CHUNK_BYTES", 2000)
    data = stored.KINDS[kind](tmp_path)
    source = open_source(*data)
    assert len(source.chunk_rows) > 1 or "one chunk" in kind or kind in ("lists", "numpy with labels in dask")
    rng = np.random.default_rng(0)
    queries = tuple(Query(*rng.normal(size=(2, 3, stored.P + 1)), hessian=True) for _ in range(2))
    evaluate = Evaluate(queries, Encoder(np.unique(plain_labels(data.y))), np.array([1.0, 0.3, 2.0]), np.dtype("f8"))
    for visit in (Collect(gram=True), evaluate):
        expected = SerialEngine().total(visit, source)
        assert expected.n_rows == stored.N
        for n_threads in (1, 2, 8):
            found = ThreadsEngine(n_threads).total(visit, source)
            assert bits(found.result()) == bits(expected.result())
            assert (found.n_rows, found.n_bytes, found.n_leaves) == (expected.n_rows, expected.n_bytes, expected.n_leaves)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_many_leaves_of_many_tiles_have_the_same_bits_on_any_number_of_threads(rng, dtype):
    X = rng.normal(size=(200_000, 9)).astype(dtype)
    source = open_source(X, rng.integers(0, 4, 200_000))
    visit = Evaluate((Query(rng.normal(size=(4, 10))),), Encoder(np.arange(4)), None, np.dtype(dtype))
    expected = bits(SerialEngine().total(visit, source).result())
    for n_threads in (2, 3, 8):
        assert bits(ThreadsEngine(n_threads).total(visit, source).result()) == expected


# --- memory -------------------------------------------------------------------------------------------------------------


@dataclass
class Counting:
    """A source that counts loads and the blocks alive at once."""

    n_chunks: int
    n_features: int = 2
    dtype: np.dtype = DOUBLE
    sparse: bool = False
    resident: bool = False
    names: Names = field(default_factory=Names)
    bad: int = -1
    loads: list = field(default_factory=list)
    alive: int = 0
    most_alive: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def chunk_rows(self):
        return np.full(self.n_chunks, 100)

    @property
    def chunk_bytes(self):
        return self.chunk_rows * 16

    def load(self, chunk, buffer=None):
        with self.lock:
            self.loads.append(chunk)
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        if chunk == self.bad:
            raise DataError(f"chunk {chunk} is bad")
        time.sleep(0.001)
        block = Block(np.full((100, 2), float(chunk)), np.arange(100) % 2, None, 100 * chunk)
        weakref.finalize(block.X, self.gone)
        return block

    def gone(self):
        with self.lock:
            self.alive -= 1

    def share(self, chunks):
        return self

    def needs(self, chunk):
        return ()

    def describe(self):
        return {}


def rows_and_labels(block):
    return {"rows": block.n_rows, "sum": np.array([block.X[:, 0].sum()])}


@pytest.mark.parametrize(("n_threads", "read_ahead"), [(1, True), (1, False), (3, True), (3, False), (8, True)])
def test_the_blocks_alive_at_once_are_bounded(n_threads, read_ahead):
    limit = None if read_ahead else PROCESS_BYTES + n_threads * DECODE_FACTOR * 1600
    engine, source = ThreadsEngine(n_threads, limit), Counting(40)
    assert engine.plan(source) == (n_threads, read_ahead)
    assert engine.total(rows_and_labels, source).result()["sum"] == 100 * sum(range(40))
    assert sorted(source.loads) == list(range(40))
    assert source.most_alive <= n_threads * (2 if read_ahead else 1)
    gc.collect()
    assert source.alive == 0


def test_serial_holds_at_most_two_blocks():
    source = Counting(10)
    SerialEngine().total(rows_and_labels, source)
    assert source.loads == list(range(10))
    assert source.most_alive <= 2


@pytest.mark.parametrize("engine", [SerialEngine, lambda limit: ThreadsEngine(4, limit)])
@pytest.mark.parametrize("limit", [0, 10**6, PROCESS_BYTES + DECODE_FACTOR * 1600 - 1])
def test_too_little_memory_is_refused_before_the_first_load(engine, limit):
    source = Counting(10)
    with pytest.raises(
        MemoryLimitError, match=r"The memory allowed is .* Allow at least 160 MiB, or store X in chunks of fewer rows"
    ):
        engine(limit).total(rows_and_labels, source)
    assert source.loads == []


@pytest.mark.parametrize(
    ("blocks", "plan"),
    [(1, (1, False)), (2, (2, False)), (3, (3, False)), (4, (4, False)), (7, (4, False)), (8, (4, True)), (100, (4, True))],
)
def test_fewer_threads_and_no_reading_ahead_where_memory_is_tight(blocks, plan):
    engine, source = ThreadsEngine(4, PROCESS_BYTES + blocks * DECODE_FACTOR * 1600), Counting(10)
    assert engine.plan(source) == plan
    engine.total(rows_and_labels, source)
    assert source.most_alive <= blocks


def test_there_are_no_more_threads_than_chunks():
    assert ThreadsEngine(8).plan(Counting(3)) == (3, True)
    assert ThreadsEngine(8).plan(Counting(0))[0] == 1
    assert ThreadsEngine().n_threads == available_cores()


def test_the_limit_that_a_message_asks_for_is_enough():
    sizes = np.array([10**6, 3 * 10**8, 5])
    with pytest.raises(MemoryLimitError) as error:
        require_blocks(2, sizes, 2**20)
    asked = int(re.search(r"Allow at least ([\d,]+) MiB", str(error.value))[1].replace(",", ""))
    require_blocks(2, sizes, (asked + 1) * 2**20)
    with pytest.raises(MemoryLimitError):
        require_blocks(2, sizes, (asked - 1) * 2**20)
    require_blocks(5, sizes, None)
    assert blocks_that_fit(sizes, PROCESS_BYTES + DECODE_FACTOR * 3 * 10**8 * 2) == 2


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_error_of_a_load_or_a_visit_stops_the_pass(engine):
    engine, source = ENGINES[engine](), Counting(400, bad=5)
    with pytest.raises(DataError, match="chunk 5 is bad"):
        engine.total(rows_and_labels, source)
    assert len(source.loads) < 60

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


def test_ctrl_c_stops_the_threads():
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
        engine.total(lambda block, seen=seen: seen.append(blas_threads()) or {}, Counting(4))
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
    ("name", "message"), [("thread", "Did you mean 'threads'"), ("spark", "Known: 'auto'"), (3, "engine=3 is unknown")]
)
def test_an_unknown_engine_is_answered_with_the_nearest(name, message):
    with pytest.raises(OptionError, match=message):
        make_engine(name)


def test_a_cluster_needs_a_client():
    with pytest.raises(OptionError, match="needs an active dask client"):
        make_engine("cluster")
