"""Cross-validation and validation sets on the command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import reference
import zarr
from command_data import N
from commands import DATA, TRAIN, refused, run, theta

from dsoftmax.results.stored_model import load_model

GRID = ("train", *DATA, "--C", "0.01,1,100", "--folds", "3", "--out", "grid")


def test_a_grid_is_scored_printed_and_saved(here):
    result = run(*GRID)
    assert result.exit_code == 0, result.stderr
    assert "3 values of C × (3 folds + all rows)" in result.stdout
    assert "12 models" in result.stdout
    scores = json.loads(Path("grid/scores.json").read_text())
    assert (scores["C"], scores["folds"], scores["scoring"]) == ([0.01, 1.0, 100.0], 3, "accuracy")
    assert np.shape(scores["accuracy"]) == np.shape(scores["log_loss"]) == (3, 3)
    best = scores["C"][int(np.argmax(np.mean(scores["accuracy"], axis=0)))]
    assert scores["best_C"] == best == load_model("grid/model.zarr").about["C"]
    assert run("train", *DATA, "--C", str(best), "--out", "one").exit_code == 0
    np.testing.assert_allclose(theta("grid"), theta("one"), atol=1e-3)
    assert len(Path("grid/history.jsonl").read_text().splitlines()) == scores["n_passes"]
    again = run(*GRID)
    assert "already ended" in again.stdout


def test_folds_of_groups_are_scored_as_scikit_learn_scores_them(here, values):
    sklearn = pytest.importorskip("sklearn.linear_model")
    X, y, _ = values
    result = run(*GRID, "--groups", "scene", "--tol", "1e-8", "--dtype", "float64")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(Path("grid/scores.json").read_text())
    which = np.array([reference.fold(int(scene), 3) for scene in np.arange(N) // 60])
    for fold in range(3):
        out = which == fold
        theirs = sklearn.LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(
            X[~out].astype(float), y[~out]
        )
        assert scores["accuracy"][fold][1] == pytest.approx(
            theirs.score(X[out].astype(float), y[out]), abs=1e-12
        )
    asked = json.loads(Path("grid/run.json").read_text())
    assert asked["data"]["arrays"]["groups"]["store"].endswith("data.zarr/scene")
    other = run(*GRID, "--tol", "1e-8", "--dtype", "float64")
    refused(other, "groups", "--overwrite")
    shown = run("inspect", *DATA, "--folds", "3", "--groups", "scene")
    assert shown.exit_code == 0, shown.stderr
    assert re.search(r"data\.zarr/scene +6,000 int64", shown.stdout)


def test_a_column_of_folds_is_scored_as_scikit_learn_scores_it(here, values):
    sklearn = pytest.importorskip("sklearn.linear_model")
    X, y, _ = values
    column = np.arange(N) % 4 - 1
    zarr.create_array("folds", data=column.astype("i1"), chunks=(700,))
    tight = ("--fold-column", "folds", "--tol", "1e-8", "--dtype", "float64")
    result = run(*GRID, *tight)
    assert result.exit_code == 0, result.stderr
    scores = json.loads(Path("grid/scores.json").read_text())
    for fold in range(3):
        out = column == fold
        theirs = sklearn.LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(X[~out], y[~out])
        assert scores["accuracy"][fold][1] == pytest.approx(theirs.score(X[out], y[out]), abs=2e-3)
    assert "already ended" in run(*GRID, *tight).stdout
    refused(run(*GRID, "--groups", "folds", *tight[2:]), "given_folds", "--overwrite")
    assert run("inspect", *DATA, "--folds", "3", "--fold-column", "folds").exit_code == 0
    refused(run(*TRAIN, "--fold-column", "folds"), "--fold-column does nothing without --folds")
    refused(run(*GRID, "--groups", "scene", "--fold-column", "folds"), "--fold-column both")
    refused(run(*GRID, "--fold-column", "scene", "--overwrite"), "scene row 180", "the fold is 3")


def test_a_validation_set_holds_whole_groups(here):
    held_out = [reference.place(scene) < 0.3 for scene in (np.arange(N) // 60).tolist()]
    options = ["--validation-fraction", "0.3", "--groups", "scene", "--max-iter", "2"]
    assert run(*TRAIN, *options).exit_code in (0, 3)
    with np.load("run/statistics.npz") as stored:
        assert stored["held_rows"].sum() == sum(held_out)


def test_neg_log_loss_is_another_name_of_log_loss(here):
    grid = (*GRID, "--scoring")
    assert run(*grid, "neg_log_loss").exit_code == 0
    scores = json.loads(Path("grid/scores.json").read_text())
    assert scores["scoring"] == "log_loss"
    assert scores["best_C"] == scores["C"][int(np.argmin(np.mean(scores["log_loss"], axis=0)))]
    assert json.loads(Path("grid/run.json").read_text())["objective"]["scoring"] == "log_loss"
    assert "already ended" in run(*grid, "log_loss").stdout  # the same run by its other name


@pytest.mark.parametrize("groups", [(), ("--groups", "scene")])
def test_a_stopped_grid_resumes_to_the_same_bits(here, groups):
    many = (*GRID, *groups, "--solver", "lbfgs")
    assert run(*many, "--max-iter", "3").exit_code == 3
    assert run(*many, "--max-iter", "300").exit_code == 0
    stopped = Path("grid/scores.json").read_text(), theta("grid").tobytes()
    assert run(*many, "--max-iter", "300", "--overwrite").exit_code == 0
    assert (Path("grid/scores.json").read_text(), theta("grid").tobytes()) == stopped


def test_a_validation_set_stops_a_run_early(here):
    result = run(*TRAIN, *["--validation-fraction", "0.3", "--tol", "0", "--C", "inf"])
    assert result.exit_code == 0, result.stderr
    assert "Stopped early after" in result.stdout
    lines = Path("run/history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["held_loss"] for line in lines]
    known = [loss for loss in losses if loss is not None]
    assert f"{min(known):.6g}" in result.stdout


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--C", "1,10"), ("--C", "2 values", "--folds")),
        (("--C", "1,x"), ("--C", "1,x", "commas")),
        (("--folds", "1"), ("--folds", "1", "at least 2")),
        (("--C", "2,-1", "--folds", "3"), ("--C", "[-1.0, 2.0]", "positive")),
        (("--scoring", "log_loss"), ("--scoring", "--folds")),
        (("--folds", "3", "--validation-fraction", "0.1"), ("--validation-fraction", "--folds")),
        (("--validation-fraction", "1.5"), ("validation_fraction", "1.5")),
        (("--groups", "scene"), ("--groups", "--folds", "--validation-fraction")),
        (("--groups", "scenes", "--folds", "3"), ("--groups", "scenes")),
        (("--groups", "short", "--folds", "3"), ("data.zarr/short", "5,999")),
    ],
)
def test_useless_or_wrong_grid_options_are_refused(here, options, parts):
    refused(run("train", *DATA, *options, "--out", "run"), *parts)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("groups", "parts"),
    [
        ("place", ("data.zarr/place", "row 700", "nan")),
        ("few", ("folds", "fewer")),
    ],
)
def test_groups_that_cannot_be_folds_are_refused(here, groups, parts):
    refused(run("train", *DATA, "--folds", "5", "--groups", groups, "--out", "run"), *parts)
