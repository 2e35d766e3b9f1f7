"""Value and gradient of one block, beside the machine's own rates, textbook NumPy and scikit-learn.

    python tests/benchmarks/kernels.py [seconds per figure]

One thread. For each shape these take turns in one run: the NumPy kernel, the compiled kernel, the
textbook formula, scikit-learn's own loss and gradient, and the two float32 products of a tile
(sgemm). The roofline of a shape is a time at the machine's rates. It is the sum of the shape's
products, its exponentials and one reading of its stored bytes. The rate of products is the better
of this shape's sgemm and that of a large square. The share is the roofline over the measured
time. Compare figures within a run, never across runs.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from machine import Rates, interleaved, rates, sgemm_work
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn._loss import HalfMultinomialLoss
from sklearn.linear_model._linear_loss import LinearModelLoss
from threadpoolctl import threadpool_limits

from dsoftmax.kernels import softmax
from dsoftmax.kernels.compiled import fused
from dsoftmax.kernels.compiled.availability import available
from dsoftmax.kernels.tiles import tile_rows

DENSE = [(12, 8, "u2"), (54, 7, "i2"), (784, 10, "u1"), (384, 150, "f4"), (1024, 1000, "f4")]
SPARSE = [(20_000, 20, 0.002), (20_000, 20, 0.02), (65_536, 75, 0.002)]
BLOCK_BYTES = 32 * 2**20
LARGE = (512, 512, 4096)
"""K, p and rows of a product at which BLAS is fastest."""
KERNELS = {"numpy": softmax.value_and_gradient} | (
    {"fused": fused.value_and_gradient} if available() else {}
)


@dataclass(frozen=True)
class Problem:
    """A block of one shape: X (n, p), y (n,) codes, theta (K, p+1)."""

    name: str
    X: Any
    y: NDArray
    theta: NDArray

    @property
    def bytes(self) -> int:
        """Stored bytes of X."""
        sparse = scipy.sparse.issparse(self.X)
        return int(self.X.data.nbytes + self.X.indices.nbytes) if sparse else int(self.X.nbytes)

    @property
    def flops(self) -> int:
        """Floating-point operations of the two products."""
        K, d = self.theta.shape
        return 4 * K * (self.X.nnz if scipy.sparse.issparse(self.X) else (d - 1) * self.X.shape[0])


@dataclass(frozen=True)
class Figures:
    """The figures of one problem.

    Attributes
    ----------
    problem : Problem
    seconds : dict
        Median seconds a block of "numpy", "fused", "textbook" and "scikit-learn".
    sgemm : float
        Rate of the products of a tile of this shape, in flops a second; nan for CSR.
    roofline : float
        Seconds a block at the machine's rates; nan for CSR.
    """

    problem: Problem
    seconds: dict[str, float]
    sgemm: float
    roofline: float


def problems() -> Iterator[Problem]:
    """Yield a block of every shape."""
    rng = np.random.default_rng(0)
    for p, K, dtype in DENSE:
        n = max(BLOCK_BYTES // (4 * p), 4096)
        X = (rng.random((n, p)) * 100).astype(dtype)
        yield Problem(
            f"({p}, {K}) {np.dtype(dtype).name}",
            X,
            rng.integers(0, K, n),
            rng.standard_normal((K, p + 1)) / 100,
        )
    for p, K, density in SPARSE:
        n = 16_384
        X = scipy.sparse.random_array(
            (n, p), density=density, format="csr", dtype=np.float32, rng=rng
        )
        yield Problem(
            f"({p}, {K}) CSR {density:.1%}",
            X,
            rng.integers(0, K, n),
            rng.standard_normal((K, p + 1)) / 100,
        )


def textbook(theta: NDArray, X: NDArray, y: NDArray) -> NDArray:
    """Return the gradient of the whole block, in float32, without the intercepts."""
    X = X.astype(np.float32)
    Z = X @ theta[:, :-1].T.astype(np.float32) + theta[:, -1].astype(np.float32)
    Z -= Z.max(axis=1, keepdims=True)
    P = np.exp(Z)
    P /= P.sum(axis=1, keepdims=True)
    return X.T @ (P - np.eye(len(theta), dtype=np.float32)[y])


def textbook_sparse(theta: NDArray, X: scipy.sparse.csr_array, y: NDArray) -> NDArray:
    """Return the gradient of the whole block by two products of SciPy."""
    Z = X @ theta[:, :-1].T.astype(np.float32) + theta[:, -1].astype(np.float32)
    Z -= Z.max(axis=1, keepdims=True)
    P = np.exp(Z)
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(len(y)), y] -= 1
    return X.T @ P


def scikit_learn(theta: NDArray, X: Any, y: NDArray) -> Callable[[], object]:
    """Return scikit-learn's loss and gradient, on float32 or float64 data as its solvers use."""
    ready = X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)
    loss = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=len(theta)), fit_intercept=True)
    coef, labels = np.asfortranarray(theta, ready.dtype), y.astype(ready.dtype)
    return lambda: loss.loss_gradient(coef, ready, labels, l2_reg_strength=0.0, n_threads=1)


def measure(problem: Problem, machine: Rates, least: float) -> Figures:
    """Return the figures of one problem. The caller sets BLAS to one thread."""
    X, y, theta = problem.X, problem.y, problem.theta
    sparse = scipy.sparse.issparse(X)
    plain = textbook_sparse if sparse else textbook
    works: dict[str, Callable[[], object]] = {
        name: lambda kernel=kernel: kernel(theta, X, y)  # type: ignore[misc]
        for name, kernel in KERNELS.items()
    }
    works |= {"textbook": lambda: plain(theta, X, y), "scikit-learn": scikit_learn(theta, X, y)}
    if sparse:
        return Figures(problem, interleaved(works, least), np.nan, np.nan)
    K, p = len(theta), X.shape[1]
    tile, flops = sgemm_work(K, p, min(tile_rows(p, K, np.dtype(np.float32), sparse), X.shape[0]))
    large, large_flops = sgemm_work(*LARGE)
    seconds = interleaved({**works, "tile": tile, "large": large}, least)
    sgemm, best = flops / seconds.pop("tile"), large_flops / seconds.pop("large")
    roofline = (
        problem.flops / max(sgemm, best)
        + K * X.shape[0] / machine.exp
        + problem.bytes / machine.read
    )
    return Figures(problem, seconds, sgemm, roofline)


def main(least: float) -> None:
    with threadpool_limits(1):
        machine = rates(least)
        table = Table(
            title=f"one thread; memory {machine.read / 1e9:.1f} GB/s,"
            f" exp {machine.exp / 1e9:.2f} G/s"
        )
        heads = (
            "Mrows/s",
            "GB/s",
            "GF/s",
            "of sgemm",
            "of the roofline",
            "textbook / it",
            "scikit-learn / it",
        )
        for name in ("shape", "kernel", *heads):
            table.add_column(name, justify="left" if name in ("shape", "kernel") else "right")
        for problem in problems():
            found = measure(problem, machine, least)
            for kernel in KERNELS:
                taken = found.seconds[kernel]
                rate = problem.flops / taken
                cells = [problem.X.shape[0] / taken / 1e6, problem.bytes / taken / 1e9, rate / 1e9]
                cells += [rate / found.sgemm, found.roofline / taken]
                cells += [found.seconds[name] / taken for name in ("textbook", "scikit-learn")]
                table.add_row(
                    problem.name,
                    kernel,
                    *("" if np.isnan(cell) else f"{cell:.3g}" for cell in cells),
                )
    Console(width=140).print(table)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
