"""Errors name the option or the row, what was expected, and the cure."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import zarr
from estimator_cases import OUTPUTS, make_data, stored

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV, save_model
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import DataError, MemoryLimitError, OptionError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "lbfsg"}, r"solver='lbfsg' is unknown. Did you mean 'lbfgs'\?"),
        ({"engine": "thread"}, r"engine='thread' is unknown. Did you mean 'threads'\?"),
        ({"missing_chunks": "eror"}, r"missing_chunks='eror' is unknown. Did you mean 'error'\?"),
        (
            {"class_weight": "balance"},
            r"class_weight='balance' is unknown.* 'balanced', a dict",
        ),
        ({"C": 0}, r"C=0.* positive number, or inf"),
        ({"C": -1.0}, r"C=-1.0.* positive number, or inf"),
        ({"C": "1"}, r"C='1'.* positive number, or inf"),
        ({"C": np.nan}, r"C=nan.* positive number, or inf"),
        ({"tol": -1}, r"tol=-1; expected a number that is at least 0"),
        ({"max_iter": 1.5}, r"max_iter=1.5; expected a whole number that is at least 0"),
        ({"dtype": "int8"}, r"dtype='int8'.* 'float32', 'float64', or None"),
        ({"memory_limit": "2 lots"}, r"memory_limit='2 lots' is no size; expected .*'2GiB'"),
        ({"spool": "here", "spool_limit": 2.5}, r"spool_limit=2.5 is no size"),
        ({"fit_intercept": "no"}, r"fit_intercept='no'.* True or False"),
        ({"fit_intercept": 1}, r"fit_intercept=1.* True or False"),
    ],
)
def test_invalid_options_are_refused(options, message):
    X, y = make_data(2)
    with pytest.raises(OptionError, match=message):
        SoftmaxRegression(**options).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spool": 3}, r"spool=3 is no path; expected"),
        ({"spool_limit": "1GiB"}, r"spool_limit does nothing without spool=DIRECTORY"),
        ({"spool": "here", "engine": "serial"}, r"spool does nothing for engine='serial'"),
        (
            {"spool": "here", "engine": SerialEngine()},
            r"spool does nothing for an engine that was made before",
        ),
    ],
)
def test_a_spool_without_use_is_an_error(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=message):
        SoftmaxRegression(**options).fit(*make_data(2))


def test_the_spool_gets_its_limit(tmp_path):
    assert SoftmaxRegression(spool=tmp_path, spool_limit="2KiB")._spool_to().limit == 2048


def test_numpy_booleans_and_whole_floats_are_valid_options(tmp_path):
    X, y = make_data(2)
    estimator = SoftmaxRegression(fit_intercept=np.bool_(False), memory_limit=1e9).fit(X, y)
    assert estimator.intercept_ == 0
    save_model(estimator.model_, tmp_path / "model")


def test_every_method_refuses_arguments_that_are_no_arrays(tmp_path):
    X, y = make_data(3)
    group = zarr.create_group(tmp_path)
    rows, labels = (
        group.create_array("X", data=X, chunks=(100, 5)),
        group.create_array("y", data=y, chunks=(100,)),
    )
    estimator = SoftmaxRegression().fit(X, y)
    for bad in (group, str(tmp_path / "X"), tmp_path / "X"):
        for name, use in (
            ("X", lambda bad: estimator.fit(bad, labels)),
            ("X", lambda bad: estimator.predict(bad)),
            ("X", lambda bad: estimator.score(bad, y)),
            ("X", lambda bad: estimator.uncertainty(bad, y)),
            ("X", lambda bad: SoftmaxRegressionCV().fit(bad, y)),
            ("y", lambda bad: estimator.fit(rows, bad)),
            ("y", lambda bad: estimator.score(rows, bad)),
            ("y", lambda bad: estimator.score(X, bad)),
            ("y", lambda bad: estimator.uncertainty(X, bad)),
            ("X_val", lambda bad: estimator.fit(X, y, X_val=bad, y_val=y)),
            ("y_val", lambda bad: estimator.fit(X, y, X_val=X, y_val=bad)),
            ("sample_weight", lambda bad: estimator.fit(X, y, bad)),
        ):
            with pytest.raises(DataError, match=rf"^{name} is .* (one|an) array"):
                use(bad)
    with pytest.raises(DataError, match=r"y is sparse, of shape \(600, 1\)"):
        estimator.fit(X, scipy.sparse.csr_array(y[:, None]))


@pytest.mark.parametrize("words", [False, True])
def test_errors_of_validation_labels_name_y_val(words):
    X, y = make_data(3)
    labels = np.array(["a", "b", "c"])[y]
    with pytest.raises(
        DataError,
        match=r"y_val rows 0–599: label '?[012abc]'? \(row 0\) is not among the 3 classes",
    ):
        SoftmaxRegression().fit(X, labels if words else y, X_val=X, y_val=y if words else labels)


def test_a_class_weight_for_no_class():
    X, y = make_data(2)
    with pytest.raises(
        DataError,
        match=r"class_weight names 5, which is not among the 2 classes \[0 1\]. Remove it",
    ):
        SoftmaxRegression(class_weight={5: 2.0}).fit(X, y)


def test_a_memory_limit_that_is_too_small():
    X, y = make_data(2)
    with pytest.raises(MemoryLimitError, match=r"memory allowed is 10 MiB.*Allow at least"):
        SoftmaxRegression(memory_limit="10MiB", engine="threads").fit(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda X, y, w: (X, np.ones_like(y), w),
            r"at least 2 classes in the data.*only one class: .*1.*Check that the labels",
        ),
        (
            lambda X, y, w: (X, y + 0.5, w),
            r"y row 0: the label is .*\.5\. Unknown label type: continuous.*Use a regression",
        ),
        (
            lambda X, y, w: (X, y, np.where(np.arange(len(y)) == 250, -1.0, w)),
            r"sample_weight row 250: the weight is -1.0\b",
        ),
        (lambda X, y, w: (X, y, 0 * w), r"weights are all zero.* positive sum"),
        (
            lambda X, y, w: (X, y[:-1], w),
            r"y has 599 rows and X has 600.* value (a|per) row. Check",
        ),
        (
            lambda X, y, w: (X, y, w[:-1]),
            r"sample_weight has 599 rows and X has 600.* value (a|per) row. Check",
        ),
        (
            lambda X, y, w: (X[:, :, None], y, w),
            r"X has 3 dimensions \(600, 5, 1\).* two.*Reshape",
        ),
        (
            lambda X, y, w: (X, np.stack([y, y], 1), w),
            r"y has shape \(600, 2\).* value (a|per) row",
        ),
        (
            lambda X, y, w: (X, np.where(np.arange(len(y)) == 7, np.nan, y), w),
            r"y row 7: the label is nan.*class",
        ),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_invalid_data_are_refused(change, message, lazy):
    X, y = make_data(2)
    arrays = change(X, y, np.ones(len(y)))
    if lazy:
        arrays = [da.from_array(values, chunks=(100, *values.shape[1:])) for values in arrays]
    with pytest.raises(DataError, match=message):
        SoftmaxRegression(engine="serial").fit(*arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["memory", "csr", "dask", "zarr"])
def test_nan_is_named_by_row_and_column(kind, value, tmp_path):
    X, y = make_data(3)
    estimator = SoftmaxRegression().fit(X, y)
    X[431, 2] = value
    bad = {
        "memory": lambda: X,
        "csr": lambda: scipy.sparse.csr_array(X),
        "dask": lambda: da.from_array(X, chunks=(100, -1)),
        "zarr": lambda: stored(tmp_path, "X", X, (100, 5)),
    }[kind]()
    with pytest.raises(
        DataError,
        match=rf"X row 431, column 2: the value is {value}.* finite numbers.*Fill in such values",
    ):
        SoftmaxRegression().fit(bad, y)
    row = 31 if kind == "dask" else 431  # a lazy block does not know where it lies
    for output in OUTPUTS:
        with pytest.raises(DataError, match=rf"row {row}, column 2: the value is {value}"):
            np.asarray(getattr(estimator, output)(bad))


@pytest.mark.parametrize("lazy", [False, True])
def test_rows_need_two_dimensions(lazy):
    X, y = make_data(2)
    estimator = SoftmaxRegression().fit(X, y)
    for rows in (X[0], X[:, :, None]):
        with pytest.raises(
            DataError, match=r"X has [13] dimensions .* two, rows and features. Reshape"
        ):
            estimator.predict(da.from_array(rows) if lazy else rows)


@pytest.mark.parametrize("kind", ["memory", "dask", "zarr"])
def test_another_number_of_features(kind, tmp_path):
    X, y = make_data(3)
    estimator = SoftmaxRegression().fit(X, y)
    narrow = X[:, :3]
    if kind == "dask":
        narrow = da.from_array(narrow, chunks=(100, -1))
    if kind == "zarr":
        narrow = stored(tmp_path, "X", narrow, (100, 3))
    for output in OUTPUTS:
        with pytest.raises(
            ValueError,
            match=r"X has 3 features, but SoftmaxRegression is expecting 5 .*Pass the columns",
        ):
            getattr(estimator, output)(narrow)
    with pytest.raises(ValueError, match=r"X has 3 features.*expecting 5 .*Pass the columns"):
        estimator.score(narrow, y)


@pytest.mark.parametrize("lazy", [False, True])
def test_no_labels(lazy):
    X, _ = make_data(2)
    with pytest.raises(
        ValueError, match=r"requires y to be passed, but the target y is None. Pass the label"
    ):
        SoftmaxRegression().fit(da.from_array(X) if lazy else X, None)
