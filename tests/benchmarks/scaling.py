"""Whole passes on 1, 2, 4 … threads or processes beside one thread, all in one run.

    python tests/benchmarks/scaling.py [MiB decoded per shape] [words of names, such as "(12, 8)"]

For each shape more and more threads visit the same rows:

* "bare": without an engine.
* "cached": with an engine, all blocks cached.
* "Zarr": from compressed chunks, bare and with the engine, whose readers have threads of their
  own.
* "processes": as many worker processes, which cache their blocks and share all cores.

A figure is the share of the cores that is used: the seconds of one bare thread over the seconds
times the cores. A loss of bare threads is the machine's: the cores share their caches and memory.
The loss of an engine beside bare threads is its own.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from kernels import problems
from machine import interleaved
from passes import FLOPS_A_BYTE, KERNEL, bare, checked, stored, streaming_limit
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from dsoftmax.engines.cluster.connect import local_cluster
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query
from dsoftmax.system.process import available_cores

WAYS = ("bare", "cached", "Zarr, bare", "Zarr", "processes")


def main(n_bytes: int, words: Sequence[str]) -> None:
    most, least = available_cores(), 0.5
    counts = [2**i for i in range(most.bit_length()) if 2**i <= most]
    table = Table(title=f"share of the cores that is used, {KERNEL} kernel")
    for name in ("shape", "cores", "bare, Mrows/s", *WAYS):
        table.add_column(name, justify="left" if name == "shape" else "right")
    with tempfile.TemporaryDirectory() as folder:
        for problem in problems():
            if words and not any(word in problem.name for word in words):
                continue
            source = stored(
                problem,
                Path(folder),
                int(n_bytes * min(1, FLOPS_A_BYTE * problem.bytes / problem.flops)),
            )
            n_rows, one = int(source.chunk_rows.sum()), {}
            question = Question(Query(problem.theta), None, np.dtype(np.float32))
            evaluate = Evaluate((question,), Encoder(np.arange(len(problem.theta))), KERNEL)
            for cores in counts:
                kept = ThreadsEngine(cores)
                works: dict[str, Callable[[], object]] = {
                    "bare": bare(source, evaluate, cores, loaded=True)
                }
                works["cached"] = partial(checked, kept, evaluate, source)
                if not source.resident:
                    streaming = ThreadsEngine(cores, streaming_limit(source, cores, evaluate))
                    works["Zarr, bare"] = bare(source, evaluate, cores, loaded=False)
                    works["Zarr"] = partial(checked, streaming, evaluate, source)
                with threadpool_limits(1), local_cluster(cores) as cluster:
                    works["processes"] = partial(checked, cluster, evaluate, source)
                    seconds = interleaved(works, least)
                one = one or {"bare": seconds["bare"], "Zarr": seconds.get("Zarr, bare", np.nan)}
                used = {"processes": most}
                shares = [
                    one["Zarr" if "Zarr" in way else "bare"]
                    / used.get(way, cores)
                    / seconds.get(way, np.nan)
                    for way in WAYS
                ]
                cells = [f"{cores}", f"{n_rows / seconds['bare'] / 1e6:.3g}"]
                table.add_row(
                    problem.name,
                    *cells,
                    *("" if np.isnan(share) else f"{share:.2f}" for share in shares),
                )
                for engine in (kept, *(() if source.resident else (streaming,))):
                    engine.close()
            table.add_section()
    Console(width=120).print(table)


if __name__ == "__main__":
    main(int(float(sys.argv[1]) * 2**20) if len(sys.argv) > 1 else 256 * 2**20, sys.argv[2:])
