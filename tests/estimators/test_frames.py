"""Fits on frames: columns by name, categories, and predictions from other frames."""

import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from frames import FEATURES, WORDS, make_rows, one_hot, write_file, write_parts
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import dsoftmax
from dsoftmax import Model, SoftmaxRegression, SoftmaxRegressionCV
from dsoftmax.errors import DataError, OptionError

ROWS = make_rows()
TIGHT = {"tol": 1e-8, "engine": "serial", "categorical_features": "from_dtype"}
FRAMES = {
    "Parquet": lambda path: dsoftmax.parquet(write_parts(ROWS, path / "rows")),
    "pandas": lambda path: ROWS,
    "pandas categories": lambda path: ROWS.astype({"wood": "category"}),
    "polars": lambda path: pl.from_pandas(ROWS),
    "polars categories": lambda path: pl.from_pandas(ROWS).cast({"wood": pl.Categorical}),
    "a lazy frame": lambda path: pl.scan_parquet(write_file(ROWS, path / "rows.parquet")),
    "Arrow": lambda path: pa.Table.from_pandas(ROWS),
    "a record batch": lambda path: pa.RecordBatch.from_pandas(ROWS),
}


@pytest.fixture(scope="module")
def theirs():
    """scikit-learn's own one-hot coding and optimum."""
    coding = make_column_transformer((OneHotEncoder(), ["wood"]), remainder="passthrough")
    model = make_pipeline(coding, LogisticRegression(tol=1e-10, max_iter=2000))
    return model.fit(ROWS[FEATURES], ROWS.cover, logisticregression__sample_weight=ROWS.area)


@pytest.fixture(scope="module")
def ours():
    return SoftmaxRegression(**TIGHT).fit(ROWS, "cover", "area")


@pytest.mark.parametrize("kind", FRAMES)
def test_every_frame_has_the_optimum_of_scikit_learn(kind, tmp_path, theirs):
    frame = FRAMES[kind](tmp_path)
    model = SoftmaxRegression(**TIGHT).fit(frame, "cover", "area")
    expected = theirs.predict_proba(ROWS[FEATURES])
    np.testing.assert_allclose(model.predict_proba(frame), expected, atol=2e-6)
    assert model.score(frame, "cover") == theirs.score(ROWS[FEATURES], ROWS.cover)
    assert model.n_features_in_ == 4
    assert model.feature_names_in_.tolist() == FEATURES
    names = ["height", "wood_fir", "wood_oak", "wood_pine", "soil", "wet"]
    assert model.model_.feature_names.tolist() == names


def test_columns_may_be_passed_instead_of_names(ours, tmp_path):
    frame = dsoftmax.parquet(write_file(ROWS, tmp_path / "rows.parquet", group=3000))
    model = SoftmaxRegression(**TIGHT).fit(frame[FEATURES], frame["cover"], frame["area"])
    np.testing.assert_array_equal(model.coef_, ours.coef_)
    labels = SoftmaxRegression(**TIGHT).fit(frame[FEATURES], ROWS.cover, ROWS.area)
    np.testing.assert_array_equal(labels.coef_, ours.coef_)
    few = dsoftmax.parquet(tmp_path / "rows.parquet", columns=["wet", "soil", "cover"])
    model = SoftmaxRegression(**TIGHT).fit(few, "cover")
    assert model.feature_names_in_.tolist() == ["wet", "soil"]


@pytest.mark.parametrize("engine", ["threads", "cluster"])
def test_engines_give_the_same_bits(engine, tmp_path):
    frame = dsoftmax.parquet(write_parts(ROWS, tmp_path / "rows"))
    table = pa.Table.from_pandas(ROWS)
    for rows in (frame, table):
        serial = SoftmaxRegression(**TIGHT).fit(rows, "cover")
        if engine == "cluster":
            from distributed import Client

            with Client(n_workers=1, processes=False, dashboard_address=None) as client:
                other = SoftmaxRegression(**{**TIGHT, "engine": client}).fit(rows, "cover")
        else:
            other = SoftmaxRegression(**{**TIGHT, "engine": engine}).fit(rows, "cover")
        np.testing.assert_array_equal(other.model_.theta, serial.model_.theta)


def test_predictions_match_columns_by_name(ours, tmp_path):
    expected = ours.predict(ROWS)
    turned = ROWS[ROWS.columns[::-1]].assign(extra="text")
    for frame in (
        turned,
        pl.from_pandas(turned),
        pl.from_pandas(turned).lazy(),
        dsoftmax.parquet(write_file(turned, tmp_path / "rows.parquet")),
    ):
        np.testing.assert_array_equal(ours.predict(frame), expected)
        np.testing.assert_array_equal(ours.model_.predict(frame), expected)
    some = ROWS.drop(columns="soil").rename(columns={"wet": "wett"})
    with pytest.raises(DataError, match=r"has no column wet\. Did you mean wett"):
        ours.predict(some.assign(soil=1))
    with pytest.raises(DataError, match="the column wood is double; expected strings, as in the"):
        ours.predict(ROWS.assign(wood=1.5))
    with pytest.raises(DataError, match="the column soil is string; expected numbers"):
        ours.predict(ROWS.assign(soil="1"))


def test_the_model_keeps_the_categories(ours, tmp_path):
    dsoftmax.save_model(ours.model_, tmp_path / "model.zarr")
    loaded = dsoftmax.load_model(tmp_path / "model.zarr")
    oaks = ROWS[ROWS.wood == "oak"]
    np.testing.assert_array_equal(loaded.predict_proba(oaks), ours.predict_proba(oaks))
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.predict_proba(oaks), ours.predict_proba(oaks))
    rows = one_hot(ROWS)
    by_hand = Model(ours.model_.theta, ours.classes_).predict_proba(rows)
    np.testing.assert_allclose(ours.predict_proba(ROWS), by_hand, atol=1e-6)


def test_categories_that_the_training_lacks(ours, tmp_path):
    rows = ROWS.copy()
    rows.loc[1234, "wood"] = "palm"
    frame = dsoftmax.parquet(write_file(rows, tmp_path / "rows.parquet"))
    message = r"row 1,234: the column wood is 'palm', which is not among its 3 categories \(fir, "
    for found in (rows, frame):
        with pytest.raises(DataError, match=message):
            ours.predict(found)
    ignoring = SoftmaxRegression(**TIGHT, handle_unknown="ignore").fit(ROWS, "cover", "area")
    expected = one_hot(rows)
    assert not expected[1234, 1:4].any()
    by_hand = Model(ignoring.model_.theta, ignoring.classes_).predict_proba(expected)
    np.testing.assert_allclose(ignoring.predict_proba(frame), by_hand, atol=1e-6)
    np.testing.assert_allclose(ignoring.model_.predict_proba(rows), by_hand, atol=1e-6)
    later = clone(ours).fit(ROWS, "cover", "area").set_params(handle_unknown="ignore")
    np.testing.assert_allclose(later.predict_proba(rows), by_hand, atol=1e-6)
    with pytest.raises(OptionError, match="Did you mean 'ignore'"):
        SoftmaxRegression(handle_unknown="ignored").fit(ROWS[["soil"]], ROWS.cover)


def test_columns_of_categories_may_be_named():
    named = SoftmaxRegression(**{**TIGHT, "categorical_features": ["wood", "soil"]})
    named.fit(ROWS, "cover", "area")
    coding = make_column_transformer((OneHotEncoder(), ["wood", "soil"]), remainder="passthrough")
    theirs = make_pipeline(coding, LogisticRegression(tol=1e-10, max_iter=2000))
    theirs.fit(ROWS[FEATURES], ROWS.cover, logisticregression__sample_weight=ROWS.area)
    expected = theirs.predict_proba(ROWS[FEATURES])
    np.testing.assert_allclose(named.predict_proba(ROWS), expected, atol=2e-6)
    assert named.model_.feature_names.tolist()[4:6] == ["soil_0", "soil_1"]
    given = {"wood": ["palm", *WORDS], "soil": None}
    wider = SoftmaxRegression(**{**TIGHT, "categorical_features": given}).fit(ROWS, "cover", "area")
    palm = wider.model_.feature_names.tolist().index("wood_palm")
    np.testing.assert_allclose(np.delete(wider.coef_, palm, 1), named.coef_, atol=1e-5)
    np.testing.assert_allclose(wider.coef_[:, palm], 0, atol=1e-8)
    with pytest.raises(OptionError, match="distinct values of one type"):
        SoftmaxRegression(categorical_features={"wood": ["a", "a"]}).fit(ROWS, "cover")
    with pytest.raises(OptionError, match="expected 'from_dtype'"):
        SoftmaxRegression(categorical_features="auto").fit(ROWS, "cover")
    with pytest.raises(DataError, match=r"has no column wod\. Did you mean wood"):
        SoftmaxRegression(categorical_features=["wod"]).fit(ROWS, "cover")


def test_categories_without_a_name_or_a_row():
    """The empty string is a category. A category of pandas without a row is none."""
    rows = ROWS.assign(
        wood=pd.Categorical(ROWS.wood.replace("oak", ""), ["palm", "pine", "", "fir"])
    )
    model = SoftmaxRegression(**TIGHT).fit(rows, "cover", "area")
    names = model.model_.feature_names.tolist()
    assert names[1:4] == ["wood_", "wood_fir", "wood_pine"]
    plain = SoftmaxRegression(**TIGHT).fit(ROWS, "cover", "area")
    np.testing.assert_allclose(model.predict_proba(rows), plain.predict_proba(ROWS), atol=2e-6)


def test_skipped_rows_are_counted(tmp_path, caplog):
    rows = ROWS.copy()
    rows.loc[:9, "wood"] = None
    rows.loc[5:19, "cover"] = None
    frame = dsoftmax.parquet(write_file(rows, tmp_path / "rows.parquet"))
    model = SoftmaxRegression(**TIGHT).fit(frame, "cover")
    assert model.skipped_ == {"nodata": 10, "unlabelled": 10, "unweighted": 0, "ungrouped": 0}
    assert "20 of 3,000 rows skipped: 10 nodata, 10 unlabelled" in caplog.text
    expected = SoftmaxRegression(**TIGHT).fit(ROWS[20:], "cover")
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-6)
    assert (model.predict(frame) == "").sum() == 10


@pytest.mark.parametrize("make", [lambda rows: rows, pl.from_pandas, pa.Table.from_pandas])
def test_strings_without_the_option_are_an_error_that_names_it(make):
    with pytest.raises(DataError, match=re.escape("categorical_features='from_dtype'")):
        SoftmaxRegression().fit(make(ROWS[FEATURES]), ROWS.cover)


def test_cross_validation_and_validation_sets_take_names(tmp_path):
    frame = dsoftmax.parquet(write_file(ROWS, tmp_path / "rows.parquet"))
    options = {**TIGHT, "tol": 1e-4}
    search = SoftmaxRegressionCV(Cs=[0.01, 1.0], cv=3, **options)
    search.fit(frame, "cover", groups="soil", sample_weight="area")
    assert search.coefs_paths_.shape == (3, 2, 3, 6)
    assert search.feature_names_in_.tolist() == ["height", "wood", "wet"]
    stopped = SoftmaxRegression(**options).fit(frame, "cover", X_val=ROWS[:500], y_val="cover")
    assert any(one["held_loss"] is not None for one in stopped.history_)
    splits = SoftmaxRegressionCV(Cs=[1.0], cv=StratifiedKFold(3), **options).fit(ROWS, "cover")
    assert splits.scores_.shape == (3, 1)
    copied = clone(stopped)
    assert copied.categorical_features == "from_dtype"
    refitted = stopped.fit(ROWS[["soil", "wet"]].astype(float), pd.Series(ROWS.cover))
    assert refitted.coef_.shape == (3, 2)


def test_uncertainty_takes_names(ours):
    found = ours.uncertainty(ROWS, "cover", "area")
    assert found.coef.standard_error.shape == (3, 6)


def test_models_of_numbers_predict_from_frames(tmp_path):
    rows = ROWS[["height", "soil"]].astype(float)
    frame = dsoftmax.parquet(write_file(ROWS, tmp_path / "rows.parquet"))
    on_frame = SoftmaxRegression(tol=1e-8).fit(rows, ROWS.cover)
    np.testing.assert_array_equal(on_frame.predict(frame), on_frame.predict(rows))
    on_array = SoftmaxRegression(tol=1e-8).fit(rows.to_numpy(), ROWS.cover)
    turned = frame[["height", "soil"]]
    np.testing.assert_array_equal(on_array.predict(turned), on_array.predict(rows.to_numpy()))
