"""The commands on Parquet: columns by name, categories, and the model's own coding."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import zarr
from commands import run
from frames import make_rows, one_hot, write_file, write_parts

import dsoftmax
from dsoftmax import SoftmaxRegression

ROWS = make_rows()
LABELLED = ("--labels", "cover", "--weights", "area")
CODED = (*LABELLED, "--categorical", "from_dtype")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder of Parquet files, and a run that has ended."""
    place = tmp_path_factory.mktemp("parquet")
    write_parts(ROWS, place / "rows")
    command = ("train", place / "rows", *CODED, "--tol", "1e-8", "--out", place / "run")
    assert run(*map(str, command)).exit_code == 0
    return place


def test_inspect_names_columns_and_categories(stored):
    found = run("inspect", f"{stored}/rows/part-*.parquet", *CODED)
    assert found.exit_code == 0
    text = re.sub(r"\s+", " ", found.output)
    assert "3,000 × 6 float32, CSR of 12,000 values" in text
    assert "3 of them categories" in text
    assert "part-*.parquet[cover] 3,000 object" in text
    assert "θ K × 7" in text


def test_train_finds_what_the_estimator_finds(stored):
    model = dsoftmax.load_model(stored / "run")
    fitted = SoftmaxRegression(tol=1e-8, categorical_features="from_dtype")
    fitted.fit(dsoftmax.parquet(stored / "rows"), "cover", "area")
    np.testing.assert_array_equal(model.theta, fitted.model_.theta)
    assert model.feature_names.tolist() == fitted.model_.feature_names.tolist()
    again = run("train", f"{stored}/rows", *CODED, "--tol", "1e-8", "--out", f"{stored}/run")
    assert again.exit_code == 0
    assert "No pass was needed" in again.output
    other = ("--categorical", "wood,soil", "--tol", "1e-8", "--out", f"{stored}/run")
    assert run("train", f"{stored}/rows", *LABELLED, *other).exit_code == 1


def test_evaluate_and_predict_find_columns_by_name(stored, tmp_path):
    turned = ROWS[ROWS.columns[::-1]]
    path = write_file(turned, tmp_path / "turned.parquet")
    found = run("evaluate", f"{stored}/run", path, *LABELLED, "--json")
    assert found.exit_code == 0
    model = dsoftmax.load_model(stored / "run")
    expected = model.predict(ROWS)
    weight = ROWS.area.to_numpy()
    accuracy = np.average(expected == ROWS.cover, weights=weight)
    assert json.loads(found.output)["accuracy"] == pytest.approx(accuracy)
    assert run("predict", f"{stored}/run", path, "--out", f"{tmp_path}/out.zarr").exit_code == 0
    np.testing.assert_array_equal(zarr.open_array(f"{tmp_path}/out.zarr/labels")[:], expected)


def test_features_are_columns(stored, tmp_path):
    options = ("--features", "soil, wet", "--out", f"{tmp_path}/run")
    assert run("train", f"{stored}/rows", *LABELLED, *options).exit_code == 0
    model = dsoftmax.load_model(tmp_path / "run")
    assert model.feature_names.tolist() == ["soil", "wet"]
    fitted = SoftmaxRegression().fit(ROWS[["soil", "wet"]].astype(float), ROWS.cover, ROWS.area)
    np.testing.assert_allclose(model.coef_, fitted.coef_, atol=1e-4)


def test_unknown_categories(stored, tmp_path):
    rows = ROWS.copy()
    rows.loc[7, "wood"] = "palm"
    path = write_file(rows, tmp_path / "rows.parquet")
    command = ("predict", f"{stored}/run", path, "--out", f"{tmp_path}/out.zarr")
    found = run(*command)
    assert found.exit_code == 1
    assert "row 7: the column wood is 'palm'" in found.output
    assert "--handle-unknown ignore" in found.output
    command += ("--handle-unknown", "ignore", "--probabilities")
    assert run(*command).exit_code == 0
    model = dsoftmax.load_model(stored / "run")
    by_hand = dsoftmax.Model(model.theta, model.classes).predict_proba(one_hot(rows))
    written = zarr.open_array(f"{tmp_path}/out.zarr/probabilities")[:]
    np.testing.assert_allclose(written, by_hand, atol=1e-6)


MISTAKES = {
    "label": (("--labels", "cober"), "has no column cober. Did you mean cover?"),
    "features": ((*LABELLED, "--features", "soill"), "Did you mean soil?"),
    "twice": ((*LABELLED, "--features", "soil,soil"), "soil is named twice"),
    "strings": (LABELLED, "--categorical from_dtype"),
    "categories": ((*LABELLED, "--categorical", "wod"), "Did you mean wood?"),
    "counts": ((*CODED, "--log1p"), "are for rows of counts"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, stored, tmp_path):
    options, message = MISTAKES[name]
    found = run("train", f"{stored}/rows", *options, "--out", f"{tmp_path}/run")
    assert found.exit_code == 1
    assert message in re.sub(r"\s+", " ", found.output)
    assert not (tmp_path / "run").exists()


def test_options_of_frames_are_for_frames(data, tmp_path):
    options = ("--labels", "y", "--features", "X", "--categorical", "a")
    found = run("train", data, *options, "--out", tmp_path / "run")
    assert found.exit_code == 1
    assert "--categorical is for columns of Parquet" in found.output


def test_predictions_are_a_parquet_file(stored, tmp_path):
    rows = ROWS.copy()
    rows.loc[5:9, "wood"] = None
    path = write_parts(rows, tmp_path / "rows")
    out = tmp_path / "labels.parquet"
    command = ("predict", f"{stored}/run", path, "--out", out, "--probabilities")
    found = run(*command)
    assert found.exit_code == 0
    assert "their label is null" in re.sub(r"\s+", " ", found.output)
    table = pd.read_parquet(out)
    lost = np.isin(np.arange(len(rows)), np.arange(5, 10))
    np.testing.assert_array_equal(table.label.isna(), lost)
    model = dsoftmax.load_model(stored / "run")
    np.testing.assert_array_equal(table.label[~lost], model.predict(ROWS)[~lost])
    names = [f"probability_{one}" for one in model.classes]
    assert table.columns.tolist() == ["label", *names]
    expected = model.predict_proba(ROWS)[~lost]
    np.testing.assert_allclose(table[names].to_numpy()[~lost], expected, atol=1e-6)
    assert run(*command).exit_code == 1
    assert run(*command, "--overwrite", "--nodata", "none").exit_code == 0
    assert (pd.read_parquet(out).label[lost] == "none").all()
    rows.loc[3, "wood"] = "palm"
    torn = ("predict", f"{stored}/run", write_file(rows, tmp_path / "palm.parquet"), "--out")
    assert run(*torn, tmp_path / "new" / "labels.parquet").exit_code == 1
    assert not list((tmp_path / "new").iterdir())
    write_file(rows, out)
    assert run(*command, "--overwrite").exit_code == 1
    assert pd.read_parquet(out).equals(rows)


def test_predictions_of_zarr_rows_are_a_parquet_file(home):
    command = ("train", "data.zarr", "--features", "X", "--labels", "y", "--out", "run")
    assert run(*command, "--max-iter", "2").exit_code in (0, 3)
    command = ("predict", "run", "data.zarr", "--features", "X", "--out", "labels.pq")
    assert run(*command).exit_code == 0
    expected = dsoftmax.load_model("run").predict(zarr.open_array("data.zarr/X"))
    np.testing.assert_array_equal(pd.read_parquet("labels.pq").label, expected)
