"""Rates of this machine, which kernels are compared with in the same run.

    python tests/benchmarks/machine.py [seconds per figure]

One thread. Rates change with the clock, the neighbours and the temperature: compare figures of
one run only.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from dsoftmax.kernels.compiled.availability import available
from dsoftmax.kernels.compiled.shapes import VECTOR_BYTES

SHAPES = [(8, 12), (7, 54), (10, 784), (32, 128), (150, 384), (1000, 1024)]


@dataclass(frozen=True)
class Rates:
    """The rates of one thread of this machine.

    Attributes
    ----------
    read : float
        Memory that a sum over 256 MiB reads, in bytes a second.
    exp : float
        Float32 exponentials a second in the cache, by NumPy or compiled, whichever is faster.
    """

    read: float
    exp: float


def interleaved(works: Mapping[str, Callable[[], object]], least: float) -> dict[str, float]:
    """Return the median seconds of each work.

    The works take turns, so whatever slows the machine slows all of them. Each is called once to
    warm up, then at least three times, until the turns took ``least`` seconds a work.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    began = time.perf_counter()
    while len(next(iter(times.values()))) < 3 or time.perf_counter() - began < least * len(works):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def sgemm_work(K: int, p: int, rows: int) -> tuple[Callable[[], object], int]:
    """Return the two float32 products of a tile of rows, W·Xᵀ and R·X, and their flops."""
    rng = np.random.default_rng(0)
    W, X = rng.random((K, p), np.float32), rng.random((rows, p), np.float32)
    Z, G = np.empty((K, rows), np.float32), np.empty((K, p), np.float32)

    def work() -> None:
        np.matmul(W, X.T, out=Z)
        np.matmul(Z, X, out=G)

    return work, 4 * K * p * rows


def read_rate(least: float) -> float:
    """Return the bytes a second that a sum over 256 MiB reads."""
    values = np.ones(64 * 2**20, np.float32)
    return values.nbytes / interleaved({"read": values.sum}, least)["read"]


def exp_rates(least: float) -> dict[str, float]:
    """Return float32 exponentials a second in the cache, by NumPy and compiled."""
    values, out = np.full(2**12, -1, np.float32), np.empty(2**12, np.float32)
    works: dict[str, Callable[[], object]] = {"numpy": lambda: np.exp(values, out=out)}
    if available():
        compiled = _compiled_exp()
        works["fused"] = lambda: compiled(values, out, VECTOR_BYTES // 4)
    return {name: len(values) / seconds for name, seconds in interleaved(works, least).items()}


def _compiled_exp() -> Callable[[NDArray, NDArray, int], None]:
    from numba import njit

    from dsoftmax.kernels.compiled.simd import exp, load, store

    @njit
    def each(values, out, lanes):  # type: ignore[no-untyped-def]
        for i in range(0, len(values), lanes):
            store(out, i, exp(load(values, i)))

    return each  # type: ignore[no-any-return]


def rates(least: float) -> Rates:
    """Return the rates of this machine."""
    return Rates(read_rate(least), max(exp_rates(least).values()))


def main(least: float) -> None:
    table = Table(title="one thread")
    table.add_column("what")
    table.add_column("rate", justify="right")
    with threadpool_limits(1):
        table.add_row("reading memory", f"{read_rate(least) / 1e9:.1f} GB/s")
        for name, rate in exp_rates(least).items():
            table.add_row(f"float32 exp, {name}", f"{rate / 1e9:.2f} G/s")
        for K, p in SHAPES:
            work, flops = sgemm_work(K, p, 2048)
            seconds = interleaved({"sgemm": work}, least)["sgemm"]
            table.add_row(
                f"sgemm, K = {K}, p = {p}, 2,048 rows", f"{flops / seconds / 1e9:.1f} GF/s"
            )
    Console().print(table)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
