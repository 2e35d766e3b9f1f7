"""Passes over stored data that are not in the page cache, beside plain reads of the same files.

    python tests/benchmarks/cold.py [MiB decoded] [folder on the disk to measure]

Before each measurement the system is asked to forget the files (posix_fadvise, DONTNEED).

* "raw" reads the files from end to end, with as many threads as the pass has readers.
* "pass, cold" is a pass of this process's threads, with nothing cached.
* "pass, warm" is the same pass with the files in the page cache.

A pass bound by the disk is as fast as "raw". A pass bound by decoding and computing is as fast as
"warm".
"""

import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import zarr
from machine import interleaved
from passes import KERNEL, streaming_limit
from rich.console import Console
from rich.table import Table
from zarr.codecs import BloscCodec, ZstdCodec

from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table as Data
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query

P, K = 54, 7
CHUNK_BYTES = 8 * 2**20
READ_BYTES = 2**20
CODECS = {"none": None, "lz4": BloscCodec(cname="lz4", clevel=5), "zstd": ZstdCodec(level=3)}


def write(folder: Path, n_bytes: int, codec: object) -> zarr.Group:
    """Store random int16 of 10 bits each, and their labels. No two chunks are equal."""
    rng = np.random.default_rng(0)
    step = CHUNK_BYTES // (2 * P)
    n = step * max(n_bytes // CHUNK_BYTES, 2)
    group = zarr.create_group(folder)
    X = group.create_array("X", shape=(n, P), dtype="i2", chunks=(step, P), compressors=codec)
    y = group.create_array(
        "y", shape=(n,), dtype="u1", chunks=(step,), config={"write_empty_chunks": True}
    )
    for start in range(0, n, step):
        X[start : start + step] = rng.integers(0, 1024, (step, P), np.int16)
        y[start : start + step] = rng.integers(0, K, step, np.uint8)
    return group


def forget(files: list[Path]) -> None:
    """Drop these files from the page cache."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read(path: Path) -> None:
    """Read a file from end to end into a reused buffer."""
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def main(n_bytes: int, parent: str | None) -> None:
    table = Table(title=f"({P}, {K}) int16, {KERNEL} kernel; MB/s of what is stored")
    for name in ("codec", "stored MB", "raw", "pass, cold", "of raw", "pass, warm", "cold / warm"):
        table.add_column(name, justify="left" if name == "codec" else "right")
    theta = np.random.default_rng(0).standard_normal((K, P + 1)) / 1000
    for name, codec in CODECS.items():
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            group = write(Path(folder) / "data.zarr", n_bytes, codec)
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            stored = sum(path.stat().st_size for path in files)
            source = open_source(Data(group["X"], group["y"]))
            evaluate = Evaluate(
                (Question(Query(theta), None, np.dtype(np.float32)),), Encoder(np.arange(K)), KERNEL
            )
            cores = ThreadsEngine().n_threads
            engine = ThreadsEngine(memory_limit=streaming_limit(source, cores, evaluate))

            def raw(files: list[Path] = files, cores: int = cores) -> None:
                with ThreadPoolExecutor(cores) as pool:
                    list(pool.map(read, files))

            def cold(work: Callable[[], object], files: list[Path] = files) -> Callable[[], object]:
                return lambda: (forget(files), work())

            def visit(
                engine: ThreadsEngine = engine,
                evaluate: Evaluate = evaluate,
                source: object = source,
            ) -> object:
                return engine.total(evaluate, source)  # type: ignore[arg-type]

            works: dict[str, Callable[[], object]] = {"forget": partial(forget, files)}
            works |= {"raw": cold(raw), "cold": cold(visit), "warm": visit}
            seconds = interleaved(works, 2.0)
            rates = {
                way: stored / (seconds[way] - seconds["forget"] * (way != "warm")) / 1e6
                for way in ("raw", "cold", "warm")
            }
            cells = [
                rates["raw"],
                rates["cold"],
                rates["cold"] / rates["raw"],
                rates["warm"],
                rates["cold"] / rates["warm"],
            ]
            table.add_row(
                name,
                f"{stored / 1e6:,.0f}",
                *(f"{cell:,.3g}" if cell < 10 else f"{cell:,.0f}" for cell in cells),
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main(
        int(float(sys.argv[1]) * 2**20) if len(sys.argv) > 1 else 1024 * 2**20,
        sys.argv[2] if len(sys.argv) > 2 else None,
    )
