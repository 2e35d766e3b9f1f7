"""Several label columns of one frame: no label column is a feature of another's model."""

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from commands import run
from numpy.testing import assert_array_equal

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV, load_model, parquet


@pytest.fixture
def frame(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = rng.normal(size=(600, 3))
    found = pd.DataFrame(X, columns=["a", "b", "c"])
    found["kind"] = np.array(["x", "y", "z"])[rng.integers(0, 3, 600)]
    found["one"] = (X + rng.gumbel(size=(600, 3))).argmax(axis=1)
    found["two"] = np.where(X[:, 0] + rng.normal(size=600) > 0, "yes", "no")
    table = pyarrow.Table.from_pandas(found, preserve_index=False)
    pyarrow.parquet.write_table(table, "rows.parquet", row_group_size=100)
    return found


def alone(frame, label):
    estimator = SoftmaxRegression(categorical_features=["kind"], engine="serial")
    return estimator.fit(frame[["a", "b", "c", "kind", label]], label)


@pytest.mark.parametrize("kind", ["memory", "parquet"])
def test_columns_are_named_and_left_out_of_the_features(frame, kind):
    X = frame if kind == "memory" else parquet("rows.parquet")
    estimator = SoftmaxRegression(categorical_features=["kind"], engine="serial")
    found = estimator.fit_many(X, {"first": "one", "second": "two"})
    for name, label in (("first", "one"), ("second", "two")):
        expected = alone(frame, label)
        assert_array_equal(found[name].coef_, expected.coef_)
        assert_array_equal(found[name].feature_names_in_, ["a", "b", "c", "kind"])
        assert found[name].n_features_in_ == 4
        assert_array_equal(found[name].predict(frame), expected.predict(frame))


def test_grids_of_columns_of_a_frame(frame):
    estimator = SoftmaxRegressionCV(
        Cs=[0.1, 1.0], cv=2, categorical_features=["kind"], engine="serial"
    )
    found = estimator.fit_many(frame, {"first": "one", "second": "two"})
    expected = estimator.fit(frame.drop(columns="two"), "one")
    assert_array_equal(found["first"].coef_, expected.coef_)


def test_the_command_leaves_all_labels_out_of_the_features(frame):
    result = run(
        *("train", "rows.parquet", "--labels", "one,two", "--categorical", "kind"),
        *("--engine", "serial", "--out", "runs"),
    )
    assert result.exit_code == 0, result.output
    for label in ("one", "two"):
        model = load_model(f"runs/{label}")
        assert model.n_features == 6  # three numbers, and kind in three columns
        assert_array_equal(model.coef_, alone(frame, label).coef_)
