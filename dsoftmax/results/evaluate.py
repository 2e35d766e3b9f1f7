"""A model against labelled rows, in one pass."""

from dataclasses import replace

import numpy as np

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.first_pass.skipped import skipped_counts
from dsoftmax.results import metrics
from dsoftmax.results.metrics import Metrics
from dsoftmax.results.model import Model
from dsoftmax.results.outputs import require_features


def evaluate(model: Model, source: Source, engine: Engine) -> Metrics:
    """Return the metrics of a model on labelled rows, from one pass.

    Raises
    ------
    DataError
        Another number of features, NaN, or a label that the model does not know.
    """
    require_features(model, source.n_features, source.names.X)
    totals = engine.total(metrics.Score(model, _rows(source)), source)
    counts = skipped_counts(totals, source.names.X)
    return replace(metrics.finish(totals.result(), model, totals.n_rows), skipped=counts)


def require_memory(model: Model, source: Source, engine: Engine) -> None:
    """Reserve memory for coefficients that will be read, and plan `evaluate`.

    Workers of a cluster plan when they begin.

    Parameters
    ----------
    model : Model
        The shape of θ is enough: see `dsoftmax.results.stored_model.sketch_model`.
    source : Source
    engine : Engine

    Raises
    ------
    MemoryLimitError
        Not even one thread with one block fits.
    """
    engine.reserve(model.theta.nbytes)
    if isinstance(engine, SerialEngine | ThreadsEngine):
        visit = metrics.Score(model, _rows(source))
        engine.plan(source, visit.footprint(source.n_features, source.sparse))


def _rows(source: Source) -> int:
    return int(source.chunk_rows.max(initial=0))


def accuracy(model: Model, source: Source, engine: Engine, dtype: np.dtype | None = None) -> float:
    """Return the weighted fraction of rows whose label is predicted, from one pass.

    A label that the model does not know counts as wrong.

    Raises
    ------
    DataError
        Another number of features, NaN, or labels of another kind than the classes.
    """
    require_features(model, source.n_features, source.names.X)
    totals = engine.total(metrics.Hits(model, dtype, _rows(source)), source)
    skipped_counts(totals, source.names.X)
    found = totals.result()
    return float(found["hits"]) / metrics.require_weight(float(found["weight"]))
