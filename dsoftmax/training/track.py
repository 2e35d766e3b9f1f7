"""One model on its way, from its first question to its end."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import DataError
from dsoftmax.first_pass.held_out import VALIDATION
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.objective.objective import Objective
from dsoftmax.results.model import Model, centred
from dsoftmax.solvers.protocol import Answer, Query
from dsoftmax.solvers.table import Choice, solver_entry
from dsoftmax.training.run import Record, Result, Run
from dsoftmax.training.settings import Settings

Float = NDArray[np.float64]


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
        cls,
        settings: Settings,
        objective: Objective,
        statistics: Statistics,
        choice: Choice,
        theta: Float | None,
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
        track.run = Run(
            statistics,
            state,
            1,
            objective.dtype == np.float64,
            objective.kernel,
            choice.solver,
            choice.why,
        )
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
            if self.stops_early and (
                state.n_iter > before.state.n_iter or np.isinf(before.best_loss)
            ):
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
        if np.isfinite(state.decrement) or self.objective.l1 > 0:
            return float(state.decrement)
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
        model = Model(
            centred(theta, keep_zeros=settings.l1_ratio > 0), run.statistics.classes, about
        )
        return Result(model, run, status, converged, history)


def _require_shape(theta: Float, expected: tuple[int, ...]) -> None:
    if theta.shape != expected:
        raise DataError(
            f"The coefficients to start from have shape {theta.shape}; needed is {expected} for {expected[0]} classes and "
            f"{expected[1] - 1} features. Start from coefficients of the same classes and features, or from none."
        )


def _unanswered(state: Any) -> bool:
    return bool(np.isnan(state.value)) and not state.stuck
