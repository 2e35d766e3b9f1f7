"""The run: a loop of passes that asks a solver, answers from the data, and lets watchers see."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.blocks import Source, n_rows
from dsoftmax.engine import Engine
from dsoftmax.engine.blas import one_blas_thread
from dsoftmax.engine.meter import Done
from dsoftmax.engine.visit import Footprint
from dsoftmax.errors import DataError, MemoryLimitError, OptionError
from dsoftmax.labels import Encoder, given_classes
from dsoftmax.model import Model, centred
from dsoftmax.objective import Cost, Evaluate, Objective, choose_kernel, class_weight_vector
from dsoftmax.oracle import Query, Solver
from dsoftmax.sample import Draw, plan_draw
from dsoftmax.softmax import compute_dtype
from dsoftmax.solvers import SOLVERS, Entry, solver_entry
from dsoftmax.statistics import MAX_GRAM_FEATURES, Collect, Statistics, finish, gram_part

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """What to minimise, how, and when to stop.

    Attributes
    ----------
    C : float
        Inverse strength of the penalty; ``inf`` for none.
    l1_ratio : float
        ρ: the L1 part of the penalty, 0 … 1; the rest is L2.
    solver : str
        A name in `dsoftmax.solvers.SOLVERS`.
    tol : float
        Converged when max|∇F| ≤ tol.
    max_iter : int
        Iterations (accepted steps) at most.
    fit_intercept : bool
    class_weight : dict, "balanced" or None
    classes : (K,) ndarray, optional
        Found in the first pass when None.
    dtype : str or dtype, optional
        Of the products; by the rule of `compute_dtype` when None.
    kernel : {"auto", "numpy", "fused"}
        What computes value and gradient; see `choose_kernel`.
    """

    C: float = 1.0
    solver: str = "lbfgs"
    tol: float = 1e-4
    max_iter: int = 100
    fit_intercept: bool = True
    class_weight: Any = None
    classes: NDArray | None = None
    dtype: Any = None
    kernel: str = "auto"
    l1_ratio: float = 0.0

    def check(self) -> None:
        """Raise unless every setting makes sense.

        Raises
        ------
        OptionError
        """
        entry = solver_entry(self.solver)
        if not _is_number(self.l1_ratio) or not 0 <= self.l1_ratio <= 1:
            raise OptionError(f"l1_ratio={self.l1_ratio!r}; needed is a number from 0 (L2 alone) to 1 (L1 alone).")
        if self.l1_ratio > 0 and not entry.l1:
            able = " or ".join(f"solver={name!r}" for name, other in SOLVERS.items() if other.l1)
            raise OptionError(
                f"solver={self.solver!r} needs a penalty with a gradient, and the L1 part of l1_ratio={self.l1_ratio} has none. "
                f"Pass {able} (--solver)."
            )
        if not _is_number(self.C) or not self.C > 0:
            raise OptionError(f"C={self.C!r}; needed is a positive number, or inf for no penalty.")
        if not _is_number(self.tol) or not self.tol >= 0:
            raise OptionError(f"tol={self.tol!r}; needed is a number of at least 0.")
        if not isinstance(self.max_iter, (int, np.integer)) or isinstance(self.max_iter, bool) or self.max_iter < 0:
            raise OptionError(f"max_iter={self.max_iter!r}; needed is a whole number of at least 0.")
        if self.dtype is not None:
            product_dtype(self.dtype)
        if self.kernel != "auto":
            choose_kernel(self.kernel)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def product_dtype(dtype: Any) -> np.dtype:
    """Return the dtype of products that an option names.

    Raises
    ------
    OptionError
        It is neither float32 nor float64.
    """
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in (np.float32, np.float64):
        raise OptionError(f"dtype={dtype!r}; needed is 'float32', 'float64' or None (chosen by what is stored).")
    return found


@dataclass(frozen=True)
class Record:
    """One pass, as history keeps it.

    Attributes
    ----------
    pass_ : int
        1 is the statistics pass.
    iteration : int
        Accepted steps so far.
    objective, gradient_max : float
        F and max|∇F| at the accepted point.
    seconds : float
        Of the pass.
    rows, bytes : int
        Visited; bytes of X, decoded.
    work : dict from str to Done
        What each worker did of it, by its name; this process has the name "".
    """

    pass_: int
    iteration: int
    objective: float
    gradient_max: float
    seconds: float
    rows: int
    bytes: int
    work: Mapping[str, Done] = field(default_factory=dict)

    @property
    def kept(self) -> float:
        """The part of the bytes that was in memory already, 0 … 1."""
        return sum(self.work.values(), Done()).kept

    def as_dict(self) -> dict[str, Any]:
        """Return the record with the names that history uses: "pass" for ``pass_``."""
        return {
            "pass": self.pass_,
            "iteration": self.iteration,
            "objective": self.objective,
            "gradient_max": self.gradient_max,
            "seconds": self.seconds,
            "rows": self.rows,
            "bytes": self.bytes,
            "kept": self.kept,
            "work": {
                name: {
                    "rows": done.rows,
                    "seconds": done.seconds,
                    "kept": done.kept,
                    "retries": done.retries,
                    "peak": done.peak,
                }
                for name, done in self.work.items()
            },
        }


@dataclass(frozen=True)
class Run:
    """All of a run that evolves.

    Attributes
    ----------
    statistics : Statistics
    state : State
        The solver's.
    n_passes : int
        Statistics included.
    double : bool
        Whether products are in float64, from the beginning or because float32 could not go on.
    kernel : str
        What computes value and gradient: a name in `dsoftmax.objective.KERNELS`.
    """

    statistics: Statistics
    state: Any
    n_passes: int
    double: bool
    kernel: str

    @property
    def gradient_max(self) -> float:
        return float(np.abs(self.state.gradient).max())


Watcher = Callable[[Record, Run], None]
"""Called after every pass; it only watches."""


@dataclass(frozen=True)
class Result:
    """A run that has ended.

    Attributes
    ----------
    model : Model
    run : Run
    status : str
        A sentence.
    converged : bool
    history : list of Record
        The passes of this call.
    """

    model: Model
    run: Run
    status: str
    converged: bool
    history: list[Record] = field(default_factory=list)


def collect_statistics(
    engine: Engine, source: Source, classes: NDArray | None, gram: str = "", draw: Draw | None = None
) -> tuple[Statistics, Cost]:
    """Make the first pass.

    Parameters
    ----------
    engine : Engine
    source : Source
    classes : (K,) ndarray, optional
    gram : {"", "exact", "estimate"}
        Whether to collect the Gram matrix, from all rows or from enough of them; not for CSR or very many features.
    draw : Draw, optional
        The sample to draw.

    Raises
    ------
    DataError
        What the data hold is not what training needs.
    """
    started = time.perf_counter()
    wanted = bool(gram) and not source.sparse and source.n_features <= MAX_GRAM_FEATURES
    part = (1.0 if gram == "exact" else gram_part(source.n_features, n_rows(source))) if wanted else 0.0
    encoder = None if classes is None else Encoder(given_classes(classes))
    totals = engine.total(Collect(part, encoder, draw), source)
    statistics = finish(totals.result(), classes)
    return statistics, Cost(time.perf_counter() - started, totals.n_rows, totals.n_bytes, totals.work)


def expected_footprint(source: Source, settings: Settings, allowed: int | None) -> Footprint:
    """Return what a pass takes beside the rows, before the classes are counted: see `Collect.footprint`."""
    if settings.classes is None:
        return Collect().footprint(source.n_features, source.sparse)
    encoder = Encoder(given_classes(settings.classes))
    query = Query(np.zeros((len(encoder.classes), source.n_features + 1)))
    visit = Evaluate((query,), encoder, None, _first_dtype(source, settings), choose_kernel(settings.kernel, None, allowed))
    return visit.footprint(source.n_features, source.sparse)


def make_objective(
    source: Source, engine: Engine, settings: Settings, statistics: Statistics, double: bool, kernel: str
) -> Objective:
    """Return F for these settings."""
    dtype = np.dtype(np.float64) if double else _first_dtype(source, settings)
    weights = class_weight_vector(settings.class_weight, statistics)
    C, l1_ratio = float(settings.C), float(settings.l1_ratio)
    return Objective(engine, source, statistics, C, weights, settings.fit_intercept, dtype, kernel, l1_ratio)


def _first_dtype(source: Source, settings: Settings) -> np.dtype:
    return compute_dtype(source.dtype) if settings.dtype is None else product_dtype(settings.dtype)


def train(
    source: Source,
    engine: Engine,
    settings: Settings,
    *,
    theta: Float | None = None,
    resume: Run | None = None,
    watchers: Sequence[Watcher] = (),
) -> Result:
    """Train to the tolerance, or until the settings say stop.

    Parameters
    ----------
    source : Source
        With labels.
    engine : Engine
    settings : Settings
    theta : (K, p+1) float64, optional
        Where to start; log priors when None.
    resume : Run, optional
        Go on from here; the result is bitwise that of a run that was never interrupted.
    watchers : sequence of Watcher

    Raises
    ------
    DataError, OptionError, ReadError, MemoryLimitError, ClusterError
    """
    settings.check()
    kernel = choose_kernel(settings.kernel, None if resume is None else resume.kernel, engine.process_limit)
    entry = solver_entry(settings.solver)
    history: list[Record] = []

    def tell_watchers(run: Run, cost: Cost) -> None:
        state = run.state
        record = Record(
            run.n_passes, state.n_iter, state.value, run.gradient_max, cost.seconds, cost.rows, cost.bytes, cost.work
        )
        history.append(record)
        for watch in watchers:
            watch(record, run)

    with one_blas_thread():  # the driver's own arithmetic too: its bits must not depend on its cores
        if resume is not None:
            run = resume
            engine.reserve(held_bytes(entry, run.statistics))
            objective = make_objective(source, engine, settings, run.statistics, run.double, kernel)
            solver = entry.make(objective.problem())
        else:
            draw = plan_draw(source, engine.process_limit) if entry.sample else None
            if entry.sample and draw is None:
                raise MemoryLimitError(
                    f"solver={settings.solver!r} works on a sample in memory, and the memory allowed has no room for 100 rows. Allow "
                    "more" + ("." if settings.l1_ratio else ", or pass solver='lbfgs'.")
                )
            statistics, cost = collect_statistics(engine, source, settings.classes, entry.gram, draw)
            engine.reserve(held_bytes(entry, statistics))
            objective = make_objective(source, engine, settings, statistics, entry.double, kernel)
            solver = entry.make(objective.problem())
            run = Run(statistics, _start(solver, objective, theta), 1, objective.dtype == np.float64, kernel)
            tell_watchers(run, cost)
        while (ending := _ending(run, settings, blocked := _blocked(run, objective))) is None:
            if blocked:  # float32 cannot go on: the same point, with products in float64
                objective = objective.in_double()
                run = replace(run, double=True, state=solver.start(run.state.theta, None, run.state.n_iter))
            answer, cost = objective.answer(solver.ask(run.state))
            run = replace(run, state=solver.tell(run.state, answer), n_passes=run.n_passes + 1)
            tell_watchers(run, cost)
    status, converged = ending
    return Result(_model(run, source, settings, status), run, status, converged, history)


def held_bytes(entry: Entry, statistics: Statistics) -> int:
    """Return what a solver and what it knows take in this process (bytes)."""
    size = statistics.class_sums.size
    matrices = entry.matrices if entry.matrix_entries is None or size <= entry.matrix_entries else 0
    return 8 * (entry.vectors * size + matrices * size**2) + 8 * 3 * statistics.gram.size + 2 * statistics.sample.n_bytes


def _start(solver: Solver, objective: Objective, theta: Float | None) -> Any:
    if theta is None:
        return solver.start(*objective.start(), 0)
    expected = objective.statistics.class_sums.shape
    if theta.shape != expected:
        raise DataError(
            f"The coefficients to start from have shape {theta.shape}; needed is {expected} for {expected[0]} classes and "
            f"{expected[1] - 1} features. Fit with warm_start=False, or on data with the same classes and features."
        )
    return solver.start(objective.in_gauge(theta), None, 0)


def _unanswered(state: Any) -> bool:
    return bool(np.isnan(state.value)) and not state.stuck


def _blocked(run: Run, objective: Objective) -> str:
    """Return why products of this precision cannot go on, empty while they can."""
    if run.state.stuck or _unanswered(run.state):
        return str(run.state.stuck)
    small = run.gradient_max <= objective.gradient_error(run.state.theta)
    return "the gradient is as small as rounding lets it be" if small else ""


def _ending(run: Run, settings: Settings, blocked: str) -> tuple[str, bool] | None:
    """Return why the run ends here, as a sentence, and whether it converged; None while it goes on."""
    state, size = run.state, run.gradient_max
    found = f"max|∇F| = {size:.2e}"
    if _unanswered(state):
        return None
    if size <= settings.tol:
        return f"Converged after {state.n_iter} iterations, {run.n_passes} passes: {found} ≤ tol = {settings.tol:g}.", True
    if blocked and run.double:
        return (
            f"Stopped after {state.n_iter} iterations, {run.n_passes} passes: {blocked}; {found}, tol = {settings.tol:g}.",
            False,
        )
    if state.n_iter >= settings.max_iter:
        return (
            f"Stopped at max_iter = {settings.max_iter} iterations, {run.n_passes} passes: {found} is still above "
            f"tol = {settings.tol:g}. Increase max_iter, or scale the features.",
            False,
        )
    return None


def _model(run: Run, source: Source, settings: Settings, status: str) -> Model:
    about = {
        "C": float(settings.C) if np.isfinite(settings.C) else "inf",
        "l1_ratio": float(settings.l1_ratio),
        "solver": settings.solver,
        "fit_intercept": settings.fit_intercept,
        "n_rows": int(run.statistics.class_rows.sum()),
        "n_iter": int(run.state.n_iter),
        "n_passes": run.n_passes,
        "objective": float(run.state.value),
        "gradient_max": run.gradient_max,
        "status": status,
    }
    theta = centred(run.state.theta, keep_zeros=settings.l1_ratio > 0)
    return Model(theta, run.statistics.classes, about)
