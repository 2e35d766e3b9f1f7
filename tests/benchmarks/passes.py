"""Whole passes beside the kernel alone, textbook NumPy and scikit-learn, for every shape.

    python tests/benchmarks/passes.py [MiB decoded per shape] [words of names, such as "(12, 8)"]

A pass takes seconds with 2,048 MiB and more, and tenths of a second with the default of 256 MiB.

For each shape the same rows are visited in several ways, which take turns:

* "kernel": the kernel on blocks in memory, one thread. Its share of the roofline is that of
  ``kernels.py``.
* "kernel, bare threads": a thread for each core, each with its slice of the leaves in memory, and
  no engine.
* "threads, cached": a pass of this process's threads, with all blocks cached.
* "Zarr, bare threads": a thread for each core that loads a chunk and computes on it, and no
  engine.
* "threads, Zarr": a pass over compressed Zarr (lz4), nothing cached, page cache warm.
* "2 processes": a pass of a dask cluster of two worker processes over the same store, blocks
  cached.
* "textbook" and "scikit-learn": the whole block on one thread.

"Of the cores" is the time of the pass's work, spread evenly over the cores, over the time of the
pass. The work is the kernel's seconds, and for "Zarr" also the CPU seconds of reading and
decoding, measured alone. 1 is perfect. The goals are 1/1.1 from the cache and 1/1.2 from Zarr.
"Of bare threads" compares a pass with the same cores without an engine, which share their caches,
their memory and their power. CSR is in dask blocks in memory, so nothing is decoded.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import zarr
from kernels import Problem, measure, problems
from machine import interleaved, rates
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits
from zarr.codecs import BloscCodec

from dsoftmax.data.block import Block
from dsoftmax.data.open import open_source
from dsoftmax.data.source import Source
from dsoftmax.data.table import Table as Data
from dsoftmax.engines.base import Engine
from dsoftmax.engines.cluster.connect import local_cluster
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.plan import Plan, needs_of
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.kernels.compiled.availability import available
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query

FLOPS_A_BYTE = 200
"""Most flops for each byte asked for. Shapes with many classes exceed it and get fewer rows."""
CHUNK_BYTES = 8 * 2**20
KERNEL = "fused" if available() else "numpy"


def stored(problem: Problem, folder: Path, n_bytes: int) -> Source:
    """Return about ``n_bytes`` of repeated rows of a problem: compressed Zarr, or CSR in memory."""
    X, y = problem.X, problem.y
    copies = max(n_bytes // problem.bytes, 1)
    if scipy.sparse.issparse(X):
        return open_source(
            Table(scipy.sparse.vstack([X] * copies, format="csr"), np.tile(y, copies))
        )
    group = zarr.create_group(folder / problem.name.replace(" ", "_"))
    n, p = len(X) * copies, X.shape[1]
    step = max(CHUNK_BYTES // (p * X.dtype.itemsize), 1)
    codec = BloscCodec(cname="lz4", clevel=5)
    Z = group.create_array("X", shape=(n, p), dtype=X.dtype, chunks=(step, p), compressors=codec)
    labels = group.create_array(
        "y", shape=(n,), dtype="u2", chunks=(step,), config={"write_empty_chunks": True}
    )
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n)) % len(X)
        Z[start : start + rows.size], labels[start : start + rows.size] = X[rows], y[rows]
    return open_source(Data(Z, labels))


def cpu_of_loading(source: Source) -> float:
    """Return the CPU seconds of loading all chunks in one thread, page cache warm."""
    buffer = np.empty(int(source.chunk_bytes.max()), np.uint8)
    best = np.inf
    for _ in range(2):
        started = time.process_time()
        for chunk in range(len(source.chunk_rows)):
            source.load(chunk, buffer)
        best = min(best, time.process_time() - started)
    return best


def bare(source: Source, evaluate: Evaluate, threads: int, loaded: bool) -> Callable[[], None]:
    """Return the work of a pass on plain threads, each with its part of the chunks.

    Chunks are loaded before if ``loaded``, otherwise by the thread that computes.
    """
    (question,), buffers = evaluate.questions, threading.local()
    theta, dtype = question.query.theta, question.dtype
    chunks = range(len(source.chunk_rows))
    blocks = {chunk: coded(source.load(chunk), evaluate) for chunk in chunks} if loaded else {}

    def part(first: int) -> None:
        if not hasattr(buffers, "one"):
            buffers.one = np.empty(int(source.chunk_bytes.max()), np.uint8)
        for chunk in chunks[first::threads]:
            for leaf, codes in (
                blocks[chunk] if loaded else coded(source.load(chunk, buffers.one), evaluate)
            ):
                KERNELS[KERNEL].value_and_gradient(theta, leaf.X, codes, None, dtype)

    def work() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, range(threads)))

    return work


def coded(block: Block, evaluate: Evaluate) -> list[tuple[Block, NDArray]]:
    """Return the leaves of a block, and the codes of their labels."""
    return [(leaf, evaluate.encoder.codes(leaf)) for leaf in block.leaves()]


def streaming_limit(source: Source, threads: int, evaluate: Evaluate) -> int:
    """Return the least limit with which every thread reads a block ahead: nothing is cached."""
    work = evaluate.footprint(source.n_features, source.sparse)
    needs = needs_of(source, work, threads, None, process=process_bytes())
    return Plan(needs, threads, 2 * threads, threads).projected


def main(n_bytes: int, words: Sequence[str]) -> None:
    least = 0.5
    table = Table(title=f"whole passes, {KERNEL} kernel")
    for name in (
        "shape",
        "way",
        "Mrows/s",
        "GB/s",
        "of the roofline",
        "of the cores",
        "of bare threads",
        "textbook / it",
    ):
        table.add_column(name, justify="left" if name in ("shape", "way") else "right")
    with tempfile.TemporaryDirectory() as folder, local_cluster(2) as cluster:
        with threadpool_limits(1):
            machine = rates(least)
        for problem in problems():
            if words and not any(word in problem.name for word in words):
                continue
            flops_a_byte = problem.flops / problem.bytes
            source = stored(
                problem, Path(folder), int(n_bytes * min(1, FLOPS_A_BYTE / flops_a_byte))
            )
            K = len(problem.theta)
            dtype = np.dtype(np.float32)
            evaluate = Evaluate(
                (Question(Query(problem.theta), None, dtype),), Encoder(np.arange(K)), KERNEL
            )
            kept = ThreadsEngine()
            streaming = ThreadsEngine(
                memory_limit=streaming_limit(source, kept.n_threads, evaluate)
            )
            with threadpool_limits(1):
                figures = measure(problem, machine, least)
            n, n_rows = len(problem.y), int(source.chunk_rows.sum())
            block_seconds = figures.seconds[KERNEL] * n_rows / n
            loading = 0.0 if source.resident else cpu_of_loading(source)
            cores = kept.n_threads
            ways: dict[str, Callable[[], object]] = {
                "kernel, bare threads": bare(source, evaluate, cores, loaded=True)
            }
            ways["threads, cached"] = lambda e=kept, s=source, v=evaluate: e.total(v, s)
            ideal = dict.fromkeys(
                ("kernel, bare threads", "threads, cached"), block_seconds / cores
            )
            best = {
                "threads, cached": "kernel, bare threads",
                "threads, Zarr": "Zarr, bare threads",
            }
            if not source.resident:
                ways["Zarr, bare threads"] = bare(source, evaluate, cores, loaded=False)
                ways["threads, Zarr"] = lambda e=streaming, s=source, v=evaluate: e.total(v, s)
                ideal |= dict.fromkeys(
                    ("Zarr, bare threads", "threads, Zarr"), (block_seconds + loading) / cores
                )
            ways["2 processes"] = lambda e=cluster, s=source, v=evaluate: checked(e, v, s)
            ideal["2 processes"] = block_seconds / 2
            with threadpool_limits(1):
                seconds = {"kernel": block_seconds, **interleaved(ways, least)}
            plain = {
                name: figures.seconds[name] * n_rows / n for name in ("textbook", "scikit-learn")
            }
            for way, taken in {**seconds, **plain}.items():
                share = 1 if way in ("kernel", *plain) else cores
                cells: list[Any] = [n_rows / taken / 1e6, problem.bytes * n_rows / n / taken / 1e9]
                cells.append(figures.roofline * n_rows / n / share / taken)
                cells.append(ideal[way] / taken if way in ideal else np.nan)
                cells.append(seconds[best[way]] / taken if way in best else np.nan)
                cells.append(plain["textbook"] / taken)
                table.add_row(
                    problem.name, way, *("" if np.isnan(cell) else f"{cell:.3g}" for cell in cells)
                )
            table.add_section()
    Console(width=140).print(table)


def checked(engine: Engine, evaluate: Evaluate, source: Source) -> object:
    """Return the totals of a pass that visited every row."""
    totals = engine.total(evaluate, source)
    assert totals.n_rows == int(source.chunk_rows.sum())
    return totals


if __name__ == "__main__":
    main(int(float(sys.argv[1]) * 2**20) if len(sys.argv) > 1 else 256 * 2**20, sys.argv[2:])
