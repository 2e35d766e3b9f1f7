"""Workers and schedulers that die, freeze, pause, come late or are slow: the bits of one core, or an error in limited time."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster, Status, get_worker
from opening import opened
from outcomes import MEASURED, outcome
from visits import Visiting

import dsoftmax
from dsoftmax.cli.program import main
from dsoftmax.data.block import Block, Names
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share
from dsoftmax.engines.cluster import deal, dispatch, waiting
from dsoftmax.engines.cluster import engine as cluster_module
from dsoftmax.engines.cluster.connect import connected
from dsoftmax.engines.cluster.dispatch import QUEUED
from dsoftmax.engines.cluster.engine import ATTEMPTS, ClusterEngine
from dsoftmax.engines.cluster.tree import FAN_IN
from dsoftmax.engines.cluster.worker import merge as plain_merge
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import ClusterError, ReadError
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
    pytest.mark.timeout(100),
]

N, P, K, ROWS = 24_000, 6, 4, 500
SETTINGS = Settings(tol=1e-3, solver="lbfgs")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short limits, and shares that are cut however small they are."""
    limits = {
        dispatch: {"PATIENCE_SECONDS": 1.0},
        waiting: {"SILENT_SECONDS": 2.5, "WAIT_SECONDS": 0.2, "STALL_SECONDS": 40.0},
        deal: {"CUT_SECONDS": 0.0, "CUT_BYTES": 1},
    }
    for module, values in limits.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "rows.zarr"
    rng = np.random.default_rng(3)
    X = rng.standard_normal((N, P))
    y = (X @ rng.standard_normal((P, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)
    group = zarr.create_group(path)
    group.create_array("X", data=X, chunks=(ROWS, P))
    group.create_array("y", data=y, chunks=(ROWS,))
    return path


@pytest.fixture(scope="module")
def source(folder):
    """Of 48 chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
        source = opened(
            zarr.open_array(folder / "X", mode="r"), zarr.open_array(folder / "y", mode="r")
        )
    assert len(source.chunk_rows) == N // ROWS
    return source


def bits(result):
    """θ, F and ∇F to the last bit, and all of history that is not measured."""
    state = result.run.state
    history = [
        {name: value for name, value in record.as_dict().items() if name not in MEASURED}
        for record in result.history
    ]
    return result.model.theta.tobytes(), state.value.hex(), state.gradient.tobytes(), history


@pytest.fixture(scope="module")
def undisturbed(source):
    result = train(source, SerialEngine(), SETTINGS)
    assert len(result.history) > 6
    return bits(result)


@contextmanager
def workers(n, **options):
    """Hold worker processes of one thread each, and a client."""
    defaults = {"threads_per_worker": 1, "processes": True, "memory_limit": 0}
    quiet = {"dashboard_address": ":0", "silence_logs": 60}
    # So long after a worker was lost dask closes its nanny for good, if it then finds the worker lost again.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with (
        patient,
        LocalCluster(n_workers=n, **{**defaults, **options}, **quiet) as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


class Pair:
    """Two workers for many tests; new ones where a test left them in a state from which nannies do not restart them."""

    def __init__(self):
        self.stack, self.client = ExitStack(), None

    def is_whole(self, seconds):
        deadline = time.monotonic() + seconds
        while self.client is not None and time.monotonic() < deadline:
            found = self.client.scheduler_info(n_workers=-1)["workers"].values()
            if sum(one["status"] == "running" for one in found) == 2:
                return True
            time.sleep(0.1)
        return False

    def renew(self):
        self.stack.close()
        _, self.client = self.stack.enter_context(workers(2))


@pytest.fixture(scope="module")
def shared():
    found = Pair()
    with found.stack:
        yield found


@pytest.fixture
def pair(shared):
    """A client of two workers that are alive and run."""
    if not shared.is_whole(seconds=6):
        shared.renew()
    return shared.client


@contextmanager
def engine_of(client, **options):
    engine = ClusterEngine(client, **{"timeout": 20.0, **options})
    try:
        yield engine
    finally:
        engine.close()


# Mischief


@dataclass(frozen=True)
class Mischief:
    """Happens once, to the first process that comes by after it was armed."""

    place: Path
    act: str

    def arm(self, *_):
        (self.place / "armed").touch()

    @property
    def pid(self):
        """Of the process that it happened to, 0 before it did."""
        done = self.place / "done"
        return int(done.read_text() or 0) if done.exists() else 0

    def __call__(self, *_):
        if not (self.place / "armed").exists():
            return
        try:
            with (self.place / "done").open("x") as done:
                done.write(str(os.getpid()))
        except FileExistsError:
            return
        if self.act == "fail":
            raise ReadError("X is out of reach for a moment")
        if self.act == "pause":
            worker = Client._get_global_client() or get_worker()
            worker.loop.add_callback(setattr, worker, "status", Status.paused)
        else:
            os.kill(os.getpid(), getattr(signal, self.act))


@dataclass(frozen=True)
class Slow:
    """Some processes take longer to load a chunk."""

    seconds: float
    pid: int = 0

    def __call__(self, chunk):
        if self.pid in (0, os.getpid()):
            time.sleep(self.seconds)


@dataclass(frozen=True)
class Log:
    """Takes down which process loads which chunk."""

    place: Path

    def __call__(self, chunk):
        with (self.place / "loads").open("a") as file:
            file.write(f"{os.getpid()} {chunk}\n")

    def take(self):
        """Return the (process, chunk) since the last time."""
        file = self.place / "loads"
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        file.unlink(missing_ok=True)
        return [tuple(map(int, line.split())) for line in lines]


@dataclass(frozen=True)
class Watched:
    """A source, or a share of it, with something that happens before a load; one that is ``resident`` loads in every pass."""

    inner: Any
    before: Any
    resident: bool = True

    def load(self, chunk, buffer=None):
        self.before(chunk)
        return self.inner.load(chunk, buffer)

    def share(self, chunks):
        return Watched(self.inner.share(chunks), self.before, self.resident)

    def __getattr__(self, name):
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


@dataclass(frozen=True)
class Visited:
    """A visit with something that happens before it."""

    inner: Any
    before: Any

    def __call__(self, block):
        self.before()
        return self.inner(block)

    def footprint(self, n_features, sparse):
        return self.inner.footprint(n_features, sparse)


def at_pass(number, act):
    """Return a watcher that acts when the pass before this one has ended."""
    return lambda record, run: act() if record.pass_ == number - 1 else None


def in_merge(mischief, parts, last):
    mischief()
    return plain_merge(parts, last)


# Workers that die


@pytest.mark.parametrize("pass_", [1, 4])
@pytest.mark.parametrize("where", ["reading", "computing", "merging", "gathering"])
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


# Workers that do not answer


def test_a_frozen_worker_is_left_out_until_it_goes_on(
    pair, source, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        cluster_module, "INLINE_BYTES", 0
    )  # the point is a task's result, which the frozen worker may have
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
    until(lambda: not pair.run_on_scheduler(ours))  # nor is what the worker had before


def paused(pause, dask_worker=None):
    dask_worker.status = Status.paused if pause else Status.running


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


# Schedulers


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextmanager
def own_scheduler(place, n_workers):
    """Hold a scheduler, and workers, that are processes of their own; yield the scheduler and its file."""
    place.mkdir()
    file = place / "scheduler.json"
    path = os.pathsep.join([str(Path(dsoftmax.__file__).parents[1]), str(HERE)])
    options = {**QUIET, "cwd": place, "env": {**os.environ, "PYTHONPATH": path}}
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    processes = [
        subprocess.Popen(
            [*dask, "scheduler", "--port", "0", "--host", "127.0.0.1", *common], **options
        )
    ]
    for _ in range(n_workers):
        processes.append(
            subprocess.Popen([*dask, "worker", "--no-nanny", "--nthreads", "1", *common], **options)
        )
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield processes[0], file
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


TRAIN = (
    "train",
    "rows.zarr",
    "--features",
    "X",
    "--labels",
    "y",
    "--solver",
    "gradient-descent",
    "--tol",
    "0",
)
TRAIN = (*TRAIN, "--max-iter", "20", "--out")


def test_a_command_whose_scheduler_is_killed_says_how_to_go_on_and_ends_with_the_same_bits(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.zarr").symlink_to(folder)
    monkeypatch.setattr(
        "dsoftmax.engines.cluster.connect.ClusterEngine", partial(ClusterEngine, timeout=3.0)
    )
    assert CliRunner().invoke(main, [*TRAIN, "whole", "--engine", "serial"]).exit_code == 3
    killed = []

    def kill(scheduler):
        history = Path("run/history.jsonl")
        while not history.exists() or history.read_text().count("\n") < 5:
            time.sleep(0.01)
        scheduler.kill()
        killed.append(time.monotonic())

    with own_scheduler(tmp_path / "first", 2) as (scheduler, file):
        thread = threading.Thread(target=kill, args=[scheduler], daemon=True)
        thread.start()
        result = CliRunner().invoke(main, [*TRAIN, "run", "--scheduler-file", str(file)])
        assert time.monotonic() - killed[0] < 15
    assert result.exit_code == 1, result.output
    assert "run the same command" in result.stderr
    assert "Traceback" not in result.output
    assert 5 <= Path("run/history.jsonl").read_text().count("\n") < 20
    with own_scheduler(tmp_path / "second", 1) as (_, file):
        result = CliRunner().invoke(main, [*TRAIN, "run", "--scheduler-file", str(file)])
    assert result.exit_code == 3, result.output
    assert outcome("run") == outcome("whole")


def test_a_frozen_scheduler_is_an_error_in_limited_time(source, tmp_path):
    with (
        own_scheduler(tmp_path / "frozen", 1) as (scheduler, file),
        connected(None, str(file)) as engine,
    ):
        engine.waiting.timeout = 2.0
        moments = []

        def freeze():
            scheduler.send_signal(signal.SIGSTOP)
            moments.append(time.monotonic())

        try:
            with pytest.raises(ClusterError, match=r"limit: 2 s.*run the same command"):
                train(source, engine, SETTINGS, watchers=[at_pass(3, freeze)])
            assert time.monotonic() - moments[0] < 10
        finally:
            scheduler.send_signal(signal.SIGCONT)


# Chunks that cannot be read


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


# Slow workers


@Visiting
def rows_and_sum(block):
    return {"rows": block.n_rows, "sum": block.X.sum(axis=0)}


def test_pieces_of_a_slow_worker_are_taken_by_the_other(pair, source, tmp_path):
    pids = {
        info["name"]: pid
        for pid, info in zip(pair.run(os.getpid).values(), _infos(pair), strict=True)
    }
    slow, seconds = sorted(pids)[0], 0.06
    log = Log(tmp_path)

    def before(chunk, wait=Slow(seconds, pids[slow])):
        log(chunk)
        wait(chunk)

    expected = SerialEngine().total(rows_and_sum, source)
    firsts = []
    with engine_of(pair) as engine:
        engine.total(rows_and_sum, source)  # the workers' imports are not what is timed
        cut = engine._cut

        def noted(*args):
            pieces = cut(*args)
            address = engine.placement._placed[str(slow)].hand.address
            firsts.append(next(own[0].n_rows for own in pieces if own[0].owner == address))
            return pieces

        engine._cut = noted
        seen = Watched(source, before)
        for _ in range(2):
            stolen, started = engine.n_stolen, time.monotonic()
            totals = engine.total(rows_and_sum, seen)
            wall = time.monotonic() - started
            share = len(engine.placement._placed[str(slow)].hand.chunks)
            assert engine.n_stolen > stolen
            assert wall < 0.8 * share * seconds
            assert totals.n_rows == sum(done.rows for done in totals.work.values()) == N
            assert totals.result()["sum"].tobytes() == expected.result()["sum"].tobytes()
            assert {chunk for _, chunk in log.take()} == set(range(N // ROWS))
        assert firsts[1] < 0.6 * firsts[0]
        assert totals.work[str(slow)].rows <= ROWS * share / 2


def _infos(client):
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [workers[address] for address in client.run(os.getpid)]


def test_of_two_workers_at_one_piece_the_first_counts_and_never_both(
    pair, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        deal, "CUT_BYTES", 2**40
    )  # one piece a worker, so that nothing can be stolen
    pids = {
        info["name"]: pid
        for pid, info in zip(pair.run(os.getpid).values(), _infos(pair), strict=True)
    }
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
        assert wall < 0.5 * 0.4 * len(engine.placement._placed[str(slow)].hand.chunks)
        # Nobody waits for the slow one any more: it stops, and has a share of the next pass.
        deadline = time.monotonic() + 5
        while any(pair.processing().values()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_two_answers_in_the_same_wait_count_once(pair, source, monkeypatch):
    monkeypatch.setattr(dispatch, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(
        dispatch, "PATIENCE", 1e-9
    )  # every idle worker is given what runs elsewhere
    expected = SerialEngine().total(rows_and_sum, source).result()["sum"].tobytes()
    with engine_of(pair) as engine:
        waited = engine.waiting.once

        def late(*args, **options):
            waited(*args, **options)
            time.sleep(0.05)

        engine.waiting.once = late
        for _ in range(8):
            totals = engine.total(rows_and_sum, source)
            assert totals.n_rows == N
            assert totals.result()["sum"].tobytes() == expected
        assert engine.n_stolen > 0


def test_a_twin_that_fails_leaves_the_piece_to_the_other(pair, source, tmp_path, monkeypatch):
    monkeypatch.setattr(deal, "CUT_BYTES", 2**40)
    pids = {
        info["name"]: pid
        for pid, info in zip(pair.run(os.getpid).values(), _infos(pair), strict=True)
    }
    slow, _ = sorted(pids)
    wait = Slow(0.1, pids[slow])

    def lost_on_fast(parts, *args, **options):
        from concurrent.futures import CancelledError

        raise CancelledError("as of a connection that is gone")

    monkeypatch.setattr(cluster_module, "visit_lent", lost_on_fast)
    with engine_of(pair, timeout=2.0) as engine:
        totals = engine.total(rows_and_sum, Watched(source, wait))
        assert engine.n_stolen >= 1
        assert engine.n_attempts == 1
        assert totals.n_rows == N


# Blocks that are kept


def kept_bytes():
    """What is held; a task that was cancelled while it ran may leave a cycle behind, which is not."""
    import gc

    from dsoftmax.engines.cluster import worker

    gc.collect()
    return sum(cache.n_bytes for home in worker._homes.values() for cache in home.caches.values())


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def chunks_of(engine):
    return {name: set(one.hand.chunks.tolist()) for name, one in engine.placement._placed.items()}


def test_what_is_kept_is_not_read_again_and_goes_with_its_engine(pair, source, tmp_path):
    log = Log(tmp_path)
    seen = Watched(source, log, resident=False)
    with engine_of(pair) as engine:
        first = engine.total(rows_and_sum, seen)
        log.take()
        # A piece that was stolen in the first pass is not with its owner yet.
        engine.total(rows_and_sum, seen)
        log.take()
        totals = engine.total(rows_and_sum, seen)
        assert len(log.take()) <= 4
        assert sum(done.cached_bytes for done in totals.work.values()) >= 0.9 * totals.n_bytes
        assert totals.result()["sum"].tobytes() == first.result()["sum"].tobytes()
        assert sum(pair.run(kept_bytes).values()) > 0
        other = Watched(source, Slow(0.0))
        engine.total(rows_and_sum, other)
        until(lambda: sum(pair.run(kept_bytes).values()) == 0)
        engine.total(rows_and_sum, seen)
        assert sum(pair.run(kept_bytes).values()) > 0
    until(lambda: sum(pair.run(kept_bytes).values()) == 0)


def test_survivors_keep_the_blocks_that_stay_theirs(source, tmp_path, monkeypatch):
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
        # One is killed in a pass: its share is recomputed by the others, whose own blocks stay.
        victim = sorted(after)[-1]
        pid = client.run(
            os.getpid, workers=[engine.placement._placed[victim].hand.address]
        ).popitem()[1]
        mischief = Mischief(tmp_path, "SIGKILL")
        mischief.arm()
        total = engine.total(Visited(rows_and_sum, partial(die_as, mischief, pid)), seen)
        assert total.n_rows == N
        assert {chunk for _, chunk in log.take()} <= after[victim]
        client.wait_for_workers(3, timeout=30)
        engine.total(rows_and_sum, seen)
        assert {chunk for _, chunk in log.take()} <= after[victim]


def die_as(mischief, pid):
    if os.getpid() == pid:
        mischief()


class Wide(Share):
    """A source whose blocks fill the memory allowed: 30 of 8 MiB."""

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


def test_blocks_that_another_run_keeps_make_room_and_the_limit_holds():
    limit = 640 * 2**20
    with (
        workers(1, memory_limit=limit) as (_, client),
        engine_of(client) as first,
        engine_of(client) as second,
    ):
        for _ in range(2):
            peak = first.total(Visiting(count_rows), Wide()).work["0"].peak
        held = client.run(kept_bytes).popitem()[1]
        assert held > 50 * 2**20
        totals = second.total(Visiting(count_rows, Footprint(scratch=90 * 2**20)), Wide())
        assert totals.n_rows == 30 * 1024
        assert client.run(kept_bytes).popitem()[1] < held
        assert max(peak, totals.work["0"].peak) < 0.7 * limit  # where dask would begin to spill


# What the scheduler and the watchers see


def ours(dask_scheduler=None):
    return [key for key in dask_scheduler.tasks if str(key).startswith("dsoftmax")]


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


# Chaos


CHAOS_SECONDS = float(os.environ.get("DSOFTMAX_CHAOS_SECONDS", "120"))


KILLS_A_PASS = ATTEMPTS - 2
"""However slowly workers start on a busy machine, so many in one pass cannot use up its attempts."""


def kill_at_random(cluster, engine, rng, every, most, end, kills):
    in_pass = Counter()
    while not end.wait(rng.uniform(*every)) and len(kills) < most:
        # A nanny gives up for good when its worker dies before it has begun, and then nobody is left to be killed.
        nannies = [one for one in list(cluster.workers.values()) if one.process is not None]
        alive = [one.pid for one in nannies if one.status == one.process.status == Status.running]
        number = engine.ongoing.number
        if alive and in_pass[number] < KILLS_A_PASS:
            in_pass[number] += 1
            kills.append(rng.choice(alive))
            os.kill(kills[-1], signal.SIGKILL)


def train_among_kills(cluster, client, source, seed, every, most):
    """Train while workers are killed, ``most`` of them at most; return the result and who was."""
    rng, end, kills = random.Random(seed), threading.Event(), []
    with engine_of(client, timeout=60.0) as engine:
        killer = threading.Thread(
            target=kill_at_random, args=[cluster, engine, rng, every, most, end, kills]
        )
        killer.start()
        try:
            seen = Watched(source, Slow(rng.choice([0.002, 0.01, 0.02])), rng.random() < 0.7)
            return train(seen, engine, SETTINGS), kills
        finally:
            end.set()
            killer.join()


@pytest.mark.parametrize("seed", [1])
def test_workers_killed_at_random_change_no_bit(seed, source, undisturbed):
    with workers(3) as (cluster, client):
        result, kills = train_among_kills(cluster, client, source, seed, (0.5, 2.0), most=6)
    assert bits(result) == undisturbed
    assert kills


@pytest.mark.chaos
@pytest.mark.timeout(CHAOS_SECONDS + 300)
def test_workers_killed_for_minutes_change_no_bit(source, undisturbed, record_property):
    deadline = time.monotonic() + CHAOS_SECONDS
    runs = n_kills = 0
    with workers(3) as (cluster, client):
        while time.monotonic() < deadline:
            result, kills = train_among_kills(cluster, client, source, runs, (0.3, 4.0), most=20)
            print(f"seed {runs}: {len(kills)} killed", flush=True)
            assert bits(result) == undisturbed
            runs, n_kills = runs + 1, n_kills + len(kills)
    print(f"{runs} runs, {n_kills} workers killed, all bits equal")
    record_property("runs", runs)
    record_property("kills", n_kills)
