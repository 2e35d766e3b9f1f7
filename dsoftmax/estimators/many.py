"""Several label columns over the same rows: one model for each, in shared passes."""

from collections.abc import Mapping
from typing import Any, TypeVar

from dsoftmax.data.several import several_labels
from dsoftmax.data.table import Names
from dsoftmax.errors import OptionError
from dsoftmax.estimators.base import NAMES, SoftmaxEstimator
from dsoftmax.estimators.inputs import label_column
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import passes_of
from dsoftmax.training.result import Result
from dsoftmax.training.settings import Settings
from dsoftmax.training.together import Sharing, driven_together

E = TypeVar("E", bound=SoftmaxEstimator)


def label_columns(
    estimator: SoftmaxEstimator, X: Any, labels: Any, *others: Any
) -> tuple[Any, dict[str, Any], tuple[Any, ...]]:
    """Return X, label columns by name, and the other columns.

    The name of a column stands for the column if X is a frame, and X is returned without it.

    Raises
    ------
    OptionError
        ``labels`` is no mapping from names, or is empty.
    DataError
        A column has not one dimension.
    """
    if not isinstance(labels, Mapping) or not labels or not all(isinstance(n, str) for n in labels):
        raise OptionError(
            f"labels={type(labels).__name__}; expected a dict from a name to a column of labels, "
            "with at least one. Pass for example {'species': y1, 'family': y2}."
        )
    X, *found = estimator._named(X, *labels.values(), *others)
    columns = {}
    for name, y in zip(labels, found, strict=False):
        columns[name] = label_column(y, name)
    return X, columns, (*found[len(labels) :],)


def require_one_meaning(estimator: SoftmaxEstimator) -> None:
    """Raise if a parameter means the labels of one column.

    Raises
    ------
    OptionError
    """
    for name in ("classes", "unlabelled"):
        if getattr(estimator, name) is not None:
            raise OptionError(
                f"{name}={getattr(estimator, name)!r} names labels of one column, and several "
                f"columns are given. Leave {name} out, or fit the column alone."
            )
    if hasattr(estimator, "_skl_callbacks"):
        raise OptionError(
            "Callbacks are told of one fit, and several columns are given. Remove them with "
            "set_callbacks(), or fit each column alone."
        )
    if isinstance(estimator.class_weight, Mapping):
        raise OptionError(
            "class_weight is a dict of labels of one column, and several columns are given. Pass "
            "'balanced' or None, or fit the column alone."
        )
    if getattr(estimator, "warm_start", False):
        raise OptionError(
            "warm_start=True does nothing in fit_many, which returns new estimators. Pass False."
        )


def unfitted(estimator: E) -> E:
    """Return a new estimator with the parameters of another one."""
    untyped: Any = estimator  # the base class depends on scikit-learn
    made: E = type(untyped)(**untyped.get_params(deep=False))
    return made


def trained_together(
    estimator: SoftmaxEstimator,
    settings: Settings,
    X: Any,
    columns: Mapping[str, Any],
    sample_weight: Any,
    grid: Grid | None = None,
    groups: Any = None,
) -> tuple[dict[str, Result], SoftmaxEstimator]:
    """Return the results by column, and the copy that noted the features.

    Parameters
    ----------
    estimator : SoftmaxEstimator
    settings : Settings
    X : (n, p) array
    columns : mapping from str to (n,) array
    sample_weight : (n,) array, number or None
    grid : Grid, optional
        Models of each column.
    groups : (n,) array, optional
        Groups of the rows.
    """
    learner = estimator._learner()
    rows, spare = learner._features(X, True), estimator._learner()

    def source(y: Any, name: str) -> Any:
        names = Names(NAMES.X, name, NAMES.weights)
        return spare._source(rows, y, sample_weight, groups, names, reset=True)

    together = source(several_labels(columns), ", ".join(columns))
    alone = {name: source(y, name) for name, y in columns.items()}
    coding, learner._single = learner._coding, spare._single
    learner.n_features_in_ = spare.n_features_in_ if coding is None else len(coding.columns)
    names = learner._feature_names
    with estimator._open_engine() as engine:
        reserved: dict[int, int] = {}
        trainings = {
            name: passes_of(one, Sharing(engine, reserved, number), settings, grid, names=names)
            for number, (name, one) in enumerate(alone.items())
        }
        return driven_together(trainings, together, engine), learner
