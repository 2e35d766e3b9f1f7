"""Compare two versions bit for bit, and time a pass of both in turns.

    python tests/benchmarks/same_bits.py OLD NEW [--python PYTHON] [--kernels numpy,fused]

``OLD`` and ``NEW`` are commits of this repository, or folders that hold a checkout. Each version
is installed into a virtual environment of its own. ``--python`` names an interpreter that has all
dependencies: then nothing is installed, and the checkouts are put on its path.

Seven fits run with every kernel, each through the public API or the command line:

* dense: a compressed Zarr store of uint16, few features ("surrogate").
* wide: a Zarr store of float32, over 1,000 entries of θ ("matrix-free").
* csr: a SciPy CSR matrix ("lbfgs-kronecker").
* l1: elastic net ("proximal-newton").
* grid: three values of C and three folds.
* cluster: ``dsoftmax train --engine cluster --workers 2``.
* resumed: ``dsoftmax train`` that stops after two iterations, and the same command again.

θ, F and every entry of the history must have the same bits, except seconds, kept and work. The
last two fits also compare the arrays of checkpoint.npz and statistics.npz, and run.json. The exit
code is 1 if a bit differs.

Passes of plain L-BFGS are timed, by the clock and in CPU time: each version has one process, and
the two fit in turns. Compare their ratio only.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from rich.console import Console
from rich.table import Table
from zarr.codecs import BloscCodec

ROOT = Path(__file__).parents[2]
KERNELS = ("numpy", "fused")
UNTIMED = ("seconds", "kept", "work")
"""Entries of the history that depend on the clock and on free memory."""
SENTENCES = ("why", "stuck")
"""Keys of checkpoint.npz that hold prose."""
OWN = ("command", "versions", "digest")
"""Keys of run.json that name the command line, the versions and the folder of the data."""
TURNS = 12
"""Fits of each version for each shape and kernel; each has `TIMED` passes."""
TIMED = 8

CHILD = """
import json, sys, time, warnings
import numpy as np, scipy.sparse, zarr
from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV

warnings.simplefilter("ignore")

def csr(n, p, K, density):
    rng = np.random.default_rng(3)
    X = scipy.sparse.random_array((n, p), density=density, format="csr", dtype=np.float32, rng=rng)
    y = (X @ rng.normal(size=(p, K)) + rng.gumbel(size=(n, K)) / 4).argmax(axis=1)
    return X, y

def told(model):
    return {
        "theta": np.column_stack([model.coef_, model.intercept_]).tobytes().hex(),
        "F": float(model.objective_).hex(),
        "solver": model.solver_,
        "history": model.history_,
    }

def fit(name, kernel, group):
    if name == "csr":
        X, y = csr(20_000, 3_000, 4, 0.01)
        return told(SoftmaxRegression(kernel=kernel, max_iter=40).fit(X, y))
    store = "wide" if name == "wide" else "dense"
    X, y = group[store], group[f"{store}_y"]
    if name == "dense":
        return told(SoftmaxRegression(kernel=kernel).fit(X, y))
    if name == "wide":
        return told(SoftmaxRegression(kernel=kernel, max_iter=40).fit(X, y))
    if name == "l1":
        return told(SoftmaxRegression(kernel=kernel, C=0.01, l1_ratio=0.5).fit(X, y))
    if name == "grid":
        model = SoftmaxRegressionCV(kernel=kernel, Cs=[1e-3, 1e-1, 10.0], cv=3).fit(X, y)
        return {**told(model), "scores": np.asarray(model.scores_).tobytes().hex()}
    raise ValueError(name)

def seconds(name, kernel, group, iterations):
    X, y = csr(20_000, 20_000, 20, 0.002) if name == "csr" else (group["long"], group["long_y"])
    while True:
        model = SoftmaxRegression(kernel=kernel, solver="lbfgs", tol=0.0, max_iter=iterations)
        before = time.process_time()
        model.fit(X, y)
        cpu = (time.process_time() - before) / model.n_passes_
        print(json.dumps([cpu, *(record["seconds"] for record in model.history_[1:])]), flush=True)
        if not sys.stdin.readline():
            return

if __name__ == "__main__":
    what, name, kernel, store = sys.argv[1:5]
    group = zarr.open_group(store, mode="r")
    if what == "fit":
        print(json.dumps(fit(name, kernel, group)))
    else:
        seconds(name, kernel, group, int(sys.argv[5]))
"""
"""What runs in the version's own interpreter: public names only, so that it serves both."""


class Version:
    """A version of the package, and how to run it.

    Parameters
    ----------
    name : str
        A commit, or a folder with a checkout.
    python : str or None
        An interpreter with all dependencies; None to install into a new environment.
    scratch : Path
        An empty folder.
    """

    def __init__(self, name: str, python: str | None, scratch: Path) -> None:
        self.name, self.scratch = name, scratch
        scratch.mkdir()
        checkout = Path(name).resolve()
        if not checkout.is_dir():
            checkout = scratch / "checkout"
            run("git", "clone", "--quiet", str(ROOT), str(checkout))
            run("git", "-C", str(checkout), "checkout", "--quiet", name)
        self.environment = {**os.environ}
        if python is None:
            run(sys.executable, "-m", "venv", str(scratch / "venv"))
            python = str(scratch / "venv" / "bin" / "python")
            run(python, "-m", "pip", "install", "--quiet", f"{checkout}[test]")
            self.environment.pop("PYTHONPATH", None)
        else:
            self.environment["PYTHONPATH"] = str(checkout)
        self.python = python
        self.script = scratch / "child.py"
        self.script.write_text(CHILD)

    def child(self, *arguments: str) -> Any:
        """Run `CHILD` and return what it printed."""
        command = [self.python, str(self.script), *arguments]
        return json.loads(run(*command, environment=self.environment).splitlines()[-1])

    def train(self, store: Path, kernel: str, name: str, *options: str, code: int = 0) -> Path:
        """Run ``dsoftmax train`` in a run directory of that name; return it."""
        out = self.scratch / f"run-{kernel}-{name}"
        command = [self.python, "-m", "dsoftmax", "train", str(store), "--features", "dense"]
        command += ["--labels", "dense_y", "--kernel", kernel, "--out", str(out), *options]
        run(*command, environment=self.environment, code=code, cwd=self.scratch)
        return out

    def told(self, out: Path) -> dict[str, Any]:
        """Return what a run directory holds: θ, F, the history, and every array and key."""
        lines = (out / "history.jsonl").read_text().splitlines()
        history = [json.loads(line) for line in lines]
        model = zarr.open_group(out / "model.zarr", mode="r")
        asked = json.loads((out / "run.json").read_text())
        files = {
            f"{name}.{key}": value.tobytes().hex() if value.dtype.kind != "U" else str(value)
            for name in ("checkpoint.npz", "statistics.npz")
            for key, value in np.load(out / name).items()
            if not key.endswith(SENTENCES)
        }
        return {
            "theta": {name: array[:].tobytes().hex() for name, array in model.arrays()},
            "F": float(history[-1]["objective"]).hex(),
            "solver": str(np.load(out / "checkpoint.npz")["0/solver"]),
            "history": history,
            "files": files,
            "run.json": {key: value for key, value in asked.items() if key not in OWN},
        }

    def result(self, name: str, kernel: str, store: Path) -> dict[str, Any]:
        """Return θ, F and the history of a fit."""
        if name == "cluster":
            options = ("--engine", "cluster", "--workers", "2")
            return self.told(self.train(store, kernel, "cluster", *options))
        if name == "resumed":
            self.train(store, kernel, "resumed", "--tol", "1e-7", "--max-iter", "2", code=3)
            return self.told(self.train(store, kernel, "resumed", "--tol", "1e-7"))
        return dict(self.child("fit", name, kernel, str(store)))


FITS = ("dense", "wide", "csr", "l1", "grid", "cluster", "resumed")


def run(
    *command: str,
    environment: dict[str, str] | None = None,
    code: int = 0,
    cwd: Path | None = None,
) -> str:
    """Return what a command printed.

    ``python -m`` looks for modules in the working directory first, so a version runs elsewhere.

    Raises
    ------
    SystemExit
        It ended with another exit code than ``code``.
    """
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=cwd
    )
    if done.returncode != code:
        raise SystemExit(
            f"{' '.join(command)}: exit code {done.returncode}; expected {code}.\n"
            f"{done.stdout}\n{done.stderr}"
        )
    return done.stdout


def write(path: Path) -> Path:
    """Write the data of all fits: dense, wide and long, each with its labels."""
    group = zarr.create_group(path)
    for name, n, p, K, dtype in (
        ("dense", 60_000, 12, 6, "u2"),
        ("wide", 20_000, 150, 8, "f4"),
        ("long", 1_000_000, 54, 7, "i2"),
    ):
        rng = np.random.default_rng(len(name) + p)
        X = rng.normal(size=(n, p)).astype("f4")
        spread = np.geomspace(1, 30, K)[:, None] * rng.normal(size=(K, p)) / np.sqrt(p)
        y = (X @ spread.T + rng.gumbel(size=(n, K))).argmax(axis=1).astype("u1")
        X = X if dtype == "f4" else np.rint(X * 100 + 600).clip(0, 2_000)
        step = n // 12
        group.create_array(
            name, data=X.astype(dtype), chunks=(step, p), compressors=BloscCodec(cname="lz4")
        )
        group.create_array(f"{name}_y", data=y, chunks=(step,), config={"write_empty_chunks": True})
    return path


def timeless(value: Any) -> Any:
    """Return a history without what depends on the clock, floats as their bits."""
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in UNTIMED}
    if isinstance(value, list):
        return [timeless(one) for one in value]
    return value.hex() if isinstance(value, float) else value


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield the places at which two results differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if (key in old) != (key in new):
                yield f"{where}.{key} is only in the {'old' if key in old else 'new'} version"
            else:
                yield from differences(old[key], new[key], f"{where}.{key}".strip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{where}[{number}]")
    elif old != new:
        yield f"{where}: {shortened(old)} and {shortened(new)}"


def shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def timed(
    old: Version, new: Version, name: str, kernel: str, store: Path
) -> list[list[list[float]]]:
    """Return the CPU time of a pass, then the seconds of each, for every fit of both versions.

    The two fit in turns.
    """
    processes = [
        subprocess.Popen(
            [one.python, str(one.script), "seconds", name, kernel, str(store), str(TIMED)],
            env=one.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for one in (old, new)
    ]
    try:
        found: list[list[list[float]]] = [[], []]
        for process in processes:  # the first fit compiles, and fills the page cache
            assert process.stdout is not None
            process.stdout.readline()
        for turn in range(TURNS):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                process = processes[which]
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                found[which].append(json.loads(process.stdout.readline()))
        return found
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main(names: list[str], python: str | None, kernels: list[str], words: list[str]) -> int:
    fits = [fit for fit in FITS if fit in words]
    differ = 0
    table = Table(title="θ, F and history, bit for bit")
    for column in ("fit", "kernel", "solver", "passes", "F", "same bits"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        old, new = (
            Version(name, python, Path(folder) / which)
            for name, which in zip(names, ("old", "new"), strict=True)
        )
        store = write(Path(folder) / "data.zarr")
        for kernel in kernels:
            for fit in fits:
                results = [timeless_result(one.result(fit, kernel, store)) for one in (old, new)]
                found = list(differences(*results))
                differ += bool(found)
                history = results[1]["history"]
                table.add_row(
                    fit, kernel, results[1].get("solver", ""), str(len(history)),
                    f"{float.fromhex(results[1]['F']):.9g}", "no" if found else "yes",
                )  # fmt: skip
                for line in found[:5]:
                    print(f"{fit}, {kernel}: {line}", file=sys.stderr)
        if fits:
            Console(width=100).print(table)
        if "time" in words:
            show_times(old, new, kernels, store)
    return 1 if differ else 0


def timeless_result(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result whose history is `timeless`."""
    return {**result, "history": timeless(result["history"])}


def compared(before: list[float], after: list[float]) -> tuple[str, str]:
    """Return the ratio of the medians, and the quartiles of the ratios of the turns."""
    ratios = [new / old for old, new in zip(before, after, strict=True)]
    quartiles = " … ".join(f"{one:.3f}" for one in statistics.quantiles(ratios, n=4))
    return f"{statistics.median(after) / statistics.median(before):.3f}", quartiles


def show_times(old: Version, new: Version, kernels: list[str], store: Path) -> None:
    """Print the seconds and the CPU time of a pass of both versions, and their ratios.

    On a machine that others use, the CPU time is the steadier one. It is that of whole fits.
    """
    table = Table(title=f"a pass, {TURNS} fits of {TIMED} passes in turns")
    for column in (
        "data",
        "kernel",
        "old ms",
        "new ms",
        "new / old",
        "quartiles of a turn",
        "CPU: new / old",
        "quartiles of a turn",
    ):
        table.add_column(column, justify="right")
    for kernel in kernels:
        for name in ("long", "csr"):
            before, after = timed(old, new, name, kernel, store)
            wall, cpu = (
                [[pick(fit) for fit in fits] for fits in (before, after)]
                for pick in (lambda fit: statistics.median(fit[1:]), lambda fit: fit[0])
            )
            medians = [f"{1e3 * statistics.median(one):.1f}" for one in wall]
            table.add_row(name, kernel, *medians, *compared(*wall), *compared(*cpu))
    Console(width=120).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare two versions bit for bit.")
    parser.add_argument("old", help="a commit, or a folder with a checkout")
    parser.add_argument("new", help="a commit, or a folder with a checkout")
    parser.add_argument("--python", help="an interpreter with all dependencies: install nothing")
    parser.add_argument("--kernels", default=",".join(KERNELS), help=f"of: {', '.join(KERNELS)}")
    parser.add_argument(
        "--only", default=",".join((*FITS, "time")), help=f"of: {', '.join((*FITS, 'time'))}"
    )
    given = parser.parse_args()
    sys.exit(
        main(
            [given.old, given.new],
            given.python,
            re.split(r",\s*", given.kernels),
            re.split(r",\s*", given.only),
        )
    )
