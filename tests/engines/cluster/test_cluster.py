"""Passes on a dask cluster: the same bits as one core, whatever the workers, and a count of tasks that chunks do not raise."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import zarr
from distributed import Client, LocalCluster
from opening import opened
from visits import Visiting

from dsoftmax.data.block import Block, Names
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share
from dsoftmax.engines.choose import make_engine
from dsoftmax.engines.cluster import tree
from dsoftmax.engines.cluster.connect import connected, local_cluster
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.cluster.tree import FAN_IN
from dsoftmax.engines.cluster.worker import CachedShare
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import ClusterError, DataError, MemoryLimitError, OptionError
from dsoftmax.solvers.lbfgs.solver import LBFGS
from dsoftmax.solvers.protocol import Answer
from dsoftmax.sums.totals import Rounded
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import Settings, train
from dsoftmax.training.record import Record
from dsoftmax.training.result import Result, Trained
from dsoftmax.training.run import Run

SETTINGS = Settings(C=1.0, tol=1e-5, solver="lbfgs")


def plain_objective(
    theta: np.ndarray, X: np.ndarray, y: np.ndarray, C: float
) -> tuple[float, np.ndarray]:
    """F and ∇F in the textbook way, on the whole array at once."""
    n = len(y)
    Z = X @ theta[:, :-1].T + theta[:, -1]
    Z -= Z.max(axis=1, keepdims=True)
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    Y = np.eye(len(theta))[y]
    value = -np.log(P[np.arange(n), y]).mean() + (theta[:, :-1] ** 2).sum() / (2 * C * n)
    gradient = np.hstack([(P - Y).T @ X, (P - Y).sum(axis=0)[:, None]]) / n
    gradient[:, :-1] += theta[:, :-1] / (C * n)
    return value, gradient


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 7))
    y = (X @ rng.standard_normal((7, 5)) + rng.gumbel(size=(20_000, 5))).argmax(axis=1)
    return X, y


@pytest.fixture(scope="module")
def store(
    arrays: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> zarr.Group:
    X, y = arrays
    group = zarr.create_group(tmp_path_factory.mktemp("cluster") / "rows.zarr")
    # Chunks of 19,000 rows are above the size below which chunks are read together: two chunks, of unlike sizes.
    group.create_array("X", data=X, chunks=(19_000, 3))
    group.create_array("y", data=y, chunks=(7_001,))
    group.create_array("fine", data=np.tile(X, (1, 8)), chunks=(500, 56))
    scene = group.create_array("scene", shape=len(y), dtype=str, chunks=(4_000,))
    scene[:] = np.array(["ash", "béé", "elm", "fir", "oak", "yew"], object)[
        np.arange(len(y)) // 300 % 6
    ]
    group.create_array("other", data=np.tile(-X, (1, 8)), chunks=(500, 56))
    return group


@pytest.fixture(scope="module")
def two_workers() -> Iterator[ClusterEngine]:
    with local_cluster(2) as engine:
        yield engine


def bits(result: Result | Trained) -> tuple[bytes, str, bytes]:
    """The final θ, F and ∇F, to the last bit."""
    state = result.run.state
    return result.model.theta.tobytes(), state.value.hex(), state.gradient.tobytes()


@pytest.fixture(scope="module")
def reference(store: zarr.Group) -> tuple[bytes, str, bytes]:
    return bits(train(opened(store["fine"], store["y"]), SerialEngine(), SETTINGS))


def test_serial_agrees_with_plain_numpy(
    arrays: tuple[np.ndarray, np.ndarray], store: zarr.Group
) -> None:
    X, y = arrays
    result = train(opened(store["X"], store["y"]), SerialEngine(), SETTINGS)
    value, gradient = plain_objective(result.run.state.theta, X, y, SETTINGS.C)
    assert result.converged
    assert result.run.state.value == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(result.run.state.gradient, gradient, atol=1e-10)


def test_the_same_solver_on_plain_numpy_ends_at_the_same_point(
    arrays: tuple[np.ndarray, np.ndarray], store: zarr.Group
) -> None:
    X, y = arrays
    solver = LBFGS()
    start = np.zeros((5, 8))
    start[:, -1] = np.log(np.bincount(y) / len(y))
    start[:, -1] -= start[:, -1].mean()
    state = solver.start(start, Answer(*plain_objective(start, X, y, SETTINGS.C)))
    while np.abs(state.gradient).max() > SETTINGS.tol:
        state, query = solver.ask(state)
        state = solver.tell(state, Answer(*plain_objective(query.theta, X, y, SETTINGS.C)))
    ours = train(opened(store["X"], store["y"]), SerialEngine(), SETTINGS)
    assert state.n_iter == ours.run.state.n_iter > 5
    np.testing.assert_allclose(ours.model.theta, state.theta - state.theta.mean(axis=0), atol=1e-10)


def test_eight_threads_give_the_bits_of_one(
    store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    result = train(opened(store["fine"], store["y"]), ThreadsEngine(8), SETTINGS)
    assert bits(result) == reference


@pytest.mark.parametrize("n_workers", [1, 3])
def test_worker_processes_give_the_bits_of_one_core(
    n_workers: int, store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    with local_cluster(n_workers) as engine:
        result = train(opened(store["fine"], store["y"]), engine, SETTINGS)
    assert bits(result) == reference


def test_two_worker_processes_give_the_bits_of_one_core(
    two_workers: ClusterEngine, store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    assert bits(train(opened(store["fine"], store["y"]), two_workers, SETTINGS)) == reference


def test_a_run_resumed_on_other_workers_ends_with_the_same_bits(
    two_workers: ClusterEngine, store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    runs: list[Sequence[Run]] = []

    def keep(record: Record, run: Sequence[Run]) -> None:
        runs.append(run)

    source = opened(store["fine"], store["y"])
    train(source, SerialEngine(), SETTINGS, watchers=[keep])
    halfway = runs[len(runs) // 2]
    assert bits(train(source, two_workers, SETTINGS, resume=halfway)) == reference
    assert bits(train(source, ThreadsEngine(3), SETTINGS, resume=halfway)) == reference


@pytest.mark.parametrize("stored", ["numpy", "zarr", "dask"])
def test_folds_of_groups_have_the_same_bits_on_workers(
    stored: str, two_workers: ClusterEngine, store: zarr.Group
) -> None:
    words = np.array(["ash", "béé", "elm", "fir", "oak", "yew"])[np.arange(20_000) // 300 % 6]
    groups: object = {
        "numpy": words,
        "zarr": store["scene"],
        "dask": da.from_array(words, chunks=3_000),
    }[stored]
    grid, found = Grid(np.array([0.1, 1.0]), 2), []
    for engine, kept in ((SerialEngine(), words), (two_workers, groups)):
        source = opened(store["fine"], store["y"], groups=kept)
        found.append(train(source, engine, SETTINGS, grid))
    one, two = found
    assert one.log_loss.tobytes() == two.log_loss.tobytes()
    assert [bits(part) for part in one.models] == [bits(part) for part in two.models]


@pytest.mark.parametrize("n_chunks", [8, 10_000])
def test_the_tasks_of_a_pass_do_not_grow_with_the_chunks(
    n_chunks: int, two_workers: ClusterEngine
) -> None:
    class Many(Share):
        """Chunks of one row each."""

        n_features, dtype, sparse, resident, names, columns = (
            1,
            np.dtype(np.float64),
            False,
            True,
            Names(),
            ColumnBytes(row=8),
        )
        chunk_rows = np.ones(n_chunks, np.int64)
        chunk_bytes = np.full(n_chunks, 8)

        def load(self, chunk: int, buffer: object = None) -> Block:
            return Block(np.full((1, 1), float(chunk)), np.array([chunk % 2]), None, chunk)

        def share(self, chunks: object) -> "Many":
            return self

        def smaller_chunks(self, rows: int) -> str:
            return ""

        def needs(self, chunk: int) -> tuple[object, ...]:
            return ()

    def submitted(dask_scheduler: object = None) -> int:
        return sum(1 for key in dask_scheduler.seen if str(key).startswith("dsoftmax"))  # type: ignore[attr-defined]

    def watch(dask_scheduler: object = None) -> None:
        from distributed.diagnostics.plugin import SchedulerPlugin

        class Count(SchedulerPlugin):
            def transition(
                self, key: object, start: str, finish: str, *args: object, **kwargs: object
            ) -> None:
                if start == "released" and finish in (
                    "waiting",
                    "processing",
                    "queued",
                    "no-worker",
                ):
                    dask_scheduler.seen.add(key)  # type: ignore[attr-defined]

        dask_scheduler.seen = set()  # type: ignore[attr-defined]
        dask_scheduler.add_plugin(Count(), name=str(id(dask_scheduler.seen)))  # type: ignore[attr-defined]

    @Visiting
    def count(block: Block) -> dict[str, object]:
        return {"rows": block.n_rows, "even": int(np.sum(block.y == 0))}

    source = Many()
    client = two_workers.client
    two_workers.total(count, source)  # gives the workers their shares
    client.run_on_scheduler(watch)
    before = two_workers.n_tasks
    totals = two_workers.total(count, source)
    n_workers = 2
    tree = 1 + n_workers // FAN_IN
    assert totals.n_rows == n_chunks
    assert totals.result() == {"rows": n_chunks, "even": n_chunks // 2}
    assert 0 < client.run_on_scheduler(submitted) <= 4 * n_workers + tree
    assert two_workers.n_tasks - before == client.run_on_scheduler(submitted)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_large_sums_come_to_the_driver_rounded(
    n_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @Visiting
    def total(block: Block) -> dict[str, object]:
        return {"sum": block.X.sum(axis=0) / 3, "rows": block.n_rows}

    source = opened(np.random.default_rng(0).standard_normal((9_000, 4)), np.zeros(9_000, int))
    monkeypatch.setattr(tree, "DIRECT_BYTES", -1)
    with local_cluster(n_workers) as engine:
        totals = engine.total(total, source)
    assert type(totals.parts["sum"]) is Rounded
    assert totals.n_rows == 9_000
    expected = SerialEngine().total(total, source).result()
    assert totals.result()["sum"].tobytes() == expected["sum"].tobytes()
    assert totals.result()["rows"] == expected["rows"]


def test_what_a_worker_still_keeps_of_one_source_is_not_taken_for_another(
    store: zarr.Group,
) -> None:
    @Visiting
    def total(block: Block) -> dict[str, object]:
        return {"sum": block.X.sum(axis=0)}

    first, second = (opened(store[name], store["y"]) for name in ("fine", "other"))
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "memory_limit": 0}
    with LocalCluster(**options, dashboard_address=":0") as cluster, Client(cluster) as client:
        engine = ClusterEngine(client)
        engine.total(total, first)
        (busy,) = [
            value for value in cluster.workers[0].data.values() if isinstance(value, CachedShare)
        ]
        assert busy.cache.n_bytes > 0  # held as by a visit that nobody waits for any more
        found = engine.total(total, second)
        assert not found.work["0"].cached_bytes
        np.testing.assert_array_equal(
            found.result()["sum"], SerialEngine().total(total, second).result()["sum"]
        )
        engine.close()


@pytest.mark.parametrize("stored", [np.asarray, scipy.sparse.csr_array])
def test_arrays_in_memory_travel_to_the_workers_once(
    stored: Callable[[np.ndarray], object],
    two_workers: ClusterEngine,
    arrays: tuple[np.ndarray, np.ndarray],
) -> None:
    X, y = stored(arrays[0]), arrays[1]
    there = train(opened(X, y), two_workers, SETTINGS).model.theta
    here = train(opened(X, y), SerialEngine(), SETTINGS).model.theta
    assert there.tobytes() == here.tobytes()


@pytest.mark.parametrize("kind", ["lazy", "persisted", "made from persisted"])
def test_dask_arrays_train_where_they_are(
    kind: str, two_workers: ClusterEngine, store: zarr.Group, arrays: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = (
        da.from_zarr(store["fine"], chunks=(3_000, 56)),
        da.from_zarr(store["y"], chunks=(4_000,)),
    )
    if kind != "lazy":
        X, y = X.persist(), y.persist()
    if kind == "made from persisted":
        X = X * 1
    there = train(opened(X, y), two_workers, SETTINGS).model.theta
    here = train(
        opened(np.tile(arrays[0], (1, 8)), arrays[1]), SerialEngine(), SETTINGS
    ).model.theta
    np.testing.assert_allclose(
        there, here, atol=1e-6
    )  # other chunks, other leaves: equal to rounding


def test_persisted_blocks_are_not_computed_again(two_workers: ClusterEngine) -> None:
    def once(block: np.ndarray, block_info: object = None) -> np.ndarray:
        from distributed import get_worker

        worker = get_worker()
        worker.times = getattr(worker, "times", 0) + 1  # type: ignore[attr-defined]
        return block

    def times(dask_worker: object = None) -> int:
        return getattr(dask_worker, "times", 0)

    rng = np.random.default_rng(0)
    X = (
        da.from_array(rng.standard_normal((400, 3)), chunks=(100, 3))
        .map_blocks(once, meta=np.empty((0, 0)))
        .persist()
    )
    y = rng.integers(0, 2, 400)
    result = train(opened(X, y), two_workers, SETTINGS)
    assert result.run.n_passes > 2
    assert sum(two_workers.client.run(times).values()) == 4


def test_an_error_in_the_data_comes_back_as_it_was_raised(two_workers: ClusterEngine) -> None:
    X = np.zeros((50_000, 12))
    X[40_123, 3] = np.nan
    with pytest.raises(DataError, match=r"X row 40,123, column 3: the value is nan"):
        train(opened(X, np.arange(50_000) % 3), two_workers, SETTINGS)


def test_a_driver_without_room_is_refused_before_the_first_task(
    two_workers: ClusterEngine, store: zarr.Group
) -> None:
    engine = ClusterEngine(two_workers.client, driver_limit=process_bytes() - 1)
    words = r"The process that drives the workers may use [\d,]+ MiB of the memory allowed\. It takes .* solver's vectors take 0 MiB\. Allow more, start fewer"
    with pytest.raises(MemoryLimitError, match=words):
        train(opened(store["X"], store["y"]), engine, SETTINGS)
    assert engine.n_tasks == 0
    engine.driver_limit = process_bytes() + 3 * 2**20
    engine.reserve(3 * 2**20)
    with pytest.raises(MemoryLimitError, match="solver's vectors take 4 MiB"):
        engine.reserve(4 * 2**20)


def test_a_cluster_without_workers_is_an_error_in_limited_time(store: zarr.Group) -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", processes=False) as cluster,
        Client(cluster) as client,
    ):
        started = time.monotonic()
        with pytest.raises(ClusterError, match="has had no worker for 1 s"):
            train(opened(store["X"], store["y"]), ClusterEngine(client, timeout=1.0), SETTINGS)
        assert time.monotonic() - started < 20


def test_a_scheduler_that_does_not_answer_is_an_error_in_limited_time() -> None:
    started = time.monotonic()
    with (
        pytest.raises(
            ClusterError, match=r"No dask scheduler answered at tcp://127\.0\.0\.1:9 within 2 s"
        ),
        connected("tcp://127.0.0.1:9", None, timeout=2),
    ):
        pass
    assert time.monotonic() - started < 20
    with (
        pytest.raises(ClusterError, match="There is no scheduler file"),
        connected(None, "no-such-file.json"),
    ):
        pass


@pytest.mark.parametrize("without", ["scheduler", "worker"])
def test_a_cluster_without_dsoftmax_is_an_error_that_says_so(
    without: str, store: zarr.Group, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    hidden = "import sys; sys.modules['dsoftmax'] = None; from dask.cli import run_cli; run_cli()"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    processes = []
    for name, options in (
        ("scheduler", ["--port", "0"]),
        ("worker", ["--no-nanny", "--nthreads", "1"]),
    ):
        start = ["-c", hidden] if name == without else ["-m", "dask"]
        command = [sys.executable, *start, name, *common, *options]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with connected(None, str(file), timeout=30) as engine:
            engine.client.wait_for_workers(1, timeout=60)
            with pytest.raises(ClusterError, match="Install the same version"):
                train(opened(store["fine"], store["y"]), engine, SETTINGS)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_worker_with_another_version_is_refused(
    two_workers: ClusterEngine, store: zarr.Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsoftmax.engines.cluster.versions.__version__", "0.0.0")
    engine = ClusterEngine(two_workers.client)
    with pytest.raises(
        ClusterError, match=r"dsoftmax 0\.0\.0 runs here, and not at the worker at tcp"
    ):
        train(opened(store["fine"], store["y"]), engine, SETTINGS)


def test_the_engine_option_finds_the_active_client(two_workers: ClusterEngine) -> None:
    assert isinstance(make_engine("auto"), ClusterEngine)
    assert isinstance(make_engine(two_workers.client), ClusterEngine)
    with pytest.raises(OptionError, match=r"Did you mean 'threads'\?"):
        make_engine("thread")


def test_a_fit_inside_a_task_does_not_wait_for_the_worker_that_runs_it() -> None:
    def fit(engine: str) -> str:
        from distributed import get_client

        get_client()  # as joblib's dask backend does
        X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
        made = make_engine(engine)
        train(opened(X, y), made, SETTINGS)
        return type(made).__name__

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(fit, "auto").result(timeout=60) == "ThreadsEngine"
        with pytest.raises(OptionError, match="inside a task of a dask worker"):
            client.submit(fit, "cluster").result(timeout=60)
