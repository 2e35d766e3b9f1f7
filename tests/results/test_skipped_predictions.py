"""Predictions of rows without data: a label that means no data, NaN probabilities, and a line."""

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import zarr
from numpy.testing import assert_array_equal

from dsoftmax import SoftmaxRegression, load_model, save_model
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError, OptionError
from dsoftmax.results.stored_predictions import write_predictions

N = 300
WIDE = ("predict_proba", "predict_log_proba", "decision_function")


def scene(labels=(0, 1, 2), dtype="f8"):
    """Complete rows, the same with missing values, and the rows that have some."""
    rng = np.random.default_rng(8)
    X = (50 + 10 * rng.normal(size=(N, 3))).astype(dtype)
    y = np.asarray(labels)[(X / 10 + rng.gumbel(size=(N, 3))).argmax(axis=1)]
    dark = rng.random(N) < 0.2
    holes = X.astype(dtype)
    holes[dark, rng.integers(0, 3, dark.sum())] = np.nan if holes.dtype.kind == "f" else -1
    return X, holes, y, dark


def stored(path, values, **attributes):
    made = zarr.create_array(path, data=values, chunks=(70, 3), config={"write_empty_chunks": True})
    made.attrs.update(attributes)
    return made


KINDS = {
    "numpy mask": lambda X, path: np.ma.masked_invalid(X),
    "dask mask": lambda X, path: da.ma.masked_invalid(da.from_array(X, chunks=(70, 3))),
    "zarr, declared": lambda X, path: stored(path / "X", X, _FillValue="NaN"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_rows_get_the_label_and_the_others_their_own(kind, tmp_path, caplog):
    X, holes, y, dark = scene()
    fitted = SoftmaxRegression().fit(X, y)
    rows = KINDS[kind](holes, tmp_path)
    for given, label in ((None, -1), (255, 255)):
        found = np.asarray(fitted.predict(rows, nodata=given))
        assert_array_equal(found, np.where(dark, label, fitted.predict(X)))
        assert found.dtype == y.dtype
    for output in WIDE:
        found = np.asarray(getattr(fitted, output)(rows))
        assert np.isnan(found[dark]).all()
        np.testing.assert_allclose(found[~dark], getattr(fitted, output)(X)[~dark], rtol=1e-10)
    lines = [one.getMessage() for one in caplog.records]
    skipped = f"{dark.sum()} of {N} rows skipped: {dark.sum()} nodata."
    expected = [f"{skipped} Their label is -1.", f"{skipped} Their label is 255."]
    expected += 3 * [f"{skipped} Their predictions are nan."]
    assert lines == ([] if kind == "dask mask" else expected)


@pytest.mark.parametrize("kind", ["numpy", "dask", "csr"])
def test_nan_is_an_error_unless_it_is_asked_for(kind):
    X, holes, y, dark = scene()
    rows = {
        "numpy": lambda: holes,
        "dask": lambda: da.from_array(holes, chunks=(70, 3)),
        "csr": lambda: scipy.sparse.csr_array(holes),
    }[kind]()
    fitted = SoftmaxRegression().fit(X, y)
    with pytest.raises(DataError, match=r"the value is nan.*nodata=LABEL"):
        np.asarray(fitted.predict(rows))
    with pytest.raises(DataError, match=r"the value is nan.*set_params\(nodata=nan\)"):
        np.asarray(fitted.predict_proba(rows))
    assert_array_equal(np.asarray(fitted.predict(rows, nodata=9)) == 9, dark)
    fitted.set_params(nodata=np.nan)
    assert_array_equal(np.asarray(fitted.predict(rows)) == -1, dark)
    assert_array_equal(np.isnan(np.asarray(fitted.predict_proba(rows))[:, 0]), dark)


@pytest.mark.parametrize(
    ("labels", "usual", "given"),
    [
        (np.array([0, 1, 2], "u1"), 255, 7),
        (np.array([-1, 1, 2], "i2"), None, -9),
        (np.array([0.0, 1.0, 2.0], "f4"), np.nan, -1.0),
        (np.array(["a", "b", "c"]), "", "no data"),
        (np.array(["a", "", "c"]), None, "no data"),
        (np.array([0, 1, 255], "u1"), None, 254),
    ],
)
def test_the_usual_label_by_the_dtype_of_the_classes(labels, usual, given):
    X, holes, y, dark = scene(labels)
    fitted = SoftmaxRegression().fit(X, y)
    rows, right = np.ma.masked_invalid(holes), fitted.predict(X)
    if usual is None:
        with pytest.raises(DataError, match=r"leaves no label.*nodata=LABEL"):
            fitted.predict(rows)
    else:
        found = fitted.predict(rows)
        assert found.dtype == labels.dtype
        assert_array_equal(found[~dark], right[~dark])
        assert_array_equal(found[dark], np.full(dark.sum(), usual, labels.dtype))
    assert_array_equal(fitted.predict(rows, nodata=given), np.where(dark, given, right))


@pytest.mark.parametrize("label", [1, 0.5, "none"])
def test_a_label_that_is_a_class_or_none_of_its_dtype_is_refused(label):
    X, holes, y, _ = scene()
    fitted = SoftmaxRegression().fit(X, y)
    with pytest.raises(OptionError, match=f"nodata={label!r} is"):
        fitted.predict(holes, nodata=label)


def test_a_model_remembers_the_values_of_its_training(tmp_path):
    X, holes, y, dark = scene(dtype="i2")
    fitted = SoftmaxRegression(nodata=-1).fit(holes, y)
    save_model(fitted.model_, tmp_path / "model.zarr")
    model = load_model(tmp_path / "model.zarr")
    assert_array_equal(model.predict(holes, nodata=99) == 99, dark)
    assert np.isnan(model.predict_proba(holes)[dark]).all()
    assert np.isnan(model.decision_function(holes)[dark]).all()
    # A dtype in which the value cannot occur has no such rows.
    assert (model.predict(X.astype("u1")) != -1).all()


def test_all_rows_may_be_skipped():
    X, _, y, _ = scene()
    fitted = SoftmaxRegression().fit(X, y)
    gone = np.ma.MaskedArray(X, np.ones_like(X, bool))
    assert (fitted.predict(gone) == -1).all()
    assert np.isnan(fitted.predict_proba(gone)).all()


@pytest.mark.parametrize("classes", [np.array([0, 1, 2]), np.array(["a", "b", "c"])])
def test_stored_predictions_declare_their_label(classes, tmp_path):
    X, holes, y, dark = scene(classes)
    model = SoftmaxRegression().fit(X, y).model_
    source = open_source(Table(stored(tmp_path / "X", holes, _FillValue="NaN")))
    label = 255 if classes.dtype.kind == "i" else "no data"
    counts = write_predictions(
        model, source, tmp_path / "out", with_probabilities=True, nodata=label
    )
    assert counts.tolist() == [dark.sum(), 0, 0, 0]
    group = zarr.open_group(tmp_path / "out", mode="r")
    found = np.asarray(group["labels"][:], object)
    assert_array_equal(found, np.where(dark, label, model.predict(X).astype(object)))
    assert group["labels"].attrs["_FillValue"] == label
    assert_array_equal(np.isnan(group["probabilities"][:, 0]), dark)


def test_stored_predictions_of_complete_rows_declare_nothing(tmp_path):
    X, _, y, _ = scene()
    model = SoftmaxRegression().fit(X, y).model_
    source = open_source(Table(stored(tmp_path / "X", X, _FillValue="NaN")))
    assert not write_predictions(model, source, tmp_path / "out").any()
    assert "_FillValue" not in zarr.open_array(tmp_path / "out/labels").attrs
