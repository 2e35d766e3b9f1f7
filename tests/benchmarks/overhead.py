"""Overhead of the engine in a pass, against the number of chunks. The kernel does nothing.

    python tests/benchmarks/overhead.py [passes per figure]

Two worker processes visit 10, 1,000 and 100,000 chunks, then 64 workers in this process do. A
chunk has one row, and loading it costs nothing, so only the engine is seen. "Overhead" is the
wall time of a pass minus the longest time that a worker computed (medians). "Planning" is the
overhead of the first pass, which gives every worker its share, minus that of an ordinary pass.
"""

import statistics
import sys
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import cloudpickle
import numpy as np
from distributed import Client, LocalCluster
from rich.console import Console
from rich.table import Table

from dsoftmax.data.block import Block
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share
from dsoftmax.data.table import Names
from dsoftmax.engines.cluster.connect import local_cluster
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.visit import Visit

CHUNKS = (10, 1_000, 100_000)
MANY_WORKERS = 64


class Empty(Share):
    """Chunks of one row that cost nothing to load."""

    n_features, dtype, sparse, resident, names, columns = (
        1,
        np.dtype(np.float64),
        False,
        False,
        Names(),
        ColumnBytes(row=8),
    )

    def __init__(self, n_chunks: int) -> None:
        self.chunk_rows = np.ones(n_chunks, np.int64)
        self.chunk_bytes = np.full(n_chunks, 8, np.int64)

    def load(self, chunk: int, buffer: object = None) -> Block:
        return Block(np.zeros((1, 1)), np.zeros(1, np.int64), None, chunk, self.names)

    def share(self, chunks: Sequence[int]) -> Share:
        return Empty(0)

    def needs(self, chunk: int) -> tuple[Any, ...]:
        return ()

    def smaller_chunks(self, rows: int) -> str:
        return ""

    def describe(self) -> dict[str, Any]:
        return {}


class Nothing(Visit):
    def __call__(self, block: Block) -> dict[str, Any]:
        return {"rows": block.n_rows}


nothing = Nothing()


def measure(engine: ClusterEngine, n_chunks: int, passes: int) -> list[float]:
    """Return the figures of one number of chunks.

    Returns
    -------
    list of float
        Planning (seconds), its memory (bytes), a pass, the workers' own time and the overhead
        (seconds), and tasks a pass.
    """
    source = Empty(n_chunks)
    engine.total(nothing, Empty(10))  # connections and imports do not count as planning
    started = time.perf_counter()
    totals = engine.total(nothing, source)
    first = time.perf_counter() - started - max(done.seconds for done in totals.work.values())
    walls, owns, besides, before = [], [], [], engine.n_tasks
    for _ in range(passes):
        started = time.perf_counter()
        totals = engine.total(nothing, source)
        walls.append(time.perf_counter() - started)
        assert totals.n_rows == n_chunks
        owns.append(max(done.seconds for done in totals.work.values()))
        besides.append(walls[-1] - owns[-1])
    wall, beside = statistics.median(walls), statistics.median(besides)
    tasks = (engine.n_tasks - before) / passes
    tracemalloc.start()  # last, because it would change the times
    engine.total(nothing, Empty(n_chunks))
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return [max(first - beside, 0.0), float(memory), wall, statistics.median(owns), beside, tasks]


def main(passes: int) -> None:
    table = Table(title="a pass over chunks that cost nothing")
    for name in (
        "workers",
        "chunks",
        "planning s",
        "planning MB",
        "pass ms",
        "workers' own ms",
        "overhead ms",
        "tasks a pass",
    ):
        table.add_column(name, justify="right")

    def add(workers: str, n_chunks: int, figures: list[float]) -> None:
        planning, memory, wall, own, beside, tasks = figures
        cells = (planning, memory / 1e6, 1e3 * wall, 1e3 * own, 1e3 * beside, tasks)
        table.add_row(workers, f"{n_chunks:,}", *(f"{cell:.3g}" for cell in cells))

    with local_cluster(2) as engine:
        for n_chunks in CHUNKS:
            add("2 processes", n_chunks, measure(engine, n_chunks, passes))
    with (
        LocalCluster(
            n_workers=MANY_WORKERS,
            threads_per_worker=1,
            processes=False,
            dashboard_address=":0",
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        for n_chunks in CHUNKS[1:]:
            add(
                f"{MANY_WORKERS} in one process",
                n_chunks,
                measure(ClusterEngine(client), n_chunks, passes),
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
