"""Passes of every solver to the optimum of the real sets, with a strong and a weak penalty.

    python tests/benchmarks/solver_passes.py [sets] [--solvers auto,lbfgs] [--cap N] [--seconds S]

``sets`` are words that names of sets contain, such as "covtype-60k" or "shuttle raw". Without
words all sets run, except the whole of Covertype. DSOFTMAX_DATA names the folder of the sets.

A cell is the number of passes, statistics included, after which the accepted θ has a relative gap
(F − F*)/F* of 1e-3 and of 1e-6. F is computed in plain NumPy and float64. "–" means that
``--cap`` passes did not suffice, or that the solver ended before. "> 57" means that the clock
ended the run after 57 passes. Products have the dtype that a user gets.

F* is the best point of all runs. The column "F* within" bounds the unknown part of F* by strong
convexity (``optimum_bounds.py``): the point comes from the solvers, the proof does not. "sample"
is the part of the rows in auto's sample. With 100 % few passes are expected.
"""

import argparse
import sys
import time

import diagonal_lbfgs
from counting import Path, follow_to, joined, look_for_optimum
from optimum_bounds import Bounds, PlainObjective
from real_data import SETS, Data, load, named
from rich.console import Console
from rich.table import Table

from dsoftmax.solvers.protocol import Sizes
from dsoftmax.solvers.table import AUTO, SOLVERS

GAPS = (1e-3, 1e-6)
SLOW = ("gradient-descent",)
"""Solvers that are references for others, not meant to be fast."""
LAMBDA = 1e-4
MOST_BYTES = 2 * 2**30
"""Limit on the bytes of a solver; solvers that would allocate more are left out."""


def cell(path: Path, plain: PlainObjective, optimum: float) -> str:
    """Return "3 / 10": passes to each gap."""
    missing = f"> {path.n_passes}" if path.out_of_time else "–"
    found = (path.passes(plain, optimum, gap) for gap in GAPS)
    return " / ".join(missing if passes is None else str(passes) for passes in found)


def measured(
    data: Data, C: float, solvers: list[str], cap: int, seconds: float
) -> tuple[Bounds, dict[str, Path], dict[str, str]]:
    """Return the optimum, and the path and the cell of each solver.

    If a run finds a better point than was known, all runs are made again.
    """
    plain = PlainObjective.of(data.X, data.y, C)
    known, _ = look_for_optimum(data, C, plain, seconds)
    sizes = Sizes(data.n_rows, data.n_classes, data.n_features, gram=True)
    solvers = [one for one in solvers if one == AUTO or SOLVERS[one].n_bytes(sizes) <= MOST_BYTES]
    while True:
        goal = known.value * (1 + GAPS[-1])
        paths = {
            solver: follow_to(data, C, solver, plain, goal, cap, seconds) for solver in solvers
        }
        best = known
        for path in paths.values():
            best = joined(best, plain.bounds(path.thetas[-1]))
        better = best.value < known.value * (1 - GAPS[-1] / 10)
        known = best
        if not better:
            return (
                known,
                paths,
                {solver: cell(path, plain, known.value) for solver, path in paths.items()},
            )
        print(f"{data.name}: a run found a better optimum; all are made again", file=sys.stderr)


def main(names: list[str], solvers: list[str], cap: int, seconds: float) -> None:
    table = Table(title=f"passes to a relative gap of 1e-3 / 1e-6, of at most {cap}")
    for column in ("set", "n × p, K", "penalty", *solvers, "auto is", "sample", "F*", "F* within"):
        table.add_column(
            column, justify="left" if column in ("set", "penalty", "auto is") else "right"
        )
    for name in names:
        data = load(name)
        for label, C in (("C = 1", 1.0), (f"λ = {LAMBDA:g}", 1 / (LAMBDA * data.n_rows))):
            began = time.perf_counter()
            known, paths, cells = measured(data, C, solvers, cap, seconds)
            auto = paths.get(AUTO)
            table.add_row(
                name,
                f"{data.n_rows:,} × {data.n_features:,}, {data.n_classes}",
                label,
                *(cells.get(solver, "too large") for solver in solvers),
                "" if auto is None else auto.solver,
                "" if auto is None else f"{auto.share:.0%}",
                f"{known.value:.6g}",
                f"{max(known.looseness, 1e-16):.0e}",
            )
            print(
                f"{name}, {label}: {'; '.join(cells.values())}"
                f" ({time.perf_counter() - began:.0f} s)",
                file=sys.stderr,
            )
    Console(width=max(Console().width, 170)).print(table)


if __name__ == "__main__":
    SOLVERS[diagonal_lbfgs.NAME] = diagonal_lbfgs.ENTRY
    parser = argparse.ArgumentParser(
        description="Passes of every solver to the optimum of the real sets."
    )
    parser.add_argument("sets", nargs="*", help=f"words of names of sets: {', '.join(SETS)}")
    parser.add_argument(
        "--solvers", default=",".join((AUTO, *(one for one in SOLVERS if one not in SLOW)))
    )
    parser.add_argument("--cap", type=int, default=200, help="most passes of a run (200)")
    parser.add_argument("--seconds", type=float, default=120, help="most seconds of a run (120)")
    given = parser.parse_args()
    chosen = (
        named(given.sets)
        if given.sets
        else [name for name in SETS if not name.startswith("covtype ")]
    )
    main(chosen, given.solvers.split(","), given.cap, given.seconds)
