"""Fits and predictions on frames of dask: columns by name, categories, lazy results."""

from pathlib import Path

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from frames import FEATURES, make_rows, one_hot, write_file, write_parts

from dsoftmax import SoftmaxRegression
from dsoftmax.data.frames.open import newly_coded
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError
from dsoftmax.testing.sources import check_source

ROWS = make_rows()
OPTIONS = {"tol": 1e-8, "engine": "serial", "categorical_features": "from_dtype"}
FRAMES = {
    "from pandas": lambda path: dd.from_pandas(ROWS, npartitions=3),
    "from Parquet": lambda path: dd.read_parquet(write_parts(ROWS, path / "rows")),
    "unknown categories": lambda path: dd.read_parquet(write_parts(ROWS, path / "rows")).astype(
        {"wood": "category"}
    ),
    "an empty partition": lambda path: dd.concat(
        [dd.from_pandas(ROWS[:0], npartitions=1), dd.from_pandas(ROWS, npartitions=2)]
    ),
}


@pytest.fixture(scope="module")
def plain():
    return SoftmaxRegression(**OPTIONS).fit(ROWS, "cover", "area")


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_dask_train_as_those_in_memory(kind, tmp_path, plain):
    frame = FRAMES[kind](tmp_path)
    named = SoftmaxRegression(**OPTIONS).fit(frame, "cover", "area")
    np.testing.assert_allclose(named.coef_, plain.coef_, atol=1e-6)
    assert named.model_.feature_names.tolist() == plain.model_.feature_names.tolist()
    beside = SoftmaxRegression(**OPTIONS).fit(frame[FEATURES], frame["cover"], frame["area"])
    np.testing.assert_array_equal(beside.coef_, named.coef_)
    assert named.score(frame, "cover", "area") == plain.score(ROWS, "cover", "area")


def test_the_source_keeps_the_contract():
    frame = dd.from_pandas(ROWS, npartitions=3)
    matrix, _ = newly_coded(frame[FEATURES], "from_dtype", "error", "X")
    source = open_source(Table(matrix, frame["cover"], frame["area"]))
    check_source(source, one_hot(ROWS), ROWS.cover.to_numpy(), ROWS.area.to_numpy())
    assert source.sparse
    matrix, _ = newly_coded(frame[["soil", "wet"]], None, "error", "X")
    source = open_source(Table(matrix, ROWS.cover.to_numpy()))
    check_source(source, ROWS[["soil", "wet"]].to_numpy(np.int16), ROWS.cover.to_numpy())
    assert not source.sparse


def test_columns_of_a_frame_label_other_rows():
    frame = dd.from_pandas(ROWS, npartitions=3)
    numbers = ROWS[["height", "soil"]].to_numpy(float)
    expected = SoftmaxRegression(engine="serial").fit(numbers, ROWS.cover, ROWS.area)
    for X in (numbers, da.from_array(numbers, chunks=(1000, 2))):
        found = SoftmaxRegression(engine="serial").fit(X, frame["cover"], frame["area"])
        np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-5)


def test_columns_that_are_not_asked_for_are_not_read(tmp_path):
    path = write_file(ROWS, tmp_path / "rows.parquet")
    about = pq.read_metadata(path).row_group(1).column(0)
    with Path(path).open("r+b") as file:
        file.seek(about.data_page_offset)
        file.write(b"\xff" * 200)
    frame = dd.read_parquet(path)
    found = SoftmaxRegression(engine="serial").fit(frame[["soil", "wet"]], frame["cover"])
    expected = SoftmaxRegression(engine="serial").fit(ROWS[["soil", "wet"]], ROWS.cover)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-5)
    with pytest.raises(OSError, match="eserializ"):
        SoftmaxRegression(engine="serial").fit(frame[["height"]], frame["cover"])


def test_predictions_are_lazy(plain):
    frame = dd.from_pandas(ROWS[ROWS.columns[::-1]], npartitions=3)

    def refuse(*args, **kwargs):
        raise AssertionError("a prediction computed something")

    with dask.config.set(scheduler=refuse):
        labels, chances = plain.predict(frame), plain.predict_proba(frame)
        by_model = plain.model_.predict(frame)
    assert isinstance(labels, da.Array)
    np.testing.assert_array_equal(labels.compute(), plain.predict(ROWS))
    np.testing.assert_array_equal(by_model.compute(), plain.predict(ROWS))
    np.testing.assert_allclose(chances.compute(), plain.predict_proba(ROWS), atol=1e-6)


def test_nulls_are_skipped():
    rows = ROWS.copy()
    rows.loc[:9, "wood"] = None
    rows.loc[5:19, "cover"] = None
    frame = dd.from_pandas(rows, npartitions=3)
    model = SoftmaxRegression(**OPTIONS).fit(frame, "cover")
    assert model.skipped_ == {"nodata": 10, "unlabelled": 10, "unweighted": 0, "ungrouped": 0}
    expected = SoftmaxRegression(**OPTIONS).fit(ROWS[20:], "cover")
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-6)
    assert np.flatnonzero(model.predict(frame).compute() == "").tolist() == list(range(10))
    lost = np.isnan(model.predict_proba(frame).compute()).all(axis=1)
    assert np.flatnonzero(lost).tolist() == list(range(10))


def test_mistakes_are_named(plain):
    frame = dd.from_pandas(ROWS, npartitions=3)
    with pytest.raises(DataError, match=r"has no column cober\. Did you mean cover"):
        SoftmaxRegression(**OPTIONS).fit(frame, "cober")
    with pytest.raises(DataError, match=r"the column wood is .*categorical_features="):
        SoftmaxRegression().fit(frame, "cover")
    palms = dd.from_pandas(ROWS.assign(wood="palm"), npartitions=3)
    with pytest.raises(DataError, match=r"partition \d of X, row 0: the column wood is 'palm'"):
        plain.predict(palms).compute(scheduler="sync")
    twice = dd.from_pandas(pd.concat([ROWS[["soil"]], ROWS[["soil"]]], axis=1), npartitions=2)
    with pytest.raises(DataError, match="two columns named soil"):
        SoftmaxRegression().fit(twice, ROWS.cover)


def test_workers_give_the_same_bits():
    from distributed import Client

    frame = dd.from_pandas(ROWS, npartitions=4)
    serial = SoftmaxRegression(**OPTIONS).fit(frame, "cover")
    with Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as c:
        other = SoftmaxRegression(**{**OPTIONS, "engine": c}).fit(frame, "cover")
        np.testing.assert_array_equal(other.model_.theta, serial.model_.theta)
        np.testing.assert_array_equal(other.predict(frame).compute(), serial.predict(ROWS))
