"""Whole passes beside the kernel alone, textbook NumPy and scikit-learn, for every shape, all in one run.

    python tests/benchmarks/passes.py [MiB decoded per shape] [words that the names of the shapes hold, such as "(12, 8)"]

With 2,048 MiB and more a pass takes seconds; with the 256 MiB of the default, tenths of one.

For each shape the same rows are visited in several ways, which take turns:

* "kernel": the kernel on blocks in memory, one thread; its share of the roofline is that of ``kernels.py``;
* "kernel, bare threads": a thread a core, each with its part of the leaves in memory, and no engine at all;
* "threads, kept": a pass of this process's threads whose blocks are all kept in memory;
* "Zarr, bare threads": a thread a core, each of which loads a chunk and then computes on it, and no engine;
* "threads, Zarr": a pass over compressed Zarr (lz4), nothing kept, page cache warm;
* "2 processes": a pass of a dask cluster of two worker processes over the same store, blocks kept;
* "textbook" and "scikit-learn": on the whole block, one thread.

"of the cores" compares a pass with what its work would take if it were spread evenly: the kernel's seconds (and for "Zarr" the
CPU seconds of reading and decoding, measured alone) over the number of cores. 1 is perfect; the goals are 1/1.1 kept and
1/1.2 from Zarr. "of bare threads" compares it with what this machine's cores gave when no engine was there: it is what is left to
the engine where the cores share their caches, their memory and their power, and with whatever else runs. CSR lies in dask
blocks in memory, so there is nothing to decode.
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
"""For each byte that was asked for: shapes with many classes, which do more with a byte, get fewer rows."""
CHUNK_BYTES = 8 * 2**20
KERNEL = "fused" if available() else "numpy"


def stored(problem: Problem, folder: Path, n_bytes: int) -> Source:
    """Return the problem's rows again and again, about ``n_bytes`` of them: in compressed Zarr, or in memory for CSR."""
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
    """CPU seconds of loading all chunks in one thread, page cache warm."""
    buffer = np.empty(int(source.chunk_bytes.max()), np.uint8)
    best = np.inf
    for _ in range(2):
        started = time.process_time()
        for chunk in range(len(source.chunk_rows)):
            source.load(chunk, buffer)
        best = min(best, time.process_time() - started)
    return best


def bare(source: Source, evaluate: Evaluate, threads: int, loaded: bool) -> Callable[[], None]:
    """Return the work of a pass on plain threads, each with its part of the chunks, ``loaded`` before or by the thread itself."""
    (question,), buffers = evaluate.questions, threading.local()
    theta, dtype = question.query.theta, question.dtype
    chunks = range(len(source.chunk_rows))
    held = {chunk: coded(source.load(chunk), evaluate) for chunk in chunks} if loaded else {}

    def part(first: int) -> None:
        if not hasattr(buffers, "one"):
            buffers.one = np.empty(int(source.chunk_bytes.max()), np.uint8)
        for chunk in chunks[first::threads]:
            for leaf, codes in (
                held[chunk] if loaded else coded(source.load(chunk, buffers.one), evaluate)
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
    """The memory that just lets every thread read a block ahead, so that nothing is kept."""
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
            ways["threads, kept"] = lambda e=kept, s=source, v=evaluate: e.total(v, s)
            ideal = dict.fromkeys(("kernel, bare threads", "threads, kept"), block_seconds / cores)
            best = {"threads, kept": "kernel, bare threads", "threads, Zarr": "Zarr, bare threads"}
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
    totals = engine.total(evaluate, source)
    assert totals.n_rows == int(source.chunk_rows.sum())
    return totals


if __name__ == "__main__":
    main(int(float(sys.argv[1]) * 2**20) if len(sys.argv) > 1 else 256 * 2**20, sys.argv[2:])
