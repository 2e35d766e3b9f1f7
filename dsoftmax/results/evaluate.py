"""A model against labelled rows, in one pass."""

from dataclasses import replace

import numpy as np

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
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
    totals = engine.total(metrics.Score(model), source)
    counts = skipped_counts(totals, source.names.X)
    return replace(metrics.finish(totals.result(), model, totals.n_rows), skipped=counts)


def accuracy(model: Model, source: Source, engine: Engine, dtype: np.dtype | None = None) -> float:
    """Return the weighted fraction of rows whose label is predicted, from one pass.

    A label that the model does not know counts as wrong.

    Raises
    ------
    DataError
        Another number of features, NaN, or labels of another kind than the classes.
    """
    require_features(model, source.n_features, source.names.X)
    totals = engine.total(metrics.Hits(model, dtype), source)
    skipped_counts(totals, source.names.X)
    found = totals.result()
    return float(found["hits"]) / metrics.require_weight(float(found["weight"]))
