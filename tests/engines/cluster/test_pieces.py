"""Pieces on live workers: chunks that cannot be read, slow workers, tasks and reports of a pass."""

import shutil
import threading
import time
from concurrent.futures import CancelledError

import pytest
import zarr
from local_workers import (
    ROWS,
    SETTINGS,
    N,
    bits,
    engine_of,
    ours,
    pids_of,
    rows_and_sum,
    shares_of,
    until,
)
from mischief import Log, Mischief, Slow, Watched, at_pass
from opening import opened
from visits import Visiting

from dsoftmax.engines.cluster import attempt as attempt_module
from dsoftmax.engines.cluster import deal
from dsoftmax.engines.cluster.dispatch import QUEUED
from dsoftmax.engines.cluster.tree import FAN_IN
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import ReadError
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

pytestmark = [pytest.mark.usefixtures("quick"), pytest.mark.timeout(100)]


def test_a_chunk_that_fails_once_is_read_again_and_counted(pair, source, undisturbed, tmp_path):
    mischief = Mischief(tmp_path, "fail")
    with engine_of(pair) as engine:
        result = train(
            Watched(source, mischief), engine, SETTINGS, watchers=[at_pass(3, mischief.arm)]
        )
    assert bits(result) == undisturbed
    retries = [sum(done.retries for done in record.work.values()) for record in result.history]
    assert (retries[2], sum(retries)) == (1, 1)


def test_a_chunk_that_is_damaged_is_an_error_that_names_its_rows(pair, folder, tmp_path):
    broken = tmp_path / "rows.zarr"
    shutil.copytree(folder, broken)
    (broken / "X/c/7/0").write_bytes(b"nothing")
    source = opened(
        zarr.open_array(broken / "X", mode="r"), zarr.open_array(broken / "y", mode="r")
    )
    with (
        engine_of(pair) as engine,
        pytest.raises(ReadError, match=r"X rows 3,500–3,999 cannot be read"),
    ):
        train(source, engine, SETTINGS)


def test_pieces_of_a_slow_worker_are_taken_by_the_other(pair, source, tmp_path):
    pids = pids_of(pair)
    slow, seconds = sorted(pids)[0], 0.06
    log = Log(tmp_path)

    wait = Slow(seconds, pids[slow])

    def before(chunk):
        log(chunk)
        wait(chunk)

    expected = SerialEngine().total(rows_and_sum, source)
    firsts = []
    with engine_of(pair) as engine:
        engine.total(rows_and_sum, source)  # the workers' imports are not timed
        cut = engine._cut

        def noted(*args):
            pieces = cut(*args)
            address = shares_of(engine)[str(slow)].address
            firsts.append(next(own[0].n_rows for own in pieces if own[0].owner == address))
            return pieces

        engine._cut = noted
        seen = Watched(source, before)
        for _ in range(2):
            stolen, started = engine.n_stolen, time.monotonic()
            totals = engine.total(rows_and_sum, seen)
            wall = time.monotonic() - started
            share = len(shares_of(engine)[str(slow)].chunks)
            assert engine.n_stolen > stolen
            assert wall < 0.8 * share * seconds
            assert totals.n_rows == sum(done.rows for done in totals.work.values()) == N
            assert totals.result()["sum"].tobytes() == expected.result()["sum"].tobytes()
            assert {chunk for _, chunk in log.take()} == set(range(N // ROWS))
        assert firsts[1] < 0.6 * firsts[0]
        assert totals.work[str(slow)].rows <= ROWS * share / 2


def test_if_two_workers_visit_one_piece_the_first_answer_counts(
    pair, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(deal, "CUT_BYTES", 2**40)  # whole shares, so that nothing is stolen
    pids = pids_of(pair)
    slow = sorted(pids)[0]
    seen = Watched(source, Slow(0.4, pids[slow]))
    expected = SerialEngine().total(rows_and_sum, source)
    with engine_of(pair, timeout=4.0) as engine:
        started = time.monotonic()
        totals = engine.total(rows_and_sum, seen)
        wall = time.monotonic() - started
        assert engine.n_stolen == 1
        assert totals.n_rows == N
        assert str(slow) not in totals.work
        assert totals.result()["sum"].tobytes() == expected.result()["sum"].tobytes()
        assert wall < 0.75 * 0.4 * len(shares_of(engine)[str(slow)].chunks)
        # Nobody waits for the slow worker any more: it stops, and is free for the next pass.
        deadline = time.monotonic() + 5
        while any(pair.processing().values()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_duplicate_that_fails_leaves_the_piece_to_its_owner(pair, source, monkeypatch):
    monkeypatch.setattr(deal, "CUT_BYTES", 2**40)
    pids = pids_of(pair)
    slow = sorted(pids)[0]

    def lost(*args):
        raise CancelledError("as of a connection that is lost")

    monkeypatch.setattr(attempt_module, "visit_lent", lost)
    with engine_of(pair, timeout=2.0) as engine:
        totals = engine.total(rows_and_sum, Watched(source, Slow(0.1, pids[slow])))
        assert engine.n_stolen >= 1
        assert engine.n_attempts == 1
        assert totals.n_rows == N


def test_nothing_stays_on_the_scheduler_when_the_engine_is_closed(pair, source, tmp_path):
    mischief = Mischief(tmp_path, "fail")
    with engine_of(pair) as engine:
        for _ in range(3):
            before = engine.n_tasks
            engine.total(rows_and_sum, source)
            n_workers, n_pieces = 2, 4
            assert (
                engine.n_tasks - before <= (n_pieces + QUEUED) * n_workers + 1 + n_workers // FAN_IN
            )

        @Visiting
        def wrong(block):
            raise ZeroDivisionError("in a visit")

        with pytest.raises(ZeroDivisionError):
            engine.total(wrong, Watched(source, mischief))
        assert pair.run_on_scheduler(ours)
    until(lambda: not pair.run_on_scheduler(ours))


def test_progress_shows_each_worker_and_history_what_it_did(pair, source):
    pair.run(set_tick, 0.05)
    seen, end = [], threading.Event()
    with engine_of(pair) as engine:

        def look():
            while not end.wait(0.05):
                seen.append({name: done.rows for name, done in engine.ongoing.done.items()})

        thread = threading.Thread(target=look)
        thread.start()
        result = train(
            Watched(source, Slow(0.03)), engine, Settings(tol=1e-3, max_iter=1, solver="lbfgs")
        )
        end.set()
        thread.join()
    names = set(result.history[0].work)
    assert len(names) == 2
    for name in names:
        rows = [one.get(name, 0) for one in seen]
        assert len({n for n in rows if 0 < n < N / 2}) > 4  # it was seen to grow
    for record in result.history:
        work = record.as_dict()["work"]
        assert sum(one["rows"] for one in work.values()) == N
        assert all(one["seconds"] > 0 and one["kept"] == 1.0 for one in work.values())


def set_tick(seconds):
    from dsoftmax.engines.cluster import reports

    reports.TICK = seconds
