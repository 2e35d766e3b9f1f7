"""``dsoftmax train`` reaches scikit-learn's optimum, and finds the arrays that the options name."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_data import ROWS, N, P
from commands import TRAIN, passes, refused, run, theta, train

from dsoftmax.results.stored_model import load_model


def test_train_reaches_the_optimum_and_writes_a_run_directory(here, values):
    X, y, _ = values
    result = run(*TRAIN, "--tol", "1e-7")
    assert result.exit_code == 0, result.output
    assert "Converged after" in result.stdout
    assert "peak memory" in result.stdout
    assert "log₁₀ max|∇F|" in result.stderr
    files = {"run.json", "history.jsonl", "checkpoint.npz", "statistics.npz", "model.zarr"}
    assert files <= {entry.name for entry in Path("run").iterdir()}
    asked = json.loads(Path("run/run.json").read_text())
    assert asked["objective"]["C"] == "1.0"
    assert asked["versions"]["numpy"] == np.__version__
    assert asked["data"]["arrays"]["X"]["shape"] == [N, P]
    sklearn = pytest.importorskip("sklearn.linear_model")
    theirs = sklearn.LogisticRegression(tol=1e-10, max_iter=10_000).fit(X.astype(np.float64), y)
    model = load_model("run/model.zarr")
    np.testing.assert_allclose(
        model.theta[:, :-1], theirs.coef_ - theirs.coef_.mean(axis=0), atol=2e-5
    )
    assert passes() == list(range(1, model.about["n_passes"] + 1))


def test_weights_class_weights_and_no_intercept_are_those_of_scikit_learn(here, values):
    X, y, weights = values
    options = [
        "--weights",
        "extra/weights",
        "--class-weight",
        "balanced",
        "--no-intercept",
        "--C",
        "0.01",
    ]
    assert run(*TRAIN, *options, "--tol", "1e-8", "--dtype", "float64").exit_code == 0
    sklearn = pytest.importorskip("sklearn.linear_model")
    theirs = sklearn.LogisticRegression(
        C=0.01, class_weight="balanced", fit_intercept=False, tol=1e-10, max_iter=10_000
    )
    theirs.fit(X.astype(np.float64), y, weights)
    np.testing.assert_allclose(theta()[:, :-1], theirs.coef_ - theirs.coef_.mean(axis=0), atol=1e-5)
    assert np.all(theta()[:, -1] == 0)


def test_classes_and_class_weights_get_the_dtype_of_the_labels(here):
    assert run(*TRAIN, "--classes", "7, 3,2,1,0", "--class-weight", "0=2,3=0.5").exit_code in (0, 3)
    model = load_model("run/model.zarr")
    assert model.classes.tolist() == [0, 1, 2, 3, 7]
    assert model.classes.dtype.kind == "i"
    refused(run(*TRAIN, "--overwrite", "--classes", "a,b"), "--classes", "a,b", "int64")
    refused(run(*TRAIN, "--overwrite", "--classes", "1,1"), "twice")
    refused(run(*TRAIN, "--overwrite", "--class-weight", "0:2"), "label=weight")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("nested", [False, True])
def test_arrays_in_groups_and_in_other_stores(here, values, version, nested):
    X, y, _ = values
    group = zarr.create_group("other.zarr", zarr_format=version)
    place = "deep/er/" if nested else ""
    group.create_array(f"{place}X", data=X, chunks=(ROWS, P))
    written = {"zarr_format": version, "config": {"write_empty_chunks": True}}
    zarr.create_array("labels.zarr", data=y, chunks=(ROWS,), **written)
    result = train("other.zarr", f"{place}X", "labels.zarr")
    assert result.exit_code == 0, result.output
    again = train(f"other.zarr/{place}X", None, "labels.zarr")  # DATA may be the array itself
    assert again.exit_code == 0, again.output
    assert "already ended" in again.stdout


def test_unreadable_consolidated_metadata_are_ignored(here, values):
    group = zarr.create_group("old.zarr", zarr_format=2)
    group.create_array("X", data=values[0], chunks=(ROWS, P))
    Path("old.zarr/.zmetadata").write_text(
        '{"zarr_consolidated_format": 1, "metadata": {"X/.zarray": {"shape": "?"}}}'
    )
    result = train("old.zarr", "X", "data.zarr/y")
    assert result.exit_code == 0, result.output


def test_an_l1_penalty_needs_its_solver_and_gives_zeros(here):
    refused(run(*TRAIN, "--l1-ratio", "1"), "'lbfgs'", "'proximal-newton'", "--solver")
    refused(run(*TRAIN, "--l1-ratio", "2"), "l1_ratio", "2.0")
    result = run(*TRAIN, "--l1-ratio", "1", "--C", "0.01", "--solver", "proximal-newton")
    assert result.exit_code == 0, result.output
    assert 0 < np.mean(theta() == 0) < 1
    assert json.loads(Path("run/run.json").read_text())["objective"]["l1_ratio"] == 1.0
    assert load_model("run/model.zarr").about["l1_ratio"] == 1.0


def test_a_separation_without_a_penalty_is_named_and_ends_with_exit_code_3(here, rng):
    """The sample has a part of the rows, so a last pass judges the direction."""
    group, n = zarr.create_group("separable.zarr"), 6000
    X, y = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    X[:, 1] = np.arange(n) % 300 == 0
    y[X[:, 1] == 1] = 2
    written = {"config": {"write_empty_chunks": True}}
    group.create_array("X", data=X, chunks=(500, 3), **written)
    group.create_array("y", data=y, chunks=(500,), **written)
    train = ["train", "separable.zarr", "--features", "X", "--labels", "y", "--C", "inf"]
    for _ in range(2):  # the second time, the checkpoint says so
        result = run(*train, "--out", "separable")
        assert result.exit_code == 3, result.output
        said = " ".join(result.output.split())
        assert "separates some rows of class 2 from classes 0 and 1" in said
        assert "by feature 1. " in said
