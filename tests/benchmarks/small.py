"""Seconds of whole fits of small data in memory, beside scikit-learn and their own products.

    python tests/benchmarks/small.py [sets] [--seconds 3] [--tol 1e-4]

``sets`` are words that names of sets contain. DSOFTMAX_DATA names the folder of the real ones.
"satimage-like" is made: 6,435 × 36 integers, K = 6, four bands of nine neighbouring pixels.

Both packages fit the same rows with C = 1 and the same ``tol``, warm, and take turns. scikit-learn
runs with the better of its solvers for the set. OPENBLAS_NUM_THREADS gives its threads; dsoftmax
uses all cores. The last columns show how far both are from the lower of their two F.

Seconds are CPU seconds of the process, which other programs hardly change, the least of all turns.
The ratio of wall times is the median over the turns.

The floor is the products alone: those of all gradients, Hessian products and Hessians that a fit
asks for, at the rate that NumPy and SciPy multiply these rows on one core. Exponentials, additions
and all that a solver does between passes come on top.
"""

import argparse
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from optimum_bounds import PlainObjective
from real_data import Data, load
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from dsoftmax import SoftmaxRegression
from dsoftmax.kernels.choose import KERNELS, Kernel

SATIMAGE = "satimage-like"
RIVALS = {
    SATIMAGE: "newton-cholesky",
    "digits": "newton-cholesky",
    "banking77-embedded": "newton-cg",
    "banking77-tfidf": "newton-cg",
}
"""The better solver of scikit-learn for each set."""
PIXELS = 9
TILE_ROWS = 512

Work = tuple[str, np.dtype]
"""What is multiplied, "gradient" or "hessian", and the dtype of the products."""


def satimage_like() -> Data:
    """Return pixels of six kinds of land, with the sizes of the Statlog satellite image."""
    rng = np.random.default_rng(0)
    means = np.array(
        [
            [62, 95, 108, 89],
            [48, 40, 115, 118],
            [87, 105, 111, 87],
            [77, 91, 96, 75],
            [60, 62, 83, 70],
            [69, 77, 82, 64],
        ]
    )
    rows = np.array([1533, 703, 1358, 626, 707, 1508])
    y = rng.permutation(np.repeat(np.arange(6), rows))
    bands = means[y] + 9 * rng.normal(size=(len(y), 4))
    pixels = bands[:, None, :] + 5 * rng.normal(size=(len(y), PIXELS, 4))
    return Data(SATIMAGE, np.clip(np.round(pixels), 27, 157).reshape(len(y), -1), y)


def stored_values(X: Any) -> int:
    return int(X.nnz if scipy.sparse.issparse(X) else X.size)


@dataclass
class Counting:
    """The flops of the products of a fit."""

    flops: Counter[Work]

    def kernel(self, kernel: Kernel) -> Kernel:
        """Return the kernel with its products counted."""

        def value_and_gradient(theta, X, y, weights=None, dtype=None):  # type: ignore[no-untyped-def]
            used = np.dtype(dtype or X.dtype)
            self.flops["gradient", used] += 4 * len(theta) * stored_values(X)
            return kernel.value_and_gradient(theta, X, y, weights, dtype)

        def hessian_products(theta, X, weights=None):  # type: ignore[no-untyped-def]
            product = kernel.hessian_products(theta, X, weights)

            def counted(direction: NDArray) -> NDArray:
                self.flops["gradient", X.dtype] += 4 * len(theta) * stored_values(X)
                return product(direction)

            return counted

        def hessian_pairs(theta, X, weights=None, dtype=None):  # type: ignore[no-untyped-def]
            K, d = theta.shape
            used = np.dtype(dtype or X.dtype)
            pairs, products = K * (K - 1) // 2, d * (d + 1) // 2
            self.flops["hessian", used] += 2 * pairs * products * X.shape[0]
            return kernel.hessian_pairs(theta, X, weights, dtype)

        return replace(
            kernel,
            value_and_gradient=value_and_gradient,
            hessian_products=hessian_products,
            hessian_pairs=hessian_pairs,
        )


def counted_flops(fit: Callable[[], Any]) -> Counter[Work]:
    """Return the flops of the products of one fit."""
    counting, plain = Counting(Counter()), KERNELS["numpy"]
    KERNELS["numpy"] = counting.kernel(plain)
    try:
        fit()
    finally:
        KERNELS["numpy"] = plain
    return counting.flops


def bare_products(data: Data, work: Work) -> tuple[Callable[[], object], int]:
    """Return a function that multiplies as the kernels do, and its flops."""
    kind, dtype = work
    rng, K, X = np.random.default_rng(0), data.n_classes, data.X.astype(dtype)
    if kind == "gradient":
        W, R = rng.random((data.n_features, K)).astype(dtype), rng.random((len(data.y), K))
        R = R.astype(dtype)
        return (lambda: (X @ W, X.T @ R)), 4 * K * stored_values(X)
    pairs, d = K * (K - 1) // 2, data.n_features + 1
    left, right = (rng.random((n, TILE_ROWS)).astype(dtype) for n in (pairs, d * (d + 1) // 2))
    return (lambda: left @ right.T), 2 * pairs * len(right) * TILE_ROWS


def turns(works: Sequence[Callable[[], object]], least: float) -> tuple[list[float], float]:
    """Return the least CPU seconds of each work, and the median ratio of wall times, last / first.

    The works take turns, at least three times, until they took ``least`` seconds each.
    """
    cpu: list[list[float]] = [[] for _ in works]
    ratios, began = [], time.perf_counter()
    while len(ratios) < 3 or time.perf_counter() - began < least * len(works):
        wall = []
        for one, work in zip(cpu, works, strict=True):
            started, used = time.perf_counter(), time.process_time()
            work()
            one.append(time.process_time() - used)
            wall.append(time.perf_counter() - started)
        ratios.append(wall[-1] / wall[0])
    return [min(one) for one in cpu], statistics.median(ratios)


def floor_seconds(data: Data, flops: Counter[Work], seconds: float) -> float:
    """Return the CPU seconds of the products of a fit."""
    total = 0.0
    with threadpool_limits(1):
        for work, n in flops.items():
            bare, each = bare_products(data, work)
            total += n / each * turns([bare], seconds / 4)[0][0]
    return total


def theta_of(model: Any) -> NDArray:
    return np.column_stack([model.coef_, model.intercept_]).astype(np.float64)


def compare(data: Data, seconds: float, tol: float) -> tuple[str, ...]:
    """Return the row of a set."""
    solver = RIVALS[data.name]
    ours = SoftmaxRegression(tol=tol, kernel="numpy")
    theirs = LogisticRegression(solver=solver, tol=tol, max_iter=1000)
    works = [partial(model.fit, data.X, data.y) for model in (ours, theirs)]
    flops = counted_flops(works[0])
    works[1]()
    plain = PlainObjective.of(data.X, data.y, 1.0)
    values = [plain.value(theta_of(model)) for model in (ours, theirs)]
    (own, other), ratio = turns(works, seconds)
    floor = floor_seconds(data, flops, seconds)
    return (
        data.name,
        f"{1e3 * own:.0f}",
        str(ours.n_passes_),
        f"{1e3 * floor:.0f}",
        f"{own / floor:.1f}",
        f"{1e3 * other:.0f}",
        solver,
        f"{other / own:.2f}",
        f"{ratio:.2f}",
        *(f"{value - min(values):.1e}" for value in values),
    )


def main(names: list[str], seconds: float, tol: float) -> None:
    table = Table(title=f"whole fits in memory, C = 1, tol = {tol:g}; CPU milliseconds")
    for column in (
        "set", "dsoftmax", "passes", "floor", "/ floor", "scikit-learn", "solver",
        "theirs / ours", "wall", "F − F′, ours", "theirs",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column in ("set", "solver") else "right")
    for name in names:
        data = satimage_like() if name == SATIMAGE else load(name)
        table.add_row(*compare(data, seconds, tol))
    Console(width=150).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Small fits in memory, beside scikit-learn.")
    parser.add_argument("sets", nargs="*", help=f"words of names of sets: {', '.join(RIVALS)}")
    parser.add_argument("--seconds", type=float, default=3, help="seconds for each figure (3)")
    parser.add_argument("--tol", type=float, default=1e-4)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    main(
        [one for one in RIVALS if not given.sets or any(word in one for word in given.sets)],
        given.seconds,
        given.tol,
    )
