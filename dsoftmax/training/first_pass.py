"""The first pass: one visit to every chunk that collects the statistics of the data.

Standardised features whose means exceed their spreads by far need a second visit.
"""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.first_pass.finish import finish
from dsoftmax.first_pass.skipped import skipped_counts
from dsoftmax.first_pass.spread import Spread, scales_from_spread, scales_from_squares
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.first_pass.visit import Collect
from dsoftmax.objective.cost import Cost
from dsoftmax.training.passes import Passes, driven

Float = NDArray[np.float64]


def collect_statistics(source: Source, engine: Engine, visit: Collect) -> tuple[Statistics, Cost]:
    """Make the first pass: see `statistics_passes`."""
    return driven(statistics_passes(source, visit), source, engine)


def statistics_passes(source: Source, visit: Collect) -> Passes[tuple[Statistics, Cost]]:
    """Return the statistics and the cost of the first pass, or of the two passes.

    Parameters
    ----------
    source : Source
        Its names and features are those of messages.
    visit : Collect
        What the pass collects.

    Raises
    ------
    DataError
        The data cannot be trained on, or a fold is empty.
    """
    started = time.perf_counter()
    totals = yield visit
    counts = skipped_counts(totals, source.names.X)
    sums = totals.result()
    statistics = finish(sums, None if visit.encoder is None else visit.encoder.classes)
    statistics = replace(statistics, skipped=counts)
    statistics.require_held(visit.held_out, sums.get("marks"))
    cost = Cost.since(started, totals)
    if not visit.scaled:
        return statistics, cost
    held_squares = sums.get("held_squares", np.zeros((0, source.n_features)))
    scales = scales_from_squares(statistics, held_squares)
    if scales is None:
        statistics, scales, more = yield from _second_visit(visit, statistics)
        cost += more
    return replace(statistics, scale=scales[0], held_scales=scales[1:]), cost


def _second_visit(visit: Collect, statistics: Statistics) -> Passes[tuple[Statistics, Float, Cost]]:
    """Return the statistics after one more pass, the scales from it, and its cost."""
    started, sums = time.perf_counter(), statistics.class_sums.sum(axis=0)
    pivot = sums[:-1] / sums[-1]
    totals = yield Spread(pivot, visit.held_out)
    scales = scales_from_spread(statistics, pivot, totals.result(), visit.held_out)
    return replace(statistics, n_passes=2), scales, Cost.since(started, totals)
