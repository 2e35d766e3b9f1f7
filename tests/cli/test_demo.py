"""The synthetic scene, and the textbook loop that checks what training finds on it."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from dsoftmax.cli.demo import scene as demo
from dsoftmax.cli.demo.textbook import textbook_pass
from dsoftmax.cli.program import main
from dsoftmax.errors import OutputExistsError


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    planned = demo.plan_scene(tmp_path_factory.mktemp("demo") / "scene.zarr", 1)
    demo.make_scene(planned)
    return planned


def arrays(scene):
    group = zarr.open_group(scene.path, mode="r")
    return group["X"][:], group["y"][:], group["held_out/X"][:], group["held_out/y"][:]


def test_the_scene_is_what_it_says(scene):
    X, y, X_out, y_out = arrays(scene)
    assert X.shape == (scene.n_pixels, demo.N_BANDS)
    assert X.dtype == np.float32
    assert X.nbytes == scene.n_bytes
    assert len(X) == len(y)
    assert len(X_out) == len(y_out) == scene.held_out_lines * demo.WIDTH
    assert set(np.unique(y)) <= set(range(len(demo.CLASSES)))
    assert (
        json.loads((scene.path / "zarr.json").read_text())["attributes"]["dsoftmax_demo"][
            "synthetic"
        ]
        is True
    )
    image = y.reshape(scene.lines, demo.WIDTH)
    assert np.mean(image[:, 1:] == image[:, :-1]) > 0.95  # a smooth map
    correlation = np.corrcoef(X[y == y[0]].T)
    assert np.abs(correlation - np.eye(demo.N_BANDS)).max() > 0.02


def test_the_scene_is_the_same_again_and_never_written_over(scene, tmp_path):
    assert demo.is_complete(scene)
    again = demo.plan_scene(tmp_path / "scene.zarr", 1)
    assert not demo.is_complete(again)
    demo.make_scene(again)
    for ours, theirs in zip(arrays(scene), arrays(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(OutputExistsError, match="another size"):
        demo.is_complete(demo.plan_scene(scene.path, 10 * scene.n_bytes))
    other = demo.plan_scene(tmp_path / "other", 1)
    other.path.mkdir()
    with pytest.raises(OutputExistsError, match="not a scene"):
        demo.is_complete(other)


def test_a_scene_is_as_large_as_was_asked():
    for n_bytes in (1, 10**8, 2**30):
        assert demo.plan_scene(Path("scene.zarr"), n_bytes).n_bytes >= n_bytes
    assert demo.plan_scene(Path("scene.zarr"), 2**30).n_bytes == 2**30


def test_the_textbook_loop_is_the_formula(scene):
    X, y, *_ = arrays(scene)
    K, n = len(demo.CLASSES), len(y)
    theta = np.random.default_rng(1).normal(scale=0.2, size=(K, demo.N_BANDS + 1))
    found = textbook_pass(scene, theta, C=0.5)
    some = np.random.default_rng(2).choice(n, 400, replace=False)

    def loss(t, rows):  # the formula by itself, in float64, a row at a time
        total = 0.0
        for i in rows:
            z = [float(t[k, :-1] @ X[i].astype(np.float64) + t[k, -1]) for k in range(K)]
            total -= z[y[i]] - float(np.log(np.sum(np.exp(z))))
        return total

    penalty = np.sum(theta[:, :-1] ** 2) / (2 * 0.5 * n)
    assert found.value - penalty == pytest.approx(
        loss(theta, some) / len(some), rel=0.2
    )  # a sample of the rows
    Z = X.astype(np.float64) @ theta[:, :-1].T + theta[:, -1]
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    expected = -np.mean(np.log(P[np.arange(n), y])) + penalty
    assert found.value == pytest.approx(expected, rel=1e-6)
    R = P - np.eye(K)[y]
    gradient = np.hstack([R.T @ X + theta[:, :-1] / 0.5, R.sum(axis=0)[:, None]]) / n
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-6)


def test_the_command_trains_compares_and_uses_the_scene_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(
        main, ["demo", "--memory", "768MiB", "--size", "0.02", "--dir", "here"]
    )
    assert first.exit_code == 0, first.output
    for word in (
        "synthetic",
        "Converged",
        "held out",
        "Plain NumPy",
        "768.0 MiB allowed",
        "dsoftmax train data.zarr",
    ):
        assert word in first.stdout
    accuracy = float(first.stdout.partition("held out  ")[2].partition(" %")[0])
    assert 50 < accuracy < 95  # not separable, and not noise
    written = (tmp_path / "here/scene.zarr/zarr.json").stat().st_mtime_ns
    again = CliRunner().invoke(
        main, ["demo", "--memory", "768MiB", "--size", "0.02", "--dir", "here"]
    )
    assert again.exit_code == 0, again.output
    assert "Using the synthetic scene" in again.stderr
    assert "ended before" in again.stdout
    assert (tmp_path / "here/scene.zarr/zarr.json").stat().st_mtime_ns == written


def test_the_command_leaves_other_things_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("…")
    result = CliRunner().invoke(
        main, ["demo", "--memory", "768MiB", "--size", "0.02", "--dir", "home"]
    )
    assert result.exit_code == 1
    assert "thesis.tex" in result.stderr
    assert [entry.name for entry in (tmp_path / "home").iterdir()] == ["thesis.tex"]
    assert CliRunner().invoke(main, ["demo", "--size", "-1"]).exit_code == 1
