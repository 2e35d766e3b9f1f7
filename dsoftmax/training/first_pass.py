"""The first pass: one visit to every chunk that collects the statistics of the data."""

import time
from dataclasses import replace

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.first_pass.finish import finish
from dsoftmax.first_pass.skipped import skipped_counts
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.first_pass.visit import Collect
from dsoftmax.objective.cost import Cost


def collect_statistics(source: Source, engine: Engine, visit: Collect) -> tuple[Statistics, Cost]:
    """Make the first pass, and return the statistics and the cost of the pass.

    Parameters
    ----------
    source : Source
    engine : Engine
    visit : Collect
        What the pass collects.

    Raises
    ------
    DataError
        The data cannot be trained on, or a fold is empty.
    """
    started = time.perf_counter()
    totals = engine.total(visit, source)
    counts = skipped_counts(totals, source.names.X)
    sums = totals.result()
    statistics = finish(sums, None if visit.encoder is None else visit.encoder.classes)
    statistics = replace(statistics, skipped=counts)
    statistics.require_held(visit.held_out, sums.get("marks"))
    return statistics, Cost.since(started, totals)
