"""The objective of one model: F over the rows that it learns from."""

import numpy as np

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.first_pass.held_out import HeldOut
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.objective.class_weights import class_weight_vector
from dsoftmax.objective.objective import Objective
from dsoftmax.training.prepare import first_dtype
from dsoftmax.training.settings import Settings


def make_objective(
    source: Source,
    engine: Engine,
    settings: Settings,
    statistics: Statistics,
    double: bool,
    kernel: str,
    held_out: HeldOut | None = None,
    part: int | None = None,
) -> Objective:
    """Return F for these settings, over the rows that are not held out.

    Parameters
    ----------
    source : Source
    engine : Engine
    settings : Settings
    statistics : Statistics
        Statistics of all rows.
    double : bool
        Whether products are in float64.
    kernel : str
    held_out : HeldOut, optional
        Rows that are held out.
    part : int, optional
        Number of these rows among the parts of the statistics; None if the statistics do not
        count them.
    """
    dtype = np.dtype(np.float64) if double else first_dtype(source, settings)
    known = statistics if held_out is None or part is None else statistics.without(part, held_out)
    weights = class_weight_vector(settings.class_weight, known)
    C, l1_ratio = float(settings.C), float(settings.l1_ratio)
    intercept = settings.fit_intercept
    return Objective(
        engine, source, known, C, weights, intercept, dtype, kernel, held_out, l1_ratio
    )
