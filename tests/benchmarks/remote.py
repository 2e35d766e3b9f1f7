"""Throughput of a pass over remote chunks, beside the same number of concurrent raw reads.

    python tests/benchmarks/remote.py [--chunks 400] [--rows 16384] [--latency 0.05] [--share 0.05]

A process of its own is the S3 server: moto, and a proxy that waits and fails. It takes a share of
the cores, and so do raw reads and passes alike. Raw reads ask obstore for the stored bytes on as
many threads as a pass has reads in flight, and decode nothing. A pass decodes, and visits every
row: a light visit, and a pass of training. They take turns; each table row is the median of the
ratios in one turn. No block is cached.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import obstore
import zarr
from obstore.store import S3Store
from rich.console import Console
from rich.table import Table as Lines

from dsoftmax.data.open import open_source
from dsoftmax.data.source import Source
from dsoftmax.data.table import Table
from dsoftmax.data.zarr.names import open_array
from dsoftmax.engines.kept.memory import Cache
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

SUPPORT = Path(__file__).parents[1] / "support"
P, CLASSES, PASSES = 32, 4, 3

SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
import zlib
from flaky_server import PASSING
from s3 import S3

server = S3()
server.put(sys.argv[2], "data.zarr")
print(server.proxy.url, flush=True)
for line in sys.stdin:
    latency, share = map(float, line.split())

    def fault(path, number):
        digest = zlib.crc32(f"{path} {number}".encode())
        return PASSING[digest % 5] if "/c/" in path and digest // 5 % 1000 < 1000 * share else ""

    server.proxy.calm()
    server.proxy.latency, server.proxy.fault = latency, fault
    print("ready", flush=True)
"""


class EnoughError(Exception):
    """The passes that are measured were made."""


def write(folder: Path, n_chunks: int, rows: int) -> int:
    """Write X and y, and return the bytes of a chunk of X as stored, on average."""
    rng = np.random.default_rng(0)
    group = zarr.create_group(folder)
    X = group.create_array("X", shape=(n_chunks * rows, P), chunks=(rows, P), dtype="u2")
    y = group.create_array(
        "y", shape=(n_chunks * rows,), chunks=(n_chunks * rows // 8,), dtype="u1"
    )
    for chunk in range(n_chunks):
        X[chunk * rows : (chunk + 1) * rows] = rng.integers(0, 1000, (rows, P))
    y[:] = rng.integers(1, CLASSES + 1, n_chunks * rows)
    return sum(file.stat().st_size for file in (folder / "X" / "c").rglob("*")) // n_chunks


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def raw(keys: list[str], url: str, at_once: int) -> float:
    """Read all keys on threads, and return the seconds. obstore repeats what fails."""
    store = S3Store("bucket", endpoint=url, client_options={"allow_http": True})

    def read(key: str) -> int:
        return len(obstore.get(store, key).bytes())

    with ThreadPoolExecutor(at_once) as pool:
        return seconds(lambda: sum(pool.map(read, keys)))


def light(source: Source) -> float:
    """Visit every block with a sum of its rows, and return the seconds."""

    class Visit:
        def __call__(self, block):  # type: ignore[no-untyped-def]
            return {"rows": np.array([block.n_rows])}

        def footprint(self, n_features: int, sparse: bool):  # type: ignore[no-untyped-def]
            from dsoftmax.engines.visit import Footprint

            return Footprint(sums=1)

    return seconds(lambda: ThreadsEngine().total(Visit(), source))


def training(source: Source) -> tuple[float, int]:
    """Return the seconds of a pass of training without the first, and the retries of all."""
    records = []

    def watch(record, runs):  # type: ignore[no-untyped-def]
        records.append(record)
        if len(records) == PASSES:
            raise EnoughError

    with suppress(EnoughError):
        train(source, ThreadsEngine(), Settings(solver="lbfgs", tol=0.0), watchers=[watch])
    retries = sum(done.retries for record in records for done in record.work.values())
    return statistics.median(record.seconds for record in records[1:]), retries


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=400)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    Cache.fits = lambda cache, n_bytes: False  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        stored = write(Path(folder), asked.chunks, asked.rows)
        command = [sys.executable, "-c", SERVE, str(SUPPORT), folder]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                measure(asked, server, stored)
            finally:
                server.kill()


def measure(asked: argparse.Namespace, server: subprocess.Popen[str], stored: int) -> None:
    """Take turns, and print the medians."""
    assert server.stdin is not None
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_ENDPOINT_URL": url,
    }
    source = open_source(Table(*(open_array("s3://bucket/data.zarr", name) for name in ("X", "y"))))
    each = -(-asked.chunks // len(source.chunk_rows))  # small chunks are joined
    at_once = ThreadsEngine().plan(source).readers * each
    keys = [f"data.zarr/X/c/{chunk}/0" for chunk in range(asked.chunks)]
    raw(keys, url, at_once)  # moto is slow the first time; the proxy remembers its answers

    def anew() -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{asked.latency} {asked.share}\n")
        server.stdin.flush()
        server.stdout.readline()

    rows, retries = [], 0
    for _ in range(asked.turns):
        anew()
        reading = raw(keys, url, at_once)
        anew()
        visiting = light(source)
        anew()
        each_pass, retries = training(source)
        rows.append((reading, visiting, each_pass))
    table = Lines("", "seconds", "chunks/s", "MB/s stored", "of raw")
    for number, name in enumerate(("raw reads", "a light pass", "a pass of training")):
        took = statistics.median(row[number] for row in rows)
        of_raw = statistics.median(row[0] / row[number] for row in rows)
        rate = asked.chunks / took
        table.add_row(
            name, f"{took:.2f}", f"{rate:.0f}", f"{rate * stored / 1e6:.0f}", f"{of_raw:.2f}"
        )
    console = Console()
    console.print(
        f"{asked.chunks} chunks of {stored / 2**20:.2f} MiB, {at_once} requests at once, "
        f"{1000 * asked.latency:.0f} ms, {100 * asked.share:.0f} % of requests fail; "
        f"{retries} retries in {PASSES} passes of training"
    )
    console.print(table)


if __name__ == "__main__":
    main()
