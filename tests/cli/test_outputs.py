"""``dsoftmax evaluate`` and ``predict``: their numbers, and outputs that they do not replace."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_data import N, change
from commands import DATA, TRAIN, refused, run, theta, train

PREDICT = ("run", "data.zarr", "--features", "X", "--out", "out.zarr")


def test_evaluate_and_predict_agree_with_the_coefficients(here, values):
    X, y, _ = values
    assert run(*TRAIN).exit_code == 0
    logits = X @ theta()[:, :-1].T + theta()[:, -1]
    expected = logits.argmax(axis=1)
    result = run("evaluate", "run", *DATA, "--json")
    found = json.loads(result.stdout)
    assert found["accuracy"] == pytest.approx(np.mean(expected == y), abs=1e-12)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert found["log_loss"] == pytest.approx(-np.mean(log_p[np.arange(N), y]), abs=1e-6)
    assert found["support"] == np.bincount(y).tolist()
    printed = run("evaluate", "run", *DATA)
    assert printed.exit_code == 0
    assert f"{100 * np.mean(expected == y):.3f} %" in printed.stdout
    assert run("predict", *PREDICT, "--probabilities").exit_code == 0
    out = zarr.open_group("out.zarr", mode="r")
    np.testing.assert_array_equal(out["labels"][:], expected)
    np.testing.assert_allclose(out["probabilities"][:], np.exp(log_p), atol=1e-6)


def test_evaluate_shows_the_largest_of_many_classes(here):
    rng = np.random.default_rng(3)
    group = zarr.create_group("many.zarr")
    y = np.r_[np.arange(60), rng.integers(0, 60, 2000)]
    group.create_array("X", data=rng.normal(size=(len(y), 2)))
    group.create_array("y", data=y)
    data = ("many.zarr", *DATA[1:])
    assert train("many.zarr", "X", "y", "--max-iter", "2", "--solver", "lbfgs").exit_code == 3
    assert "30 largest of 60 classes" in run("evaluate", "run", *data).stdout


def test_a_label_unknown_to_the_model_is_named(here):
    assert run(*TRAIN).exit_code == 0
    change("y", 5, 9)
    found = refused(run("evaluate", "run", *DATA), "data.zarr/y", "label 9 (row 5)", "[0 1 2 3]")
    assert "Pass classes" not in found.stderr


def test_existing_outputs_are_not_replaced(here):
    Path("run").mkdir()
    Path("run/thesis.tex").write_text("…")
    refused(run(*TRAIN), "thesis.tex")
    refused(run(*TRAIN, "--overwrite"), "thesis.tex")
    below = run(*TRAIN[:-1], "run/thesis.tex/run")
    refused(below, "run/thesis.tex/run", "Not a directory", "has not begun")
    assert [p.name for p in Path("run").iterdir()] == ["thesis.tex"]
    assert run("train", *DATA, "--out", "good").exit_code == 0
    predict = ("predict", "good", "data.zarr", "--features", "X", "--out")
    refused(run(*predict, "data.zarr"), "exists")
    refused(run(*predict, "data.zarr", "--overwrite"), "the data")
    refused(run(*predict, "good", "--overwrite"), "the run")
    refused(run(*predict, "run", "--overwrite"), "does not hold predictions")
    assert run(*predict, "out.zarr").exit_code == 0
    refused(run(*predict, "out.zarr"), "--overwrite")
    assert run(*predict, "out.zarr", "--overwrite").exit_code == 0


def test_a_run_directory_without_a_model_is_refused(here):
    refused(run("predict", "nowhere", *PREDICT[1:]), "nowhere does not exist")
    refused(run("evaluate", "data.zarr", *DATA), "data.zarr")
    Path("empty").mkdir()
    refused(run("evaluate", "empty", *DATA), "empty is neither a run directory")
    assert run(*TRAIN).exit_code == 0
    refused(
        run("evaluate", "run", "data.zarr", "--features", "extra/weights", "--labels", "y"),
        "dimensions",
    )
    shutil.rmtree("run/model.zarr")
    refused(run("predict", *PREDICT), "run/model.zarr")
    assert not Path("out.zarr").exists()
    assert run(*TRAIN).exit_code == 0  # from the checkpoint
    assert Path("run/model.zarr").exists()
