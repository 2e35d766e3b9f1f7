"""Callbacks of scikit-learn: told of every iteration of a training, and able to end it."""

from collections.abc import Callable, Sequence
from typing import Any

from dsoftmax.estimators.sklearn import with_callbacks
from dsoftmax.results.model import Model, centred
from dsoftmax.training.loop import Watcher
from dsoftmax.training.record import Record
from dsoftmax.training.result import Result
from dsoftmax.training.run import Run


@with_callbacks
def telling_callbacks(
    estimator: Any,
    given: tuple[Any, Any, Any],
    shown: Callable[[Model], dict[str, Any]],
    training: Callable[..., Result],
    watchers: Sequence[Watcher],
) -> Result:
    """Return the result of a training whose iterations the callbacks of the estimator are told.

    Parameters
    ----------
    estimator : estimator of scikit-learn
        Its ``fit`` runs. Callbacks are its own, or those of the estimator that contains it.
    given : X, y, sample_weight
        As given to ``fit``. `sklearn.callback.ScoringMonitor` scores them after every iteration,
        which reads them once more.
    shown : function of a model
        Returns the attributes that predictions of the estimator need.
    training : function of watchers
    watchers : sequence of Watcher
        Watchers of the training besides the callbacks.

    Notes
    -----
    An iteration is an accepted step, so there are at most ``max_iter`` of them. A pass that accepts
    no step is not told. If a callback returns True, training ends with the model of that iteration.
    """
    if not (hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")):
        return training(watchers=watchers)
    context = estimator._init_callback_context(max_subtasks=int(estimator.max_iter))
    X, y, sample_weight = given
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    about = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    n_told, keep_zeros = 0, estimator.l1_ratio > 0

    def attributes(model: Model) -> Callable[[], dict[str, Any]]:
        return lambda: shown(model)

    def tell(record: Record, runs: Sequence[Run]) -> bool:
        nonlocal n_told
        run = runs[0]
        if run.state.n_iter <= n_told:
            return False
        model = Model(centred(run.theta, keep_zeros), run.statistics.classes)
        n_told += 1
        part = context.subcontext(task_name="iteration")
        part.call_on_fit_task_begin(**about)
        ends = part.call_on_fit_task_end(**about, reconstruction_attributes=attributes(model))
        return bool(ends)

    context.call_on_fit_task_begin(**about)
    result = training(watchers=[*watchers, tell])
    context.call_on_fit_task_end(**about, reconstruction_attributes=attributes(result.model))
    return result
