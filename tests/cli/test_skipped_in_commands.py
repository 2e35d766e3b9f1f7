"""Commands skip the rows that the data or the options declare as missing, and say how many."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import refused, run, theta
from sklearn.linear_model import LogisticRegression

from dsoftmax.results.stored_model import load_model

N = 600
DATA = ("scene.zarr", "--features", "X", "--labels", "y")
TRAIN = ("train", *DATA, "--tol", "1e-8", "--out", "run")


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A store of int16 bands with a declared fill value, and labels whose 0 means none."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    X = (1000 + 100 * rng.normal(size=(N, 3))).astype("i2")
    y = (X / 100 + rng.gumbel(size=(N, 3))).argmax(axis=1).astype("u1") + 1
    dark, blank = rng.random(N) < 0.1, rng.random(N) < 0.1
    X[dark, 1], y[blank] = -32768, 0
    group = zarr.create_group("scene.zarr")
    written = {"config": {"write_empty_chunks": True}}
    words = np.array(["none", "a", "b", "c"])[y]
    zarr.create_array("words.zarr", data=words, chunks=(100,), zarr_format=2, **written)
    for name, values in (("X", X), ("y", y)):
        group.create_array(name, data=values, chunks=(100, *values.shape[1:]), **written)
    group["X"].attrs["_FillValue"] = -32768
    return X, y, dark, blank


def expected(X, y, counted):
    return LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(
        X[counted].astype(float), y[counted]
    )


def line(dark, blank):
    both, skipped = int((dark & blank).sum()), int((dark | blank).sum())
    return f"{skipped} of {N} rows skipped: {dark.sum()} nodata, {blank.sum() - both} unlabelled"


def test_train_and_evaluate_skip_and_report(scene):
    X, y, dark, blank = scene
    result = run(*TRAIN, "--unlabelled", "0")
    assert result.exit_code == 0, result.output
    assert line(dark, blank) in result.stdout
    assert line(dark, blank) in result.stderr
    theirs = expected(X, y, ~(dark | blank))
    found = theta()[:, :-1]
    np.testing.assert_allclose(found, theirs.coef_ - theirs.coef_.mean(axis=0), rtol=1e-3)
    metrics = run("evaluate", "run", *DATA)  # the model knows which label means none
    assert line(dark, blank) in metrics.stdout
    scores = json.loads(run("evaluate", "run", *DATA, "--json").stdout)
    assert scores["n_rows"] == (~(dark | blank)).sum()
    counted = ~(dark | blank)
    assert scores["accuracy"] == pytest.approx(theirs.score(X[counted].astype(float), y[counted]))
    assert scores["skipped"]["nodata"] == dark.sum()


def test_what_is_not_declared_is_an_error_that_names_the_option(scene):
    zarr.open_array("scene.zarr/y", mode="r+")[7] = 9
    assert run(*TRAIN, "--unlabelled", "0,9").exit_code == 0
    values = zarr.open_array("scene.zarr/X", mode="r")[:].astype("f4")
    values[5, 2] = np.nan
    zarr.open_group("scene.zarr", mode="r+").create_array("F", data=values, chunks=(100, 3))
    named = ("train", "scene.zarr", "--features", "F", "--labels", "y", "--out", "other")
    refused(run(*named), "F row 5, column 2: the value is nan", "--nodata nan")
    result = run(*named, "--nodata", "nan,-32768", "--unlabelled", "0,9")
    assert result.exit_code == 0, result.output
    about = load_model("other/model.zarr").about
    assert about["nodata"] == ["nan", "-32768"]
    assert about["unlabelled"] == ["0", "9"]


@pytest.mark.usefixtures("scene")
def test_labels_that_are_words():
    words = ("train", "scene.zarr", "--features", "X", "--labels", "words.zarr", "--tol", "1e-8")
    result = run(*words, "--unlabelled", "none", "--out", "words")
    assert result.exit_code == 0, result.output
    assert run(*TRAIN, "--unlabelled", "0").exit_code == 0
    assert load_model("words/model.zarr").classes.tolist() == ["a", "b", "c"]
    assert theta("words").tobytes() == theta().tobytes()


def test_inspect_names_what_is_declared(scene):
    found = run("inspect", *DATA).stdout
    assert "declares -32768 as missing" in found


def test_a_run_is_resumed_with_the_same_rows_only(scene):
    *_, dark, blank = scene
    options = ("--unlabelled", "0", "--engine", "serial")
    assert run(*TRAIN, *options, "--max-iter", "1").exit_code == 3
    refused(run(*TRAIN, "--engine", "serial"), "unlabelled: was", "--overwrite")
    resumed = run(*TRAIN, *options)
    assert resumed.exit_code == 0
    assert line(dark, blank) in resumed.stdout
    assert run(*TRAIN[:-1], "whole", *options).exit_code == 0
    assert theta().tobytes() == theta("whole").tobytes()


@pytest.mark.parametrize("engine", [("--engine", "serial"), ("--spool", "spool")])
def test_engines_and_spools_give_the_same_bits(scene, engine):
    options = ("--unlabelled", "0")
    assert run(*TRAIN, *options, *engine).exit_code == 0
    assert run(*TRAIN[:-1], "threads", *options).exit_code == 0
    assert theta().tobytes() == theta("threads").tobytes()


def test_validation_rows_are_skipped(scene):
    Path("scene.zarr").rename("first.zarr")
    zarr.create_group("scene.zarr")
    for name in ("X", "y"):
        array = zarr.open_array(f"first.zarr/{name}", mode="r")
        made = zarr.create_array(
            f"scene.zarr/{name}", data=array[:], config={"write_empty_chunks": True}
        )
        made.attrs.update(dict(array.attrs))
    result = run(
        *("train", "first.zarr", *DATA[1:], "--validation", "scene.zarr", "--unlabelled", "0"),
        *("--out", "run"),
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--nodata", "dark"), "--nodata is dark; expected numbers"),
        (("--unlabelled", "none"), "--unlabelled is none; expected numbers"),
        (("--nodata", "70000"), "(--nodata 70000) is no value of"),
    ],
)
def test_bad_values_are_refused(scene, options, message):
    refused(run(*TRAIN, *options), message)


def test_an_option_of_several_values_that_is_given_again_adds_its_values(scene):
    X, _, dark, blank = scene
    nodata = [str(value) for value in X[(X[:, 0] > 1100) & ~dark & ~blank, 0][:2]]
    again = run(*TRAIN, "--unlabelled", "0", "--nodata", nodata[0], "--nodata", nodata[1])
    at_once = run(*TRAIN[:-1], "other", "--unlabelled", "0", "--nodata", ",".join(nodata))
    assert again.exit_code == at_once.exit_code == 0, again.output
    np.testing.assert_array_equal(load_model("run").theta, load_model("other").theta)
    skipped = np.isin(X, [int(value) for value in nodata]).any(axis=1) | dark
    assert f"{skipped.sum()} nodata" in again.stdout
    assert skipped.sum() >= dark.sum() + 2


def test_predict_writes_the_label_of_rows_without_data(scene):
    _, _, dark, _ = scene
    assert run(*TRAIN, "--unlabelled", "0").exit_code == 0
    predict = ("predict", "run", "scene.zarr", "--features", "X", "--out", "out")
    result = run(*predict, "--nodata", "255", "--probabilities")
    assert result.exit_code == 0, result.output
    skipped = f"{dark.sum()} of {N} rows skipped: {dark.sum()} nodata"
    assert f"{skipped}; their label is 255" in result.stdout
    group = zarr.open_group("out", mode="r")
    np.testing.assert_array_equal(group["labels"][:] == 255, dark)
    np.testing.assert_array_equal(np.isnan(group["probabilities"][:]).all(axis=1), dark)
    assert group["labels"].attrs["_FillValue"] == 255
    refused(run(*predict, "--nodata", "1", "--overwrite"), "nodata=1 is a class of the model")
    refused(run(*predict, "--nodata", "dark", "--overwrite"), "--nodata is dark; expected numbers")


def test_predict_skips_the_values_of_the_training(scene):
    X, _, dark, _ = scene
    zarr.create_array("plain.zarr", data=X, chunks=(100, 3))  # declares nothing
    trained = ("train", "plain.zarr", "--labels", "scene.zarr/y", "--unlabelled", "0")
    assert run(*trained, "--nodata", "-32768", "--out", "run").exit_code == 0
    for options, expected in (((), dark), (("--features-nodata", "7"), np.zeros(N, bool))):
        command = ("predict", "run", "plain.zarr", "--out", "out", "--overwrite", *options)
        assert run(*command).exit_code == 0
        found = zarr.open_array("out/labels", mode="r")[:]
        np.testing.assert_array_equal(found == -1, expected)
