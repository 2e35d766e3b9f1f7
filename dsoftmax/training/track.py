"""One model of a run: it asks the solver, takes the answers, and knows when it has ended."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import DataError
from dsoftmax.first_pass.held_out import VALIDATION
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.objective.margins import separates
from dsoftmax.objective.objective import Objective
from dsoftmax.results.model import Model, centred
from dsoftmax.solvers.protocol import Answer, Query, Solver
from dsoftmax.solvers.rehearsal import rehearse
from dsoftmax.solvers.table import Choice, solver_entry
from dsoftmax.training.ending import Ending, Kind, blocked, find_ending, stops_early
from dsoftmax.training.recheck import require_same_data, with_trial, without_trial
from dsoftmax.training.run import Run
from dsoftmax.training.settings import STANDARD, Settings

Float = NDArray[np.float64]


class Track:
    """One model, from its first question to its end.

    Parameters
    ----------
    settings : Settings
    objective : Objective
    solver : Solver
        Made for this objective.
    run : Run
        State of the model.
    names : sequence of p str, optional
        Names of the features.
    """

    def __init__(
        self,
        settings: Settings,
        objective: Objective,
        solver: Solver,
        run: Run,
        names: Sequence[str] | None = None,
    ) -> None:
        self.settings, self.objective, self.solver, self.run = settings, objective, solver, run
        self.names = names
        self.rechecks = False
        """Whether the next pass computes F and ∇F at the accepted point again."""

    def ask(self) -> Query:
        """Return the next question.

        A direction that separates the sample is judged by a pass of its own. The model changes to
        products in float64, at the same point, once float32 allows no further step.
        """
        if self.run.suspect:
            return Query(self.run.state.theta, separator=self.run.separator)
        if blocked(self.run, self.objective):
            self.rechecks = False  # the products of the next pass have another precision
            self.objective = self.objective.in_double()
            state = self.solver.start(self.run.state.theta, None, self.run.state.n_iter)
            self.run = replace(self.run, double=True, state=state)
        state, query = self.solver.ask(self.run.state)
        self.run = replace(self.run, state=state)
        query = replace(query, moments=True)  # the distance from the minimum needs them
        return with_trial(query, state.theta) if self.rechecks else query

    def tell(self, query: Query, answer: Answer) -> None:
        """Take the answer of a pass."""
        before = self.run
        if self.rechecks and answer.margins is None:
            self.rechecks = False
            query, answer, again = without_trial(query, answer)
            require_same_data(before.state, again)
        if answer.margins is not None:
            self.run = _judged_by(before, answer.margins)
            return
        state = self.solver.tell(before.state, answer)
        run = replace(before, state=state, n_passes=before.n_passes + 1)
        if answer.held is not None:
            run = self._scored(run, query, answer)
            moved = state.n_iter > before.state.n_iter or np.isinf(before.best_loss)
            if stops_early(self.settings, self.objective) and moved:
                run = _judged(run)
        self.run = replace(run, gap=_gap(run, self.objective, answer))
        if self.run.looks and self._would_end():
            separator, margins = self.objective.separator(state.theta)
            self.run = replace(self.run, looks=False, separator=separator, margins=margins)

    def _would_end(self) -> bool:
        """Return whether the run is at a point that may be near an infimum."""
        ending = self.ending()
        return ending is not None and ending.kind not in (Kind.SEPARATED, Kind.EARLY)

    def _scored(self, run: Run, query: Query, answer: Answer) -> Run:
        """Return the run with the loss on the held-out rows, if a pass visited its point."""
        points = [query.theta, *(() if query.trials is None else query.trials)]
        for point, found in zip(points, (answer, *answer.trials), strict=True):
            if found.held is not None and np.array_equal(point, run.state.theta):
                run = replace(run, held=found.held)
                if self.objective.held == VALIDATION and not run.held[2] > 0:
                    raise DataError(
                        "The weights of the validation rows are all zero; expected a positive sum. "
                        "Leave the weights out, or check their units."
                    )
        return run

    def ending(self) -> Ending | None:
        """Return the end of the model's run; None while it continues."""
        return find_ending(self.run, self.settings, self.objective, self.names)

    def model(self, ending: Ending) -> Model:
        """Return the trained model."""
        settings, run = self.settings, self.run
        point = run.best if ending.kind is Kind.EARLY else run.state.theta
        theta = self.objective.coordinates.raw(point)
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
            "status": ending.sentence,
        }
        theta = centred(theta, keep_zeros=settings.l1_ratio > 0)
        names = None if self.names is None else np.array(self.names, object)
        scaling = None
        if len(run.scale):
            about["scale"] = STANDARD
            scaling = np.stack([run.shift, run.scale])
        return Model(theta, run.statistics.classes, about, names, scaling)


def begin_track(
    settings: Settings,
    objective: Objective,
    statistics: Statistics,
    choice: Choice,
    theta: Float | None = None,
    *,
    looks: bool = False,
    names: Sequence[str] | None = None,
) -> Track:
    """Return the track of a model after the first pass, in coordinates of centred features.

    Parameters
    ----------
    settings : Settings
    objective : Objective
    statistics : Statistics
        Statistics of all rows, also of those that are held out.
    choice : Choice
        Solver, with the reason for it.
    theta : (K, p+1) float64, optional
        Starting point; log priors when None.
    looks : bool
        Whether the sample is searched for a separation if there is no penalty.
    names : sequence of p str, optional
        Names of the features.

    Raises
    ------
    DataError
        ``theta`` has another shape.
    """
    objective, state = objective.centred(), None
    if theta is None:
        start = objective.start()[0]
    else:
        _require_shape(theta, statistics.class_sums.shape)
        start = objective.point(theta)
    if choice.otherwise:
        single = objective.dtype != np.float64
        problem, error = objective.problem(), objective.value_error
        rehearsal = rehearse(problem, start, single, settings.tol, error)
        choice, state = rehearsal.settle(choice), rehearsal.state if rehearsal.arrived else None
    if solver_entry(choice.solver).double:
        objective = objective.in_double()
    solver = solver_entry(choice.solver).make(objective.problem())
    if state is None:
        state = solver.start(start, objective.start()[1] if theta is None else None, 0)
    run = Run(
        statistics,
        state,
        statistics.n_passes,
        objective.dtype == np.float64,
        objective.kernel,
        choice.solver,
        choice.why,
        shift=objective.coordinates.shift,
        scale=objective.coordinates.scale,
        looks=looks and not np.isfinite(settings.C) and not statistics.soft.any(),
    )
    run = replace(run, gap=_gap(run, objective, None))
    return Track(settings, objective, solver, run, names)


def resume_track(
    settings: Settings, objective: Objective, run: Run, names: Sequence[str] | None = None
) -> Track:
    """Return the track of a model whose run is resumed.

    Its first pass also visits the point where the run stopped, to see that the data are the same.
    """
    objective = replace(objective, coordinates=run.coordinates)
    solver = solver_entry(run.solver).make(objective.problem())
    track = Track(settings, objective, solver, run, names)
    track.rechecks = bool(np.isfinite(run.state.value))
    return track


def _judged_by(run: Run, margins: Float) -> Run:
    """Return the run after the pass that has found the margins of all rows along the direction."""
    run = replace(run, n_passes=run.n_passes + 1)
    if separates(margins):
        return replace(run, margins=margins)
    return replace(run, separator=np.zeros((0, 0)))


def _judged(run: Run) -> Run:
    """Return the run after a step, with its best point by the loss on the held-out rows.

    Before a point has a loss there is no best one, and a rejected trial is no step without gain.
    """
    if run.held_loss < run.best_loss:
        return replace(run, best=run.state.theta, best_loss=run.held_loss, since=0)
    return replace(run, since=run.since + 1) if np.isfinite(run.best_loss) else run


def _gap(run: Run, objective: Objective, answer: Answer | None) -> float:
    """Return an estimate of F − F*, the rounding of F included.

    It is the solver's own if it has one, else the objective's. It is at most F, because F* ≥ 0.
    """
    state, found = run.state, float(run.state.decrement)
    if not (np.isfinite(found) or objective.penalty.l1 > 0):
        found = objective.gap(state.gradient, None if answer is None else answer.moments)
    return min(found, state.value) + objective.value_error(state.value, state.theta)


def _require_shape(theta: Float, expected: tuple[int, ...]) -> None:
    if theta.shape != expected:
        raise DataError(
            f"The coefficients to start from have shape {theta.shape}; expected {expected}, for "
            f"{expected[0]} classes and {expected[1] - 1} features. Pass coefficients of the same "
            "classes and features, or none."
        )
