"""``fit_many``: the models of several label columns, bitwise those of their own fits."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from sklearn.model_selection import KFold

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import DataError, OptionError
from dsoftmax.estimators.sklearn import ConvergenceWarning, DataConversionWarning


class Counting(SerialEngine):
    """The passes that are made, and the rows that they read."""

    def __init__(self):
        super().__init__()
        self.passes = self.rows = 0

    def total(self, visit, source):
        found = super().total(visit, source)
        self.passes, self.rows = self.passes + 1, self.rows + found.n_seen
        return found


def rows(n=700, p=5, sparse=False):
    """Three label columns of different kinds and numbers of classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p)) * [1, 1, 1, 30, 1] + [0, 5, 0, 0, 0]
    labels = {}
    for name, K in (("species", 5), ("family", 3), ("alive", 2)):
        Z = X @ rng.normal(size=(p, K)) / [[1.0]] + 3 * rng.gumbel(size=(n, K))
        labels[name] = Z.argmax(axis=1)
    labels["family"] = np.array(["oak", "ash", "elm"])[labels["family"]]
    labels["alive"] = labels["alive"] > 0
    return scipy.sparse.csr_array(X * (X > 0)) if sparse else X, labels, rng.uniform(0, 2, n)


def assert_each_as_alone(models, X, labels, weights=None, **options):
    assert list(models) == list(labels)
    for name, y in labels.items():
        alone = SoftmaxRegression(**{"engine": "serial"} | options).fit(X, y, weights)
        ours = models[name]
        assert ours.model_.theta.tobytes() == alone.model_.theta.tobytes(), name
        assert ours.classes_.tolist() == alone.classes_.tolist()
        assert ours.n_passes_ == alone.n_passes_
        assert ours.objective_ == alone.objective_
        assert ours.status_ == alone.status_


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize(
    "options",
    [
        {"tol": 1e-8},
        {"solver": "lbfgs-kronecker", "scale": "standard"},
        {"solver": "matrix-free", "kernel": "fused"},
        {"C": 0.05, "l1_ratio": 0.5},
        {"validation_fraction": 0.2, "class_weight": "balanced"},
    ],
)
def test_each_model_has_the_bits_of_its_own_fit(sparse, engine, options):
    X, labels, weights = rows(sparse=sparse)
    models = SoftmaxRegression(engine=engine, **options).fit_many(X, labels, weights)
    assert_each_as_alone(models, X, labels, weights, **options)


def test_the_passes_are_those_of_the_slowest_model_and_rows_are_read_once():
    X, labels, _ = rows()
    engine, options = Counting(), {"solver": "lbfgs-kronecker", "tol": 1e-6}
    models = SoftmaxRegression(engine=engine, **options).fit_many(X, labels)
    alone = [SoftmaxRegression(**options).fit(X, y).n_passes_ for y in labels.values()]
    assert len(set(alone)) > 1
    assert engine.passes == max(alone)
    assert engine.rows == max(alone) * len(X)
    assert [one.n_passes_ for one in models.values()] == alone


def test_stored_and_lazy_rows_and_labels(tmp_path):
    X, labels, _ = rows()
    stored = zarr.create_array(tmp_path / "X", data=X, chunks=(100, 5))
    columns = {
        name: zarr.create_array(tmp_path / name, data=y, chunks=(150,), zarr_format=2)
        for name, y in labels.items()
    }
    models = SoftmaxRegression(engine="threads").fit_many(stored, columns)
    assert_each_as_alone(models, stored, columns)
    mixed = columns | {"species": labels["species"]}
    assert_each_as_alone(SoftmaxRegression().fit_many(stored, mixed), stored, mixed)
    assert_each_as_alone(SoftmaxRegression().fit_many(X, columns), X, labels)
    lazy = da.from_array(X, chunks=(100, 5))
    some = mixed | {"family": da.from_array(labels["family"], chunks=90)}
    assert_each_as_alone(SoftmaxRegression().fit_many(lazy, some), lazy, labels)


def test_a_frame_keeps_its_names_and_the_estimator_does_not_change():
    X, labels, _ = rows()
    frame, table = pd.DataFrame(X, columns=list("abcde")), pd.DataFrame(labels)
    estimator = SoftmaxRegression(C=0.5)
    models = estimator.fit_many(frame, {name: table[name] for name in table})
    assert not hasattr(estimator, "model_")
    for name, one in models.items():
        assert one.feature_names_in_.tolist() == list("abcde")
        assert one.C == 0.5
        assert one.score(frame, table[name]) > 0.4


def test_a_grid_of_each_column_shares_the_passes_too():
    X, labels, weights = rows()
    engine, groups = Counting(), np.arange(700) // 7
    options = {"Cs": [0.01, 1.0], "cv": 3, "scoring": "neg_log_loss", "scale": "standard"}
    models = SoftmaxRegressionCV(engine=engine, **options).fit_many(X, labels, weights, groups)
    alone = {
        name: SoftmaxRegressionCV(engine="serial", **options).fit(X, y, weights, groups)
        for name, y in labels.items()
    }
    for name, one in alone.items():
        assert models[name].model_.theta.tobytes() == one.model_.theta.tobytes()
        assert models[name].scores_.tobytes() == one.scores_.tobytes()
        assert models[name].C_ == one.C_
    assert engine.passes == max(one.n_passes_ for one in alone.values())
    with pytest.raises(OptionError, match="may choose other folds for each label column"):
        SoftmaxRegressionCV(cv=KFold(3)).fit_many(X, labels)


def test_skipped_rows_are_reported_once(caplog):
    X, labels, _ = rows()
    X[::10, 2] = -9
    models = SoftmaxRegression(nodata=-9, engine="serial").fit_many(X, labels)
    assert [record.getMessage() for record in caplog.records] == [
        "70 of 700 rows skipped: 70 nodata."
    ]
    for name, y in labels.items():
        assert models[name].skipped_["nodata"] == 70
        alone = SoftmaxRegression(nodata=-9, engine="serial").fit(X, y)
        assert models[name].model_.theta.tobytes() == alone.model_.theta.tobytes()


def test_a_column_vector_warns_where_fit_many_is_called():
    X, labels, _ = rows()
    with pytest.warns(DataConversionWarning) as warned:
        SoftmaxRegression().fit_many(X, {"alive": labels["alive"][:, None]})
    assert warned[0].filename == __file__


def test_a_model_that_does_not_converge_is_named():
    X, labels, _ = rows()
    with pytest.warns(ConvergenceWarning, match="species: Stopped at max_iter"):
        SoftmaxRegression(solver="lbfgs", max_iter=2, tol=1e-9).fit_many(
            X, {"species": labels["species"]}
        )


def test_mistakes_name_the_column():
    X, labels, _ = rows()
    y = labels["species"]
    for wrong in ([y], {}, {1: y}):
        with pytest.raises(OptionError, match="expected a dict from a name to a column"):
            SoftmaxRegression().fit_many(X, wrong)
    for name, value in (("classes", [0, 1]), ("unlabelled", 0), ("class_weight", {0: 1.0})):
        with pytest.raises(OptionError, match=f"{name}.* one column"):
            SoftmaxRegression(**{name: value}).fit_many(X, labels)
    with pytest.raises(OptionError, match="warm_start=True does nothing in fit_many"):
        SoftmaxRegression(warm_start=True).fit_many(X, labels)
    with pytest.raises(DataError, match=r"family has shape \(699,\) and species \(700,\)"):
        SoftmaxRegression().fit_many(X, labels | {"family": labels["family"][1:]})
    with pytest.raises(DataError, match="age row 3: the label is nan"):
        SoftmaxRegression().fit_many(X, labels | {"age": np.where(np.arange(700) == 3, np.nan, y)})
    with pytest.raises(DataError, match="age row 4: the label is missing"):
        SoftmaxRegression().fit_many(X, labels | {"age": np.ma.MaskedArray(y, np.arange(700) == 4)})
    with pytest.raises(DataError, match="only one class"):
        SoftmaxRegression().fit_many(X, labels | {"age": np.zeros(700, int)})
    hole = np.where((np.arange(700) == 2)[:, None], np.nan, X)
    with pytest.raises(DataError, match="row 2, column 0: the value is nan"):
        SoftmaxRegression().fit_many(hole, labels)
