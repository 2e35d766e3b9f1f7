"""Count the passes that a solver needs to get close to the optimum, judged by plain NumPy."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optimum_bounds import Bounds, PlainObjective
from real_data import Data

from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.solvers.table import AUTO
from dsoftmax.training.loop import train
from dsoftmax.training.record import Record
from dsoftmax.training.run import Run
from dsoftmax.training.settings import Settings

ROUNDING = 1e-6
"""Part of F that rounding in float32 may hide: points further from the goal are not checked."""
TIGHT = 1e-10
"""The search for the optimum stops when about this part of F is unknown."""


@dataclass
class Path:
    """The points of a run after each of its passes.

    Attributes
    ----------
    thetas : list of (K, p+1) float64
        The accepted point after each pass; the first pass collects statistics.
    values : list of float
        F at these points, as the run recorded it.
    solver : str
        The solver that "auto" chose.
    share : float
        Part of the rows that are in the sample.
    out_of_time : bool
        Whether the clock ended the run.
    """

    thetas: list[NDArray] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    solver: str = ""
    share: float = 0.0
    out_of_time: bool = False

    @property
    def n_passes(self) -> int:
        return len(self.values)

    def passes(self, plain: PlainObjective, optimum: float, gap: float) -> int | None:
        """Return the number of passes until F − F* ≤ gap·F*, or None if that never came."""
        for number, (theta, value) in enumerate(zip(self.thetas, self.values, strict=True), 1):
            if value <= optimum * (1 + gap + ROUNDING) and plain.value(theta) <= optimum * (
                1 + gap
            ):
                return number
        return None


class _EnoughError(Exception):
    """Ends a run from its watcher."""


def follow(
    data: Data,
    C: float,
    solver: str,
    enough: Callable[[Record, Run], bool],
    most: int,
    seconds: float = np.inf,
    dtype: Any = None,
    l1_ratio: float = 0.0,
) -> Path:
    """Return the path of a run until ``enough`` is true, or the solver is stuck.

    Parameters
    ----------
    data : Data
    C : float
    solver : str
        "auto" or a name in `dsoftmax.solvers.table.SOLVERS`.
    enough : callable
        Called after each pass.
    most : int
        Most passes.
    seconds : float
        Most seconds.
    dtype : optional
        Dtype of the products. None is the default of a user.
    l1_ratio : float
    """
    path, began = Path(), time.perf_counter()

    def watch(record: Record, runs: Sequence[Run]) -> None:
        (run,) = runs
        path.thetas.append(run.theta)
        path.values.append(record.objective)
        path.solver, path.share = run.solver, run.statistics.sample.n_rows / data.n_rows
        if enough(record, run) or path.n_passes >= most:
            raise _EnoughError
        if time.perf_counter() - began > seconds:
            path.out_of_time = True
            raise _EnoughError

    settings = Settings(C=C, l1_ratio=l1_ratio, solver=solver, tol=0, max_iter=most, dtype=dtype)
    with suppress(_EnoughError):
        train(open_source(Table(data.X, data.y)), ThreadsEngine(), settings, watchers=[watch])
    return path


def follow_to(
    data: Data,
    C: float,
    solver: str,
    plain: PlainObjective,
    value: float,
    most: int,
    seconds: float = np.inf,
) -> Path:
    """Return the path of a run that ends when F ≤ ``value``."""

    def there(record: Record, run: Run) -> bool:
        return record.objective <= value * (1 + ROUNDING) and plain.value(run.theta) <= value

    return follow(data, C, solver, there, most, seconds)


def look_for_optimum(
    data: Data,
    C: float,
    plain: PlainObjective,
    seconds: float,
    unknown: float = TIGHT,
    dtype: Any = "float64",
    solver: str = AUTO,
) -> tuple[Bounds, Path]:
    """Return bounds of F*, and the path of a solver to the point that gives them.

    The point comes from the package, the proof does not: see `optimum_bounds`. The run ends after
    ``seconds``, or when its gradient says that about the part ``unknown`` of F* is not known. The
    last point is refined.
    """

    def close(record: Record, run: Run) -> bool:
        square = float(np.sum(run.gradient[:, :-1] ** 2))
        return square <= 2 * plain.penalty * unknown * record.objective

    path = follow(data, C, solver, close, 100_000, seconds, dtype)
    return plain.refined(path.thetas[-1]), path


def joined(known: Bounds, found: Bounds) -> Bounds:
    """Return the better point with the better bound."""
    point = found if found.value < known.value else known
    return replace(point, lower=max(found.lower, known.lower))
