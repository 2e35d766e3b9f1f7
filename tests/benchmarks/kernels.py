"""Value and gradient of one block beside the machine's own rates, textbook NumPy and scikit-learn, all in one run.

    python tests/benchmarks/kernels.py [seconds per figure]

One thread. The rates are measured first: float32 products (sgemm of the size that the shape asks for), reading memory, and
exponentials. The roofline of a shape is the sum of what its products, its exponentials and one reading of its stored bytes
would take at these rates; the share is that time over the measured one. Compare figures within a run, never across runs.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn._loss import HalfMultinomialLoss
from sklearn.linear_model._linear_loss import LinearModelLoss
from threadpoolctl import threadpool_limits

from dsoftmax.softmax import value_and_gradient

DENSE = [(12, 8, "u2"), (54, 7, "i2"), (784, 10, "u1"), (384, 150, "f4"), (1024, 1000, "f4")]
SPARSE = [(20_000, 20, 0.002), (20_000, 20, 0.02), (65_536, 75, 0.002)]
BLOCK_BYTES = 32 * 2**20


def seconds(work: Callable[[], object], least: float) -> float:
    """Return the median time of ``work``, after a warm-up, over at least three calls and ``least`` seconds."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def sgemm_rate(K: int, p: int, least: float) -> float:
    """Flops a second of (K, p)·(p, 4096) in float32."""
    rng = np.random.default_rng(0)
    A, B = rng.random((K, p), np.float32), rng.random((p, 4096), np.float32)
    out = np.empty((K, 4096), np.float32)
    return 2 * K * p * 4096 / seconds(lambda: np.matmul(A, B, out=out), least)


def read_rate(least: float) -> float:
    """Bytes a second that a sum over 256 MiB reads."""
    values = np.ones(64 * 2**20, np.float32)
    return values.nbytes / seconds(values.sum, least)


def exp_rate(least: float) -> float:
    """Float32 exponentials a second, in the cache."""
    values, out = np.zeros(2**15, np.float32), np.empty(2**15, np.float32)
    return len(values) / seconds(lambda: np.exp(values, out=out), least)


def textbook(theta: NDArray, X: NDArray, y: NDArray) -> NDArray:
    """The gradient on the whole block at once, in float32."""
    X = X.astype(np.float32)
    Z = X @ theta[:, :-1].T.astype(np.float32) + theta[:, -1].astype(np.float32)
    Z -= Z.max(axis=1, keepdims=True)
    P = np.exp(Z)
    P /= P.sum(axis=1, keepdims=True)
    return X.T @ (P - np.eye(len(theta), dtype=np.float32)[y])


def textbook_sparse(theta: NDArray, X: scipy.sparse.csr_array, y: NDArray) -> NDArray:
    """The two products of SciPy on the whole block at once."""
    Z = X @ theta[:, :-1].T.astype(np.float32) + theta[:, -1].astype(np.float32)
    Z -= Z.max(axis=1, keepdims=True)
    P = np.exp(Z)
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(len(y)), y] -= 1
    return X.T @ P


def scikit_learn(theta: NDArray, X: object, y: NDArray) -> Callable[[], object]:
    """scikit-learn's loss and gradient, on data that are float32 or float64 already, as its solvers have them."""
    ready = X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)  # type: ignore[attr-defined]
    loss = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=len(theta)), fit_intercept=True)
    coef, labels = np.asfortranarray(theta, ready.dtype), y.astype(ready.dtype)  # type: ignore[attr-defined]
    return lambda: loss.loss_gradient(coef, ready, labels, l2_reg_strength=0.0, n_threads=1)


def main(least: float) -> None:
    rng = np.random.default_rng(0)
    reading, exponentials = read_rate(least), exp_rate(least)
    table = Table(title=f"one thread; memory {reading / 1e9:.1f} GB/s, exp {exponentials / 1e9:.2f} G/s")
    for name in ("shape", "Mrows/s", "GB/s", "sgemm GF/s", "of the roofline", "textbook / ours", "scikit-learn / ours"):
        table.add_column(name, justify="left" if name == "shape" else "right")
    with threadpool_limits(1):
        for p, K, dtype in DENSE:
            n = max(BLOCK_BYTES // (4 * p), 4096)
            X = (rng.random((n, p)) * 100).astype(dtype)
            y, theta = rng.integers(0, K, n), rng.standard_normal((K, p + 1)) / 100
            gemm = sgemm_rate(K, p, least)
            roofline = 4 * K * p * n / gemm + K * n / exponentials + X.nbytes / reading
            ours = seconds(lambda X=X, y=y, theta=theta: value_and_gradient(theta, X, y), least)
            plain = seconds(lambda X=X, y=y, theta=theta: textbook(theta, X, y), least)
            theirs = seconds(scikit_learn(theta, X, y), least)
            cells = [n / ours / 1e6, X.nbytes / ours / 1e9, gemm / 1e9, roofline / ours, plain / ours, theirs / ours]
            table.add_row(f"({p}, {K}) {np.dtype(dtype).name}", *(f"{cell:.3g}" for cell in cells))
        for p, K, density in SPARSE:
            n = 16_384
            X = scipy.sparse.random_array((n, p), density=density, format="csr", dtype=np.float32, rng=rng)
            y, theta = rng.integers(0, K, n), rng.standard_normal((K, p + 1)) / 100
            ours = seconds(lambda X=X, y=y, theta=theta: value_and_gradient(theta, X, y), least)
            plain = seconds(lambda X=X, y=y, theta=theta: textbook_sparse(theta, X, y), least)
            theirs = seconds(scikit_learn(theta, X, y), least)
            size = X.data.nbytes + X.indices.nbytes
            cells = [f"{n / ours / 1e6:.3g}", f"{size / ours / 1e9:.3g}", "", "", f"{plain / ours:.3g}", f"{theirs / ours:.3g}"]
            table.add_row(f"({p}, {K}) CSR {density:.1%}", *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
