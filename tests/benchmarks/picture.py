"""Draw F − F* against passes over the data: dsoftmax beside scikit-learn and dask-ml, in one run.

    python tests/benchmarks/picture.py [--dask-ml PYTHON] [--rows N] [--without NAMES] [--out FILE]

The problem has two classes, because dask-ml has no multinomial model: covertype's class 2 against
the rest, 581,012 rows, 54 standardised features and a column of ones, C = 1, float64. The column
of ones stands for the intercept. So all packages minimise the same F, in which it is penalised
too.

A pass is a visit to every row. Each package's visits are counted where it makes them:

* dsoftmax: ``n_passes_`` of fits that end after 1, 2, 3 … iterations.
* scikit-learn: every call of the loss, the gradient or the Hessian.
* dask-ml: every load of a block, divided by the number of blocks. Its blocks are loaded from
  memory by a function that counts. Nothing is persisted, as with data larger than memory.

F is computed by `objective` at every point that a package visits; the curve shows the least F so
far. F* comes from Newton's method, in plain NumPy, from the best point of all packages.

``--dask-ml`` names a Python that can import dask_ml. Without it dask-ml is left out.
``DSOFTMAX_DATA`` names the folder that holds covtype.npz.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Points = list[tuple[float, Float]]
"""Passes made so far, and the weights (p,) that were looked at."""
Curve = list[tuple[float, float]]
"""Passes made so far, and F − F*."""

C = 1.0
BLOCKS = 16
MOST_PASSES = 200
"""Passes that a package may make."""
ADMM_PASSES = 100
"""Passes of dask-ml's admm. It minimises in every block between two passes, which takes long."""
FLOOR = 1e-10
"""The least F − F* that is drawn: differences of F in float64 say little below."""
OURS = "dsoftmax"
DOCS = Path(__file__).parents[2] / "dsoftmax" / "docs"


# The problem


def problem(n_rows: int | None) -> tuple[Float, NDArray[np.int64]]:
    """Return X (n, 55), standardised features and ones, and y (n,): 1 for class 2, else 0."""
    with np.load(Path(os.environ["DSOFTMAX_DATA"]) / "covtype.npz") as stored:
        X, y = stored["X"].astype(np.float64), stored["y"]
    if n_rows is not None:
        rows = np.sort(np.random.default_rng(0).choice(len(y), n_rows, replace=False))
        X, y = X[rows], y[rows]
    two = np.unique(y)[1]
    spread = X.std(axis=0)
    X = (X[:, spread > 0] - X[:, spread > 0].mean(axis=0)) / spread[spread > 0]
    return np.column_stack([X, np.ones(len(X))]), (y == two).astype(np.int64)


def objective(w: Float, X: Float, y: NDArray) -> float:
    """F(w) = (1/n)·Σ log(1 + exp(−(2yᵢ − 1)·wᵀxᵢ)) + ‖w‖²/(2Cn), the formula for all packages."""
    margins = (2 * y - 1) * (X @ w)
    return float(np.logaddexp(0, -margins).mean() + w @ w / (2 * C * len(y)))


def newton(w: Float, X: Float, y: NDArray) -> Float:
    """Return the minimum of F by Newton's method from a point near it."""
    n, signs = len(y), 2 * y - 1
    for _ in range(20):
        p = 1 / (1 + np.exp(signs * (X @ w)))  # probability of the wrong class
        gradient = -(X.T @ (signs * p)) / n + w / (C * n)
        hessian = (X.T * (p * (1 - p))) @ X / n + np.eye(len(w)) / (C * n)
        w = w - np.linalg.solve(hessian, gradient)
        if np.abs(gradient).max() < 1e-13:
            break
    return w


# The packages


def dsoftmax(X: Float, y: NDArray) -> Points:
    """Fits that end after 1, 2, 3 … iterations; the first pass collects statistics."""
    from dsoftmax import SoftmaxRegression

    points: Points = []
    for iterations in range(1, MOST_PASSES):
        model = SoftmaxRegression(C=C, fit_intercept=False, tol=1e-9, max_iter=iterations)
        model.fit(X, y)
        points.append((float(model.n_passes_), model.coef_.ravel()))
        if model.status_.startswith("Converged") or model.n_iter_ < iterations:
            break
    return points


def scikit_learn(solver: str) -> Callable[[Float, NDArray], Points]:
    """A solver of ``LogisticRegression`` whose calls of the loss are counted."""

    def run(X: Float, y: NDArray) -> Points:
        from sklearn.linear_model import LogisticRegression
        from sklearn.linear_model._linear_loss import LinearModelLoss

        points: Points = []
        visits = ("loss", "gradient", "loss_gradient", "gradient_hessian")
        originals = {name: getattr(LinearModelLoss, name) for name in visits}
        depth = threading.local()

        def counted(name: str) -> Callable[..., Any]:
            def call(self: object, coef: Float, *rest: Any, **named: Any) -> Any:
                if not getattr(depth, "inside", False):
                    points.append((len(points) + 1.0, np.array(coef, np.float64).ravel()))
                depth.inside = True
                try:
                    return originals[name](self, coef, *rest, **named)
                finally:
                    depth.inside = False

            return call

        for name in visits:
            setattr(LinearModelLoss, name, counted(name))
        try:
            LogisticRegression(
                C=C, solver=solver, fit_intercept=False, tol=1e-10, max_iter=MOST_PASSES
            ).fit(X, y)
        finally:
            for name, original in originals.items():
                setattr(LinearModelLoss, name, original)
        return points

    return run


class _EnoughError(Exception):
    """Ends a solver of dask-ml that has made all its passes."""


def dask_ml(solver: str) -> Callable[[Float, NDArray], Points]:
    """A solver of dask-ml's ``LogisticRegression`` on blocks whose loads are counted."""

    def run(X: Float, y: NDArray) -> Points:
        import dask
        import dask.array as da
        import dask_glm.algorithms as algorithms
        from dask_glm.regularizers import L2
        from dask_ml.linear_model import LogisticRegression

        points: Points = []
        loads, lock = [0], threading.Lock()
        most = ADMM_PASSES if solver == "admm" else MOST_PASSES
        step = -(-len(y) // BLOCKS)
        starts = range(0, len(y), step)

        def load(start: int) -> Float:
            with lock:
                loads[0] += 1
            return X[start : start + step]

        def see(w: Any) -> None:
            w = np.asarray(w.compute() if hasattr(w, "compute") else w, np.float64)
            points.append((loads[0] / len(starts), w))
            if loads[0] / len(starts) >= most:
                raise _EnoughError

        parts = [
            da.from_delayed(dask.delayed(load, pure=False)(s), X[s : s + step].shape, X.dtype)
            for s in starts
        ]
        rows, labels = da.concatenate(parts), da.from_array(y, chunks=step)

        minimise, prox = algorithms.fmin_l_bfgs_b, L2.proximal_operator

        def seen_minimise(function: Callable[..., Any], *rest: Any, **named: Any) -> Any:
            def call(w: Float, *data: Any) -> Any:
                answer = function(w, *data)
                see(w)
                return answer

            return minimise(call, *rest, **named)

        def seen_prox(self: object, w: Any, t: float) -> Any:
            answer = prox(self, w, t)
            see(answer)
            return answer

        if solver == "lbfgs":
            algorithms.fmin_l_bfgs_b = seen_minimise
        else:
            L2.proximal_operator = seen_prox
        try:
            LogisticRegression(
                C=C, solver=solver, fit_intercept=False, tol=1e-10, max_iter=MOST_PASSES,
                solver_kwargs={"abstol": 1e-10, "reltol": 1e-10} if solver == "admm" else None,
            ).fit(rows, labels)  # fmt: skip
        except _EnoughError:
            pass
        finally:
            algorithms.fmin_l_bfgs_b, L2.proximal_operator = minimise, prox
        return points

    return run


PACKAGES: dict[str, Callable[[Float, NDArray], Points]] = {
    OURS: dsoftmax,
    "scikit-learn lbfgs": scikit_learn("lbfgs"),
    "scikit-learn newton-cholesky": scikit_learn("newton-cholesky"),
    "dask-ml lbfgs": dask_ml("lbfgs"),
    "dask-ml admm": dask_ml("admm"),
    "dask-ml proximal_grad": dask_ml("proximal_grad"),
}


def child(name: str, n_rows: int | None) -> None:
    """Print passes, least F so far and the best weights of a package as a line of JSON."""
    warnings.simplefilter("ignore")
    X, y = problem(n_rows)
    passes, values, best, weights = [0.0], [objective(np.zeros(X.shape[1]), X, y)], np.inf, None
    for number, w in PACKAGES[name](X, y):
        value = objective(w, X, y)
        if value < best:
            best, weights = value, w
        passes.append(number)
        values.append(min(value, values[-1]))
    assert weights is not None
    print(json.dumps({"passes": passes, "values": values, "best": weights.tolist()}))


def curves(
    python: str | None, n_rows: int | None, points: Path, without: Sequence[str]
) -> dict[str, Curve]:
    """Return (passes, F − F*) of every package that can run, each in a process of its own.

    Parameters
    ----------
    python : str or None
        An interpreter that can import dask_ml; dask-ml is left out if None.
    n_rows : int or None
        Rows drawn at random; all if None.
    points : Path
        A file with the points of packages that have run already; the others are added.
    without : sequence of str
        Names in `PACKAGES` that are left out.
    """
    found = json.loads(points.read_text()) if points.exists() else {}
    for name in [name for name in PACKAGES if name not in without]:
        interpreter = python if name.startswith("dask-ml") else sys.executable
        if name in found:
            continue
        if interpreter is None:
            print(f"{name}: left out; pass --dask-ml PYTHON", file=sys.stderr)
            continue
        command = [interpreter, __file__, "--child", json.dumps([name, n_rows])]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"{name} failed:\n{ran.stderr}")
        found[name] = json.loads(ran.stdout.splitlines()[-1])
        points.write_text(json.dumps(found))
        print(f"{name}: F = {found[name]['values'][-1]:.12f}", file=sys.stderr, flush=True)
    X, y = problem(n_rows)
    best = min(found.values(), key=lambda one: one["values"][-1])
    least = objective(newton(np.array(best["best"]), X, y), X, y)
    return {
        name: [
            (p, max(value - least, 0.0))
            for p, value in zip(one["passes"], one["values"], strict=True)
        ]
        for name, one in found.items()
    }


# The drawing

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 176, 30, 372
"""Edges of the plot, in pixels; labels of lines stand beyond the right one."""
LAST_PASS = 60
DECADES = 10
"""Powers of ten from 1 down to `FLOOR`."""
COLOURS = {"dsoftmax": "#e8590c", "scikit-learn": "#2b7fd4", "dask-ml": "#2f9e44"}
DASHES = {"newton-cholesky": "7 3", "admm": "2 3", "proximal_grad": "7 3"}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #767676; }
.grid { stroke: #808080; stroke-opacity: 0.3; }
"""
"""One grey with a contrast above 4 on white and on black: a page's theme is unknown here."""


def across(passes: float) -> float:
    """Return x in pixels."""
    return LEFT + (WIDTH - RIGHT - LEFT) * passes / LAST_PASS


def down(gap: float) -> float:
    """Return y in pixels, on a logarithmic scale from 1 to `FLOOR`."""
    return TOP + (BOTTOM - TOP) * -np.log10(min(max(gap, FLOOR), 1.0)) / DECADES


def text(x: float, y: float, words: str, **attributes: str) -> str:
    """Return a text element."""
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{words}</text>'


def shown(curve: Curve) -> Curve:
    """Return the points up to the first at the floor, or at the right edge."""
    inside = [point for point in curve if point[0] <= LAST_PASS]
    first = next((i for i, point in enumerate(inside) if point[1] <= FLOOR), len(inside) - 1)
    return inside[: first + 1]


def drawing(found: dict[str, Curve]) -> str:
    """Return the SVG: a line for each package, its label at its end."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" role="img">',
        "<title>F − F* against passes over the data, covertype class 2 against the rest</title>",
        f"<style>{STYLE}</style>",
    ]
    for power in range(0, DECADES + 1, 2):
        y = down(10.0**-power)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        label = "1" if power == 0 else f"1e−{power}"
        parts.append(text(LEFT - 8, y + 4, label, text_anchor="end"))
    for passes in range(0, LAST_PASS + 1, 20):
        parts.append(text(across(passes), BOTTOM + 18, str(passes), text_anchor="middle"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, BOTTOM + 38, "passes over the data", text_anchor="middle"))
    parts.append(text(LEFT - 8, TOP - 12, "F − F*", text_anchor="start"))
    taken: list[tuple[float, float]] = []
    for name, curve in sorted(found.items(), key=lambda item: down(shown(item[1])[-1][1])):
        package, _, solver = name.partition(" ")
        line = shown(curve)
        points = " ".join(f"{across(p):.1f},{down(gap):.1f}" for p, gap in line)
        width = 3.5 if package == OURS else 1.8
        dash = f' stroke-dasharray="{DASHES[solver]}"' if solver in DASHES else ""
        colour = COLOURS[package]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"'
            f'{dash} stroke-linejoin="round"/>'
        )
        # A label at the floor would stand on the axis, so it goes a decade up.
        x, y = across(line[-1][0]) + 7, down(max(line[-1][1], 10 * FLOOR)) + 4
        if line[-1][0] < LAST_PASS and line[-1][1] > FLOOR:
            y -= 12  # the package stopped here: other lines go on beside the label
        while any(abs(y - other) < 15 and abs(x - place) < 170 for place, other in taken):
            y += 3
        taken.append((x, y))
        weight = "bold" if package == OURS else "normal"
        parts.append(text(x, y, name, style=f"fill: {colour}; font-weight: {weight}"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(
    python: str | None, n_rows: int | None, out: Path, points: Path | None, without: Sequence[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = curves(python, n_rows, points or Path(folder) / "points.json", without)
    print("| package and solver | 1e-3 | 1e-6 | 1e-9 |\n|---|---|---|---|")
    for name, line in found.items():
        reached = [
            next((f"{p:.0f}" for p, gap in line if gap <= goal), f"> {line[-1][0]:.0f}")
            for goal in (1e-3, 1e-6, 1e-9)
        ]
        print(f"| {name} | {' | '.join(reached)} |")
    out.write_text(drawing(found), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw F − F* against passes over the data.")
    parser.add_argument("--dask-ml", metavar="PYTHON", help="a Python that can import dask_ml")
    parser.add_argument("--rows", type=int, help="rows drawn at random (all 581,012)")
    parser.add_argument("--out", type=Path, default=DOCS / "passes.svg")
    parser.add_argument("--points", type=Path, help="read points from this file, and add to it")
    parser.add_argument(
        "--without", default="", help=f"names with commas, of: {', '.join(PACKAGES)}"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*json.loads(given.child))
    else:
        main(given.dask_ml, given.rows, given.out, given.points, given.without.split(","))
