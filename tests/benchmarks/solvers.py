"""Seconds to the optimum of the real sets, beside other packages.

    python tests/benchmarks/solvers.py [sets] [--rivals lbfgs,torch] [--cap seconds] [--weak]

``sets`` are words that names of sets contain. DSOFTMAX_DATA names their folder. C is 1, or λ is
1e-4 with ``--weak``. All data are in memory. Every package that can be imported is compared:
scikit-learn's solvers, scikit-learn-intelex, PyTorch's LBFGS (float tensors, strong Wolfe line
search) and Spark's LogisticRegression on this machine's cores, without standardisation in its
penalty.

Each package runs at tol = 1e-2, 1e-3, … until its coefficients have F − F* ≤ 1e-6·F*. F is
computed in plain NumPy and float64 (``optimum_bounds.py``, which also gives F*). The time is that
of the last run alone, or the least of three runs if it takes less than `REPEAT` seconds.

Each package may use one thread or all cores, and gets float64, then float32 if float64 succeeded.
The best time counts. dsoftmax gets the data as stored, Spark float64 and all cores. Imports,
conversions, the upload to Spark and one fit of a small problem come before. Every package has its
own process, which is ended if one try takes longer than ``--cap`` seconds. Then the cell says so.
"–" means that no tol succeeded, "too large" that the Hessian would not fit.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from optimum_bounds import PlainObjective
from real_data import SETS, Data, load, named
from rich.console import Console
from rich.table import Table

GAP = 1e-6
TOLERANCES = tuple(10.0**-k for k in range(2, 13))
REPEAT = 3.0
WARM_ROWS = 500
SETTING_UP = 180
"""Most seconds for imports, conversions and the first small fit."""
NEWTON_ENTRIES = 5000
MANY = 1_000_000
"""Most iterations: large enough that tol decides."""
OURS = "dsoftmax"
LAMBDA = 1e-4

Fit = Callable[[float, int], NDArray]
"""A function from tol and the most iterations to θ (K, p+1)."""


def ours(X: Any, y: NDArray, C: float, threads: int) -> Fit:
    from dsoftmax import SoftmaxRegression
    from dsoftmax.engines.threads import ThreadsEngine
    from dsoftmax.kernels.compiled.availability import available

    engine = ThreadsEngine(threads)
    kernel = "fused" if available() else "numpy"  # compiled before the clock starts

    def fit(tol: float, most: int) -> NDArray:
        model = SoftmaxRegression(C=C, tol=tol, max_iter=most, engine=engine, kernel=kernel)
        model.fit(X, y)
        return np.column_stack([model.coef_, model.intercept_])

    return fit


def scikit_learn(
    solver: str, module: str = "sklearn.linear_model"
) -> Callable[[Any, NDArray, float, int], Fit]:
    def prepare(X: Any, y: NDArray, C: float, threads: int) -> Fit:
        from importlib import import_module

        kind = import_module(module).LogisticRegression

        def fit(tol: float, most: int) -> NDArray:
            model = kind(C=C, tol=tol, max_iter=most, solver=solver).fit(X, y)
            return np.column_stack([model.coef_, model.intercept_])

        return fit

    return prepare


def torch_lbfgs(X: Any, y: NDArray, C: float, threads: int) -> Fit:
    import torch

    torch.set_num_threads(threads)
    rows, labels, K, penalty = (
        torch.from_numpy(X),
        torch.from_numpy(y),
        int(y.max()) + 1,
        1 / (C * len(y)),
    )

    def fit(tol: float, most: int) -> NDArray:
        W = torch.zeros((K, X.shape[1]), dtype=rows.dtype, requires_grad=True)
        b = torch.zeros(K, dtype=rows.dtype, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [W, b], max_iter=most, max_eval=10 * most, tolerance_grad=tol, tolerance_change=0,
            history_size=10, line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Any:
            optimiser.zero_grad()
            loss = (
                torch.nn.functional.cross_entropy(rows @ W.T + b, labels)
                + 0.5 * penalty * (W * W).sum()
            )
            loss.backward()
            return loss

        optimiser.step(closure)
        return np.column_stack([W.detach().numpy(), b.detach().numpy()]).astype(np.float64)

    return fit


def spark(X: Any, y: NDArray, C: float, threads: int) -> Fit:
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.linalg import Vectors
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "4g",
    }
    builder = SparkSession.builder.master(f"local[{threads}]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    rows = ((float(label), Vectors.dense(row)) for label, row in zip(y, X, strict=True))
    frame = session.createDataFrame(
        session.sparkContext.parallelize(list(rows), threads), ["label", "features"]
    ).cache()
    frame.count()

    def fit(tol: float, most: int) -> NDArray:
        model = LogisticRegression(
            maxIter=min(most, 100_000),
            tol=tol,
            regParam=1 / (C * len(y)),
            standardization=False,
            family="multinomial",
        ).fit(frame)
        return np.column_stack([model.coefficientMatrix.toArray(), model.interceptVector.toArray()])

    return fit


@dataclass(frozen=True)
class Rival:
    """A package, and the data that it accepts.

    Attributes
    ----------
    prepare : callable
        A function from X, y, C and the threads to a `Fit`.
    needs : str
        Module to import.
    dtypes : tuple of str
        Dtypes of X to try; "stored" is the dtype of the set.
    sparse : bool
        Whether X may be CSR.
    hessian : bool
        Whether it allocates a matrix of all entries of θ.
    """

    prepare: Callable[[Any, NDArray, float, int], Fit]
    needs: str = "sklearn"
    dtypes: tuple[str, ...] = ("float64", "float32")
    sparse: bool = True
    hessian: bool = False

    @property
    def there(self) -> bool:
        """Whether the package can be imported."""
        return find_spec(self.needs) is not None and (
            self.needs != "pyspark" or which("java") is not None
        )


RIVALS: dict[str, Rival] = {
    OURS: Rival(ours, "dsoftmax", ("stored",)),
    "lbfgs": Rival(scikit_learn("lbfgs")),
    "newton-cholesky": Rival(scikit_learn("newton-cholesky"), hessian=True),
    "newton-cg": Rival(scikit_learn("newton-cg")),
    "saga": Rival(scikit_learn("saga")),
    "intelex": Rival(scikit_learn("lbfgs", "sklearnex.linear_model"), "sklearnex", sparse=False),
    "torch": Rival(torch_lbfgs, "torch", sparse=False),
    "spark": Rival(spark, "pyspark", ("float64",), sparse=False),
}


def small(data: Data) -> Data:
    """Return a few rows with all classes."""
    chosen = np.random.default_rng(0).choice(
        data.n_rows, min(WARM_ROWS, data.n_rows), replace=False
    )
    rows = np.union1d(chosen, np.unique(data.y, return_index=True)[1])
    return Data(data.name, data.X[rows], data.y[rows])


def converted(X: Any, dtype: str) -> Any:
    """Return X in a dtype, in row order; CSR keeps its integers."""
    if dtype == "stored":
        return X
    return X.astype(dtype) if scipy.sparse.issparse(X) else np.ascontiguousarray(X, dtype)


def child(name: str, rival: str, C: float, dtype: str, threads: int, goal: float) -> None:
    """Print a line of JSON when ready and after every try, until a try reaches the goal."""
    warnings.simplefilter("ignore")
    data, kind = load(name), RIVALS[rival]
    plain = PlainObjective.of(data.X, data.y, C)
    few = small(data)
    kind.prepare(converted(few.X, dtype), few.y, 1.0, threads)(1e-2, 3)
    fit = kind.prepare(converted(data.X, dtype), data.y, C, threads)
    print(json.dumps({"ready": True}), flush=True)
    for tol in TOLERANCES:
        seconds, theta = timed(fit, tol)
        there = plain.value(theta) <= goal
        if there and seconds < REPEAT:
            seconds = min(seconds, *(timed(fit, tol)[0] for _ in range(2)))
        print(json.dumps({"tol": tol, "seconds": seconds, "there": bool(there)}), flush=True)
        if there:
            return


def timed(fit: Fit, tol: float) -> tuple[float, NDArray]:
    """Return the seconds of a fit, and its θ."""
    started = time.perf_counter()
    theta = fit(tol, MANY)
    return time.perf_counter() - started, theta


def seconds_of(
    name: str, rival: str, C: float, dtype: str, threads: int, goal: float, cap: float
) -> float | str:
    """Return the seconds of a rival's first run that reaches the goal, or why there is none."""
    environment = os.environ | {
        one: str(threads) for one in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    }
    command = [
        sys.executable,
        __file__,
        "--child",
        json.dumps([name, rival, C, dtype, threads, goal]),
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                lines.put(line)
        lines.put("")

    said: list[str] = []
    threading.Thread(target=read, daemon=True).start()
    threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True).start()
    limit: float = SETTING_UP
    try:
        while line := lines.get(timeout=limit):
            answer = json.loads(line)
            if answer.get("there"):
                return float(answer["seconds"])
            limit = cap
        if process.wait():
            print("".join(said[-3:]), file=sys.stderr)
            return "failed"
        return "–"
    except queue.Empty:
        return f"> {cap:.0f}" if limit == cap else "not ready"
    finally:
        process.kill()
        process.wait()


def best(data: Data, rival: str, C: float, goal: float, cap: float) -> float | str:
    """Return the least seconds of all settings. If all fail, return the reason of the first."""
    kind, cores = RIVALS[rival], len(os.sched_getaffinity(0))
    if kind.hessian and data.n_entries > NEWTON_ENTRIES:
        return "too large"
    if scipy.sparse.issparse(data.X) and not kind.sparse:
        return "dense only"
    found: list[float | str] = []
    for dtype in kind.dtypes:
        for threads in (cores,) if rival == "spark" else sorted({1, cores}):
            found.append(seconds_of(data.name, rival, C, dtype, threads, goal, cap))
            print(f"{data.name}: {rival}, {dtype}, {threads} threads: {found[-1]}", file=sys.stderr)
        if all(isinstance(one, str) for one in found):
            break
    return min((one for one in found if not isinstance(one, str)), default=found[0])


def main(names: list[str], rivals: list[str], cap: float, weak: bool) -> None:
    from counting import look_for_optimum

    there = [rival for rival in rivals if RIVALS[rival].there]
    if missing := [rival for rival in rivals if rival not in there]:
        print(f"cannot be imported: {', '.join(missing)}", file=sys.stderr)
    others = [rival for rival in there if rival != OURS]
    table = Table(
        title=f"seconds to a relative gap of {GAP:g}, {f'λ = {LAMBDA:g}' if weak else 'C = 1'}"
    )
    for column in ("set", OURS, *others, "fastest other / ours"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for name in names:
        data = load(name)
        C = 1 / (LAMBDA * data.n_rows) if weak else 1.0
        known, _ = look_for_optimum(data, C, PlainObjective.of(data.X, data.y, C), cap)
        goal = known.value * (1 + GAP)
        if known.looseness > GAP / 10:
            print(f"{name}: F* is only known to {known.looseness:.0e}", file=sys.stderr)
        found = {rival: best(data, rival, C, goal, cap) for rival in (OURS, *others)}
        reached = [seconds for rival in others if not isinstance(seconds := found[rival], str)]
        own, ratio = found[OURS], "–"
        if not isinstance(own, str):
            ratio = f"{min(reached) / own:.2g}" if reached else f"> {cap / own:.2g}"
        table.add_row(
            name, *(one if isinstance(one, str) else f"{one:.3g}" for one in found.values()), ratio
        )
    Console(width=max(Console().width, 150)).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Seconds to the optimum of the real sets, side by side."
    )
    parser.add_argument("sets", nargs="*", help=f"words of names of sets: {', '.join(SETS)}")
    parser.add_argument("--rivals", default=",".join(RIVALS), help=f"of: {', '.join(RIVALS)}")
    parser.add_argument("--cap", type=float, default=60, help="most seconds of a try (60)")
    parser.add_argument("--weak", action="store_true", help=f"λ = {LAMBDA:g} instead of C = 1")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*json.loads(given.child))
    else:
        main(named(given.sets), given.rivals.split(","), given.cap, given.weak)
