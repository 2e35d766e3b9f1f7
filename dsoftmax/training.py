"""The run: a loop of passes that asks solvers, answers from the data, and lets watchers see."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.blocks import Source, n_rows
from dsoftmax.engine import Engine
from dsoftmax.engine.blas import one_blas_thread
from dsoftmax.engine.memory import MARGIN, PROCESS_BYTES
from dsoftmax.engine.meter import Done
from dsoftmax.engine.visit import Footprint
from dsoftmax.errors import DataError, MemoryLimitError, OptionError
from dsoftmax.evaluate import Evaluate, Question, choose_kernel
from dsoftmax.held import VALIDATION, Held
from dsoftmax.labels import Encoder, given_classes
from dsoftmax.model import Model, centred
from dsoftmax.objective import Cost, Objective, answers, class_weight_vector
from dsoftmax.oracle import Answer, Query
from dsoftmax.process import free_bytes
from dsoftmax.sample import Draw, plan_draw
from dsoftmax.settings import Settings, product_dtype
from dsoftmax.softmax import compute_dtype
from dsoftmax.solvers import AUTO, L1_SOLVER, Choice, Entry, choose, solver_entry
from dsoftmax.solvers.auto import HESSIAN_BYTES, HESSIAN_PART, SURROGATE
from dsoftmax.statistics import MAX_GRAM_FEATURES, Collect, Statistics, finish, gram_part
from dsoftmax.units import size
from dsoftmax.validation import with_validation

Float = NDArray[np.float64]


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
    gap : float
        An estimate of F − F*: see `dsoftmax.objective.Objective.gap`.
    seconds : float
        Of the pass.
    rows, bytes : int
        Visited; bytes of X, decoded.
    work : dict from str to Done
        What each worker did of it, by its name; this process has the name "".
    held_loss : float
        Mean loss on the rows that are held out; nan where none are.
    running : int
        Models that go on.
    models : tuple of dict
        What is recorded of each, where many models share the passes.
    """

    pass_: int
    iteration: int
    objective: float
    gradient_max: float
    seconds: float
    rows: int
    bytes: int
    work: Mapping[str, Done] = field(default_factory=dict)
    gap: float = np.nan
    held_loss: float = np.nan
    running: int = 1
    models: tuple[dict[str, Any], ...] = ()

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
            "gap": self.gap,
            "held_loss": self.held_loss,
            "running": self.running,
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
            **({"models": list(self.models)} if self.models else {}),
        }


@dataclass(frozen=True)
class Run:
    """All of a run that evolves.

    Attributes
    ----------
    statistics : Statistics
        Of all rows.
    state : State
        The solver's.
    n_passes : int
        Statistics included.
    double : bool
        Whether products are in float64, from the beginning or because float32 could not go on.
    kernel : str
        What computes value and gradient: a name in `dsoftmax.evaluate.KERNELS`.
    solver : str
        A name in `dsoftmax.solvers.SOLVERS`: what "auto" became.
    why : str
        Why it was chosen, a clause.
    gap : float
        An estimate of F − F*.
    held : (3,) float64
        Of the rows that are held out: loss, weight of the hits, weight; nan where none are.
    best : (K, p+1) float64
        Where the loss on the held-out rows was least; of shape (0, 0) where none are held out.
    best_loss : float
        The mean loss there.
    since : int
        Iterations since then.
    """

    statistics: Statistics
    state: Any
    n_passes: int
    double: bool
    kernel: str
    solver: str
    why: str = ""
    gap: float = np.nan
    held: Float = field(default_factory=lambda: np.full(3, np.nan))
    best: Float = field(default_factory=lambda: np.zeros((0, 0)))
    best_loss: float = np.inf
    since: int = 0

    @property
    def gradient_max(self) -> float:
        return float(np.abs(self.state.gradient).max())

    @property
    def held_loss(self) -> float:
        """Mean loss on the rows that are held out; nan where none are."""
        return float(self.held[0] / self.held[2]) if self.held[2] > 0 else np.nan


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
    engine: Engine,
    source: Source,
    classes: NDArray | None,
    gram: str = "",
    draw: Draw | None = None,
    helds: tuple[Held, ...] = (),
    kernel: str = "numpy",
) -> tuple[Statistics, Cost]:
    """Make the first pass.

    Parameters
    ----------
    engine : Engine
    source : Source
    classes : (K,) ndarray, optional
    gram : {"", "exact", "estimate"}
        Whether to collect the Gram matrix, from all rows or from enough of them; not for CSR or very many features, and not
        where memory is tight: steps do without.
    draw : Draw, optional
        The sample to draw.
    helds : tuple of Held
        Disjoint parts that some model will not learn from.
    kernel : str

    Raises
    ------
    DataError
        What the data hold is not what training needs.
    """
    started = time.perf_counter()
    most, left = MAX_GRAM_FEATURES, room(engine.process_limit)
    if left is not None:
        most = min(most, int((left / HESSIAN_PART / HESSIAN_BYTES) ** 0.5))
    wanted = bool(gram) and not source.sparse and source.n_features < most
    part = (1.0 if gram == "exact" else gram_part(source.n_features, n_rows(source))) if wanted else 0.0
    encoder = None if classes is None else Encoder(given_classes(classes))
    totals = engine.total(Collect(part, encoder, draw, helds, kernel), source)
    sums = totals.result()
    statistics = finish(sums, classes)
    statistics.require_held(helds, sums.get("marks"))
    return statistics, Cost(time.perf_counter() - started, totals.n_rows, totals.n_bytes, totals.work)


def room(allowed: int | None) -> int | None:
    """Return what is left of the bytes that a process may take, beside what one takes that holds no data; None for no limit.

    What is chosen by it shapes the run, so that it follows from the limit alone, not from what this process takes at the moment.
    """
    return None if allowed is None else max(allowed - PROCESS_BYTES - MARGIN, 0)


def expected_footprint(source: Source, settings: Settings, allowed: int | None) -> Footprint:
    """Return what a pass takes beside the rows, before the classes are counted: see `Collect.footprint`."""
    kernel = choose_kernel(settings.kernel, None, allowed)
    if settings.classes is None:
        return Collect(kernel=kernel).footprint(source.n_features, source.sparse)
    encoder = Encoder(given_classes(settings.classes))
    query = Query(np.zeros((len(encoder.classes), source.n_features + 1)))
    question = Question(query, None, _first_dtype(source, settings))
    visit = Evaluate((question,), encoder, kernel)
    return visit.footprint(source.n_features, source.sparse)


def make_objective(
    source: Source,
    engine: Engine,
    settings: Settings,
    statistics: Statistics,
    double: bool,
    kernel: str,
    held: Held | None = None,
    number: int | None = None,
) -> Objective:
    """Return F for these settings, over the rows that are not held out.

    Parameters
    ----------
    source : Source
    engine : Engine
    settings : Settings
    statistics : Statistics
    double : bool
        Whether products are in float64.
    kernel : str
    held : Held, optional
        What is held out.
    number : int, optional
        Of the part in the statistics, where its rows are among theirs.
    """
    dtype = np.dtype(np.float64) if double else _first_dtype(source, settings)
    of_rows = statistics if held is None or number is None else statistics.without(number, held)
    weights = class_weight_vector(settings.class_weight, of_rows)
    C, l1_ratio = float(settings.C), float(settings.l1_ratio)
    return Objective(engine, source, of_rows, C, weights, settings.fit_intercept, dtype, kernel, held, l1_ratio)


def _first_dtype(source: Source, settings: Settings) -> np.dtype:
    return compute_dtype(source.dtype) if settings.dtype is None else product_dtype(settings.dtype)


class Track:
    """One model on its way, from its first question to its end.

    Parameters
    ----------
    settings : Settings
    objective : Objective
    run : Run
    """

    def __init__(self, settings: Settings, objective: Objective, run: Run) -> None:
        self.settings, self.objective, self.run = settings, objective, run
        self.solver = solver_entry(run.solver).make(objective.problem())

    @classmethod
    def begin(
        cls, settings: Settings, objective: Objective, statistics: Statistics, choice: Choice, theta: Float | None
    ) -> "Track":
        """Return the track of a model after the first pass, from ``theta``, or from log priors where it is None."""
        track = cls.__new__(cls)
        track.settings, track.objective = settings, objective
        track.solver = solver_entry(choice.solver).make(objective.problem())
        if theta is None:
            start, answer = objective.start()
            state = track.solver.start(start, answer, 0)
        else:
            _require_shape(theta, statistics.class_sums.shape)
            state = track.solver.start(objective.in_gauge(theta), None, 0)
        track.run = Run(statistics, state, 1, objective.dtype == np.float64, objective.kernel, choice.solver, choice.why)
        track.run = replace(track.run, gap=track._gap(None))
        return track

    @property
    def stops_early(self) -> bool:
        """Whether the loss on what is held out may end the run."""
        return self.settings.validation_fraction is not None or self.objective.held == VALIDATION

    def ask(self) -> Query:
        """Return the next question; where float32 cannot go on, with products in float64 from the same point."""
        if self._blocked():
            self.objective = self.objective.in_double()
            state = self.solver.start(self.run.state.theta, None, self.run.state.n_iter)
            self.run = replace(self.run, double=True, state=state)
        state, query = self.solver.ask(self.run.state)
        self.run = replace(self.run, state=state)
        return query  # type: ignore[no-any-return]

    def tell(self, query: Query, answer: Answer) -> None:
        """Take in what a pass said."""
        before = self.run
        state = self.solver.tell(before.state, answer)
        run = replace(before, state=state, n_passes=before.n_passes + 1)
        if answer.held is not None:
            points = [query.theta, *(() if query.trials is None else query.trials)]
            for point, found in zip(points, (answer, *answer.trials), strict=True):
                if found.held is not None and np.array_equal(point, state.theta):
                    run = replace(run, held=found.held)
                    self._require_weight(run)
            if self.stops_early and (state.n_iter > before.state.n_iter or np.isinf(before.best_loss)):
                better = run.held_loss < run.best_loss
                run = (
                    replace(run, best=state.theta, best_loss=run.held_loss, since=0)
                    if better
                    else replace(run, since=run.since + 1)
                )
        self.run = run
        self.run = replace(run, gap=self._gap(answer))

    def _require_weight(self, run: Run) -> None:
        if self.objective.held == VALIDATION and not run.held[2] > 0:
            raise DataError(
                "The weights of the validation rows are all zero; needed is a positive sum. Leave them out, or check their units."
            )

    def _gap(self, answer: Answer | None) -> float:
        state = self.run.state
        known = getattr(state, "decrement", None)
        if known is not None:
            return float(known)
        return self.objective.gap(state.gradient, None if answer is None else answer.moments)

    def _blocked(self) -> str:
        """Return why products of this precision cannot go on, empty while they can."""
        state = self.run.state
        if state.stuck or _unanswered(state):
            return str(state.stuck)
        small = self.run.gradient_max <= self.objective.gradient_error(state.theta)
        return "the gradient is as small as rounding lets it be" if small else ""

    def ending(self) -> tuple[str, bool] | None:
        """Return why the run ends here, as a sentence, and whether it converged; None while it goes on."""
        run, settings = self.run, self.settings
        state, size = run.state, run.gradient_max
        if _unanswered(state):
            return None
        far = f"F − F* is about {run.gap:.1e} (an estimate)" if np.isfinite(run.gap) else ""
        bound = self.objective.gap_bound(state.gradient)
        if np.isfinite(bound):
            far = f"F − F* ≤ {bound:.1e}"
        counted = f"after {state.n_iter} iterations, {run.n_passes} passes"
        found = f"max|∇F| = {size:.2e}"
        tail = f"; {far}." if far else "."
        if size <= settings.tol:
            return f"Converged {counted}: {found} ≤ tol = {settings.tol:g}{tail}", True
        if not np.isfinite(settings.C) and self.objective.separated(state.value):
            return (
                f"Stopped {counted}: a linear function separates the classes, so that without a penalty there is no finite "
                "optimum: F falls towards 0 as θ grows. Pass a finite C.",
                False,
            )
        if self.stops_early and run.since >= settings.n_iter_no_change:
            which = "validation" if self.objective.held == VALIDATION else "held-out"
            return (
                f"Stopped early {counted}: the loss on the {which} rows has not fallen below {run.best_loss:.6g} for "
                f"{run.since} iterations; the coefficients are those of that point.",
                True,
            )
        if (blocked := self._blocked()) and run.double:
            return f"Stopped {counted}: {blocked}; {found}, tol = {settings.tol:g}{tail}", False
        if state.n_iter >= settings.max_iter:
            return (
                f"Stopped at max_iter = {settings.max_iter} iterations, {run.n_passes} passes: {found} is still above "
                f"tol = {settings.tol:g}{tail} Increase max_iter, or scale the features.",
                False,
            )
        return None

    def result(self, history: list[Record]) -> Result:
        """Return what the run has come to."""
        ending = self.ending()
        assert ending is not None
        status, converged = ending
        theta = self.run.best if status.startswith("Stopped early") else self.run.state.theta
        settings, run = self.settings, self.run
        about = {
            "C": float(settings.C) if np.isfinite(settings.C) else "inf",
            "l1_ratio": float(settings.l1_ratio),
            "solver": run.solver,
            "fit_intercept": bool(settings.fit_intercept),
            "n_rows": int(run.statistics.class_rows.sum()),
            "n_iter": int(run.state.n_iter),
            "n_passes": run.n_passes,
            "objective": float(run.state.value),
            "gradient_max": run.gradient_max,
            "status": status,
        }
        model = Model(centred(theta, keep_zeros=settings.l1_ratio > 0), run.statistics.classes, about)
        return Result(model, run, status, converged, history)


def train(
    source: Source,
    engine: Engine,
    settings: Settings,
    *,
    validation: Source | None = None,
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
    validation : Source, optional
        Rows that are not learnt from: training stops where the loss on them no longer falls. Every pass reads them too.
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
    if validation is not None:
        if settings.held is not None:
            raise OptionError("validation_fraction does nothing where validation rows are given. Leave one of them out.")
        source = with_validation(source, validation)
    history: list[Record] = []

    def watch(tracks: Sequence[Track], cost: Cost) -> None:
        (track,) = tracks
        history.append(_record(track.run, cost))
        for tell in watchers:
            tell(history[-1], track.run)

    with one_blas_thread():  # the driver's own arithmetic too: its bits must not depend on its cores
        held, number = (settings.held, 0) if validation is None else (VALIDATION, None)
        if resume is not None:
            kernel = choose_kernel(settings.kernel, resume.kernel, engine.process_limit)
            entry = solver_entry(resume.solver)
            engine.reserve(held_bytes(entry, resume.statistics))
            objective = make_objective(source, engine, settings, resume.statistics, resume.double, kernel, held, number)
            track = Track(settings, objective, resume)
        else:
            kernel = choose_kernel(settings.kernel, None, engine.process_limit)
            helds = () if settings.held is None else (settings.held,)
            statistics, cost = first_pass(source, engine, settings, kernel, helds)
            choice = resolve(settings, statistics, room(engine.process_limit), source.resident)
            entry = solver_entry(choice.solver)
            require_room(choice, held_bytes(entry, statistics))
            engine.reserve(held_bytes(entry, statistics))
            objective = make_objective(source, engine, settings, statistics, entry.double, kernel, held, number)
            track = Track.begin(settings, objective, statistics, choice, theta)
            watch([track], cost)
        advance([track], watch)
    return track.result(history)


def first_pass(
    source: Source, engine: Engine, settings: Settings, kernel: str, helds: tuple[Held, ...] = ()
) -> tuple[Statistics, Cost]:
    """Make the pass that collects what the solver of the settings will want to know."""
    auto = settings.solver == AUTO
    sample, gram = (True, "estimate") if auto else (solver_entry(settings.solver).sample, solver_entry(settings.solver).gram)
    draw = plan_draw(source, room(engine.process_limit)) if sample else None
    if sample and draw is None and not auto:
        raise MemoryLimitError(
            f"solver={settings.solver!r} works on a sample in memory, and the memory allowed has no room for one. Allow more, or "
            f"pass solver={AUTO!r}."
        )
    return collect_statistics(engine, source, settings.classes, gram, draw, helds, kernel)


def resolve(settings: Settings, statistics: Statistics, left: int | None, resident: bool, n_models: int = 1) -> Choice:
    """Return the solver of a run, or of so many models, and why it is that one: see `dsoftmax.solvers.auto.choose`."""
    if settings.solver != AUTO:
        return Choice(settings.solver, "as asked")
    if settings.l1_ratio > 0:
        return Choice(L1_SOLVER, "the penalty has an L1 part")
    K, d = statistics.class_sums.shape
    sample, n = statistics.sample, int(statistics.class_rows.sum())
    needed = held_bytes(solver_entry(SURROGATE), statistics, n_models)
    return choose(n, d - 1, K, sample.n_rows, sample.whole, bool(statistics.gram.size), needed, left, resident)


def advance(tracks: Sequence[Track], watch: Callable[[Sequence[Track], Cost], None]) -> None:
    """Make passes until every model has ended: one pass answers all that go on."""
    while running := [track for track in tracks if track.ending() is None]:
        queries = [track.ask() for track in running]
        found, cost = answers([track.objective for track in running], queries)
        for track, query, answer in zip(running, queries, found, strict=True):
            track.tell(query, answer)
        watch(tracks, cost)


def _record(run: Run, cost: Cost) -> Record:
    return Record(
        run.n_passes, run.state.n_iter, run.state.value, run.gradient_max, cost.seconds, cost.rows, cost.bytes, cost.work, run.gap,
        run.held_loss,
    )  # fmt: skip


def held_bytes(entry: Entry, statistics: Statistics, n_models: int = 1) -> int:
    """Return what solvers and what they know take in this process (bytes)."""
    K, d = statistics.class_sums.shape
    n, gram = int(statistics.class_rows.sum()), bool(statistics.gram.size)
    return entry.held_bytes(n, K, d - 1, gram, statistics.sample.n_bytes, n_models)


def require_room(choice: Choice, needed: int) -> None:
    """Raise if a solver would hold more than this machine has to give.

    Raises
    ------
    MemoryLimitError
    """
    free = free_bytes()
    if 0 < free < needed:
        raise MemoryLimitError(
            f"solver={choice.solver!r} would hold {size(needed)} between passes, and {size(free)} are free. Pass solver={AUTO!r}, "
            "which takes one that needs less, or fewer classes or features."
        )


def _require_shape(theta: Float, expected: tuple[int, ...]) -> None:
    if theta.shape != expected:
        raise DataError(
            f"The coefficients to start from have shape {theta.shape}; needed is {expected} for {expected[0]} classes and "
            f"{expected[1] - 1} features. Start from coefficients of the same classes and features, or from none."
        )


def _unanswered(state: Any) -> bool:
    return bool(np.isnan(state.value)) and not state.stuck
