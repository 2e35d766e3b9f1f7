"""Passes on a dask cluster: the number of tasks, blocks that stay where they are, and errors."""

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from opening import opened
from visits import Visiting

from dsoftmax.data.block import Block
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share
from dsoftmax.data.table import Names
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.cluster.tree import FAN_IN
from dsoftmax.engines.cluster.worker import CachedShare
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import DataError, MemoryLimitError
from dsoftmax.training.loop import Settings, train

SETTINGS = Settings(C=1.0, tol=1e-5, solver="lbfgs")


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

    def submitted(dask_scheduler: Any = None) -> int:
        return sum(1 for key in dask_scheduler.seen if str(key).startswith("dsoftmax"))

    def watch(dask_scheduler: Any = None) -> None:
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
                    dask_scheduler.seen.add(key)

        dask_scheduler.seen = set()
        dask_scheduler.add_plugin(Count(), name=str(id(dask_scheduler.seen)))

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


def test_cached_blocks_of_one_source_are_not_used_for_another(
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
        assert busy.cache.n_bytes > 0  # `busy` refers to it, as a visit would that nobody waits for
        found = engine.total(total, second)
        assert not found.work["0"].cached_bytes
        np.testing.assert_array_equal(
            found.result()["sum"], SerialEngine().total(total, second).result()["sum"]
        )
        engine.close()


def test_persisted_blocks_are_not_computed_again(two_workers: ClusterEngine) -> None:
    def once(block: np.ndarray, block_info: object = None) -> np.ndarray:
        from distributed import get_worker

        worker = get_worker()
        worker.times = getattr(worker, "times", 0) + 1
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


def test_a_driver_that_exceeds_its_limit_is_refused_before_the_first_task(
    two_workers: ClusterEngine, store: zarr.Group
) -> None:
    engine = ClusterEngine(two_workers.client, driver_limit=process_bytes() - 1)
    words = (
        r"The process that drives the workers may use [\d,]+ MiB of the memory allowed\. "
        r"It takes .* solver's vectors take 0 MiB\. Allow more, start fewer"
    )
    with pytest.raises(MemoryLimitError, match=words):
        train(opened(store["X"], store["y"]), engine, SETTINGS)
    assert engine.n_tasks == 0
    engine.driver_limit = process_bytes() + 3 * 2**20
    engine.reserve(3 * 2**20)
    with pytest.raises(MemoryLimitError, match="solver's vectors take 4 MiB"):
        engine.reserve(4 * 2**20)
