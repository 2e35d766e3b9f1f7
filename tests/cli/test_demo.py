"""The demo: its synthetic scene, its textbook loop, and the command that compares with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import refused, run

from dsoftmax.cli.demo.scene import CLASSES, N_BANDS, WIDTH, is_complete, make_scene, plan_scene
from dsoftmax.cli.demo.textbook import textbook_pass
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import OutputExistsError
from dsoftmax.results.metrics import Score

COMMAND = ("demo", "--memory", "768MiB", "--size", "0.02", "--dir")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    planned = plan_scene(tmp_path_factory.mktemp("demo") / "scene.zarr", 1)
    make_scene(planned)
    return planned


def arrays(scene):
    group = zarr.open_group(scene.path, mode="r")
    return group["X"][:], group["y"][:], group["held_out/X"][:], group["held_out/y"][:]


def test_the_scene_has_the_planned_sizes_smooth_classes_and_correlated_bands(scene):
    X, y, X_out, y_out = arrays(scene)
    assert X.shape == (scene.n_pixels, N_BANDS)
    assert X.dtype == np.float32
    assert X.nbytes == scene.n_bytes
    assert len(X) == len(y)
    assert len(X_out) == len(y_out) == scene.held_out_lines * WIDTH
    assert set(np.unique(y)) <= set(range(len(CLASSES)))
    attributes = json.loads((scene.path / "zarr.json").read_text())["attributes"]
    assert attributes["dsoftmax_demo"]["synthetic"] is True
    image = y.reshape(scene.lines, WIDTH)
    assert np.mean(image[:, 1:] == image[:, :-1]) > 0.95  # a smooth map
    correlation = np.corrcoef(X[y == y[0]].T)
    assert np.abs(correlation - np.eye(N_BANDS)).max() > 0.02


def test_the_scene_is_reproducible_and_replaces_nothing(scene, tmp_path):
    assert is_complete(scene)
    again = plan_scene(tmp_path / "scene.zarr", 1)
    assert not is_complete(again)
    make_scene(again)
    for ours, theirs in zip(arrays(scene), arrays(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(OutputExistsError, match="another size"):
        is_complete(plan_scene(scene.path, 10 * scene.n_bytes))
    other = plan_scene(tmp_path / "other", 1)
    other.path.mkdir()
    with pytest.raises(OutputExistsError, match="not a scene"):
        is_complete(other)


def test_a_scene_has_at_least_the_bytes_that_were_asked_for():
    for n_bytes in (1, 10**8, 2**30):
        assert plan_scene(Path("scene.zarr"), n_bytes).n_bytes >= n_bytes
    assert plan_scene(Path("scene.zarr"), 2**30).n_bytes == 2**30


def test_the_textbook_loop_computes_the_formula(scene):
    X, y, *_ = arrays(scene)
    K, n = len(CLASSES), len(y)
    theta = np.random.default_rng(1).normal(scale=0.2, size=(K, N_BANDS + 1))
    found = textbook_pass(scene, theta, C=0.5)
    some = np.random.default_rng(2).choice(n, 400, replace=False)

    def loss(t, rows):  # the formula in float64, row by row
        total = 0.0
        for i in rows:
            z = [float(t[k, :-1] @ X[i].astype(np.float64) + t[k, -1]) for k in range(K)]
            total -= z[y[i]] - float(np.log(np.sum(np.exp(z))))
        return total

    penalty = np.sum(theta[:, :-1] ** 2) / (2 * 0.5 * n)
    sampled = loss(theta, some) / len(some)
    assert found.value - penalty == pytest.approx(sampled, rel=0.2)
    Z = X.astype(np.float64) @ theta[:, :-1].T + theta[:, -1]
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    expected = -np.mean(np.log(P[np.arange(n), y])) + penalty
    assert found.value == pytest.approx(expected, rel=1e-6)
    R = P - np.eye(K)[y]
    gradient = np.hstack([R.T @ X + theta[:, :-1] / 0.5, R.sum(axis=0)[:, None]]) / n
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-6)


def test_the_command_trains_compares_and_reuses_the_scene(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run(*COMMAND, "here")
    assert first.exit_code == 0, first.output
    for words in ("synthetic", "Converged", "held out", "Plain NumPy", "limit 768.0 MiB"):
        assert words in first.stdout
    assert "dsoftmax train data.zarr" in first.stdout
    accuracy = float(first.stdout.partition("accuracy ")[2].partition(" %")[0])
    assert 50 < accuracy < 95  # neither separable nor noise
    written = (tmp_path / "here/scene.zarr/zarr.json").stat().st_mtime_ns
    again = run(*COMMAND, "here")
    assert again.exit_code == 0, again.output
    assert "Using the synthetic scene" in again.stderr
    assert "already ended" in again.stdout
    assert (tmp_path / "here/scene.zarr/zarr.json").stat().st_mtime_ns == written


def test_the_command_changes_no_foreign_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("…")
    refused(run(*COMMAND, "home"), "thesis.tex", "--dir")
    assert [entry.name for entry in (tmp_path / "home").iterdir()] == ["thesis.tex"]
    refused(run("demo", "--size", "-1"), "--size", "-1")


def test_the_command_refuses_before_training_if_the_comparison_exceeds_the_limit(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Score, "footprint", lambda *_: Footprint(scratch=2**40))
    refused(run(*COMMAND, "here"), "768 MiB", "1,048,")
    assert not (tmp_path / "here/run").exists()
