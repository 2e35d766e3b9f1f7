"""Blocks on their way to the threads: the spool, retries, and errors that stop the pass."""

import gc
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import zarr
from counted import BLOCK, ENGINES, Counting, bits, limit_of, rows_and_labels
from opening import opened
from visits import Visiting
from zarr.codecs import BloscCodec

from dsoftmax.data.zarr.local import blosc
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.retry import LOADS
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError, OptionError, ReadError


def test_blocks_that_are_not_cached_are_read_back_from_the_spool(tmp_path):
    engine = ThreadsEngine(
        2, limit_of(2, 4, cache=3 * 2400 + BLOCK), SpoolTo(str(tmp_path / "spool"))
    )
    source = Counting(10)
    expected = bits(engine.total(rows_and_labels, source).result())
    for _ in range(2):  # two readers may both find the budget free for the last block
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
    """A source of ten chunks, each of which is decoded in about four parts."""
    values = np.arange(10 * 16_384 * 40, dtype="i4").reshape(-1, 40)
    made = zarr.create_array(
        path, data=values, chunks=(16_384, 40), compressors=BloscCodec(cname="lz4")
    )
    return opened(made, np.arange(len(values)) % 3)


def failing(monkeypatch, fails):
    """Let the decoding of one leaf fail ``fails`` times, and return the list of its tries.

    It is the third leaf of the chunk that begins with row 49,152.
    """
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
    monkeypatch.setattr("dsoftmax.engines.threads.spare_bytes", lambda: 0)  # nothing is cached
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
        with suppress(ZeroDivisionError):  # pytest.raises refers to the error, and so to its frames
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


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_no_thread_is_left_when_ctrl_c_comes_while_threads_start(nth, monkeypatch):
    """The interrupt comes while the starting thread is waited for."""
    start, started = threading.Thread.start, []

    def interrupted_start(thread):
        if not thread.name.startswith("dsoftmax_"):
            return start(thread)
        started.append(thread)
        if len(started) == nth:
            wait = thread._started.wait

            def interrupted_wait():
                wait()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.05)

            thread._started.wait = interrupted_wait
        return start(thread)

    @Visiting
    def visit(block):
        time.sleep(0.5)
        return rows_and_labels(block)

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt):
        ThreadsEngine(2).total(visit, Counting(300))
    assert len(started) >= nth
    assert not any(thread.is_alive() for thread in started)
