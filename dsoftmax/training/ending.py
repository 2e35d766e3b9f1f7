"""The rules that end a run, each with a kind and a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from dsoftmax.first_pass.held_out import VALIDATION
from dsoftmax.objective.objective import Objective
from dsoftmax.training.run import Run
from dsoftmax.training.separation import say_complete, say_separated
from dsoftmax.training.settings import Settings

CLOSE = 0.01
"""Most distance from the minimum, as a fraction of F, at which a run without a penalty ends."""


class Kind(Enum):
    """The rule that ended a run."""

    CONVERGED = "max|∇F| ≤ tol, or as small as rounding lets it be, and about F − F* ≤ tol"
    SEPARATED = "classes are separable, completely or not, and F has no finite optimum"
    EARLY = "the loss on the held-out rows has stopped falling"
    ROUNDING = "rounding, or an F that is not finite, allows no further step"
    MAX_ITER = "max_iter iterations"
    ASKED = "a watcher asked for it"


@dataclass(frozen=True)
class Ending:
    """The end of a run.

    Attributes
    ----------
    kind : Kind
    converged : bool
        Whether the run did what was asked: it met the tolerance, or stopped early as the settings
        or a watcher say.
    sentence : str
    """

    kind: Kind
    converged: bool
    sentence: str


def find_ending(
    run: Run, settings: Settings, objective: Objective, names: Sequence[str] | None = None
) -> Ending | None:
    """Return the end of a run at its present state; None while it continues.

    Parameters
    ----------
    run : Run
    settings : Settings
    objective : Objective
    names : sequence of p str, optional
        Names of the features.
    """
    state = run.state
    if unanswered(state) or run.suspect:
        return None
    counted = f"after {state.n_iter} iterations, {run.n_passes} passes"
    found = f"max|∇F| = {run.gradient_max:.2e}"
    distance = _distance(run, objective)
    separation = _separation(run, settings, objective, names)
    if separation:
        return Ending(Kind.SEPARATED, False, f"Stopped {counted}: {separation}")
    # A distance that is not known hinders no end. Where classes are separable, it falls with F.
    most = settings.tol if np.isfinite(settings.C) else min(settings.tol, CLOSE * state.value)
    close = not run.gap > most
    if run.gradient_max <= settings.tol and close:
        sentence = f"Converged {counted}: {found} ≤ tol = {settings.tol:g}{distance}"
        return Ending(Kind.CONVERGED, True, sentence)
    reason = blocked(run, objective) if run.double else ""
    if reason and run.gap <= most and state.n_iter:
        sentence = (
            f"Converged {counted}: {found} is as small as rounding lets it be in the units of the "
            f"features{distance}"
        )
        return Ending(Kind.CONVERGED, True, sentence)
    if stops_early(settings, objective) and run.since >= settings.n_iter_no_change:
        which = "validation" if objective.held == VALIDATION else "held-out"
        sentence = (
            f"Stopped early {counted}: the loss on the {which} rows has not fallen below "
            f"{run.best_loss:.6g} for {run.since} iterations. The coefficients are those of that "
            "point."
        )
        return Ending(Kind.EARLY, True, sentence)
    if reason:
        sentence = f"Stopped {counted}: {reason}; {found}, tol = {settings.tol:g}{distance}"
        return Ending(Kind.ROUNDING, False, sentence)
    if state.n_iter >= settings.max_iter:
        sentence = (
            f"Stopped at max_iter = {settings.max_iter} iterations, {run.n_passes} passes: {found} "
            f"is still above tol = {settings.tol:g}{distance} Increase max_iter, or scale the "
            "features."
        )
        return Ending(Kind.MAX_ITER, False, sentence)
    return None


def asked_for(run: Run) -> Ending:
    """Return the end of a run that a watcher ended."""
    sentence = (
        f"Stopped after {run.state.n_iter} iterations, {run.n_passes} passes, because a callback "
        f"asked for it: max|∇F| = {run.gradient_max:.2e}."
    )
    return Ending(Kind.ASKED, True, sentence)


def _separation(
    run: Run, settings: Settings, objective: Objective, names: Sequence[str] | None
) -> str:
    """Say which classes a linear function separates, and by which features; empty if none does."""
    if np.isfinite(settings.C):
        return ""
    if objective.separated(run.state.value):
        return say_complete(objective.strengths(run.state.theta), names)
    if not len(run.margins):
        return ""
    strengths = objective.strengths(run.separator)
    return say_separated(run.margins, run.statistics.classes, strengths, names)


def _distance(run: Run, objective: Objective) -> str:
    """Return the end of a sentence: a bound of F − F* if one holds, else its estimate."""
    bound = objective.gap_bound(run.state.gradient)
    if np.isfinite(bound):
        return f"; F − F* ≤ {bound:.1e}."
    return f"; F − F* is about {run.gap:.1e} (an estimate)." if np.isfinite(run.gap) else "."


def stops_early(settings: Settings, objective: Objective) -> bool:
    """Return whether the loss on the held-out rows may end the run."""
    return settings.validation_fraction is not None or objective.held == VALIDATION


def blocked(run: Run, objective: Objective) -> str:
    """Return why products of this precision allow no further step; empty while they do."""
    state = run.state
    if state.stuck or unanswered(state):
        return str(state.stuck)
    small = run.gradient_max <= objective.gradient_error(state.theta)
    return "the gradient is as small as rounding lets it be" if small else ""


def unanswered(state: Any) -> bool:
    """Return whether the solver still waits for its first answer."""
    return bool(np.isnan(state.value)) and not state.stuck
