"""A model against labelled rows, in one pass."""

from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.results import metrics
from dsoftmax.results.metrics import Metrics
from dsoftmax.results.model import Model
from dsoftmax.results.predict import _require_features


def evaluate(model: Model, source: Source, engine: Engine) -> Metrics:
    """Return how good the model is on labelled rows, from one pass.

    Raises
    ------
    DataError
        Another number of features, NaN, or a label the model does not know.
    """
    _require_features(model, source)
    totals = engine.total(metrics.Score(model), source)
    return metrics.finish(totals.result(), model, totals.n_rows)
