"""Callbacks of scikit-learn are told of every iteration, and can end a training."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import OptionError


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(200, 4))
    return X, (X[:, :3] + rng.gumbel(size=(200, 3))).argmax(axis=1)


class Watch:
    """A callback that notes what it is told, and asks for an end after some iterations."""

    def __init__(self, ends_after=None):
        self.ends_after, self.events, self.fitted = ends_after, [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        self.fitted.append(fitted_estimator)
        return self.ends_after == context.task_id + 1 if "iter" in context.task_name else False


def test_every_iteration_is_told_with_the_estimator_of_that_point(rows):
    watch = Watch()
    found = SoftmaxRegression(solver="lbfgs", engine="serial").set_callbacks(watch).fit(*rows)
    n = found.n_iter_[0]
    assert n > 2
    assert watch.events == [
        *("setup", "begin fit"),
        *(("begin iteration", "end iteration") * n),
        *("end fit", "teardown"),
    ]
    np.testing.assert_array_equal(watch.fitted[-1].coef_, found.coef_)
    shorter = SoftmaxRegression(solver="lbfgs", engine="serial", max_iter=1)
    with pytest.warns(ConvergenceWarning):
        shorter.fit(*rows)
    np.testing.assert_array_equal(watch.fitted[0].coef_, shorter.coef_)
    np.testing.assert_array_equal(watch.fitted[0].predict(rows[0]), shorter.predict(rows[0]))


def test_callbacks_change_no_bit(rows):
    plain = SoftmaxRegression(solver="lbfgs", engine="serial").fit(*rows)
    watched = SoftmaxRegression(solver="lbfgs", engine="serial").set_callbacks(Watch()).fit(*rows)
    np.testing.assert_array_equal(plain.coef_, watched.coef_)
    assert [one["objective"] for one in plain.history_] == [
        one["objective"] for one in watched.history_
    ]


def test_a_callback_ends_the_training(rows):
    watch = Watch(ends_after=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = (
            SoftmaxRegression(tol=1e-12, solver="lbfgs", engine="serial")
            .set_callbacks(watch)
            .fit(*rows)
        )
    assert found.n_iter_[0] == 2
    assert "a callback" in found.status_
    np.testing.assert_array_equal(found.coef_, watch.fitted[1].coef_)


def test_fit_many_refuses_callbacks(rows):
    estimator = SoftmaxRegression(engine="serial").set_callbacks(Watch())
    with pytest.raises(OptionError, match="set_callbacks"):
        estimator.fit_many(rows[0], {"y": rows[1]})


def test_teardown_follows_an_error(rows):
    watch = Watch()
    X, y = rows[0].copy(), rows[1]
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        SoftmaxRegression(solver="lbfgs", engine="serial").set_callbacks(watch).fit(X, y)
    assert watch.events == ["setup", "begin fit", "teardown"]


def test_scoring_monitor_scores_every_iteration(rows):
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    found = SoftmaxRegression(solver="lbfgs", engine="serial").set_callbacks(monitor).fit(*rows)
    scores = [one for one in monitor.get_logs().data if one["task_name"] == "iteration"]
    assert len(scores) == found.n_iter_[0]
    assert scores[-1]["accuracy"] == found.score(*rows)
    losses = [one["neg_log_loss"] for one in scores]
    P = found.predict_proba(rows[0])
    assert losses[-1] == pytest.approx(np.log(P[np.arange(200), rows[1]]).mean(), rel=1e-6)
    assert losses[-1] > losses[0]


def test_pipelines_searches_and_clones_pass_callbacks_on(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bar = ProgressBar(max_propagation_depth=None)
        pipeline = make_pipeline(
            StandardScaler(), SoftmaxRegression(solver="lbfgs", engine="serial")
        )
        pipeline.set_callbacks(bar).fit(*rows)
        search = GridSearchCV(
            SoftmaxRegression(solver="lbfgs", engine="serial"), {"C": [0.1, 1]}, cv=2
        )
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*rows)
    assert search.best_params_["C"] in (0.1, 1)
    monitor = ScoringMonitor(scoring="accuracy")
    clone(SoftmaxRegression(solver="lbfgs", engine="serial").set_callbacks(monitor)).fit(*rows)
    assert monitor.get_logs().data
