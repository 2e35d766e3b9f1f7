"""The commands on cubes: options, messages, maps, and what a model remembers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from commands import refused, run
from cubes import BANDS, group_of, put, scene

import dsoftmax.results.stored_map as stored_map

CUBE = ("cube.zarr", "--features", "reflectance", "--feature-dim", "band")
LABELS = ("--labels", "landcover")
FLAGS = {"flag_values": [1, 2, 3], "flag_meanings": "water forest urban_area"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a cube, its bands as variables, and a model."""
    path = tmp_path_factory.mktemp("cubes")
    X, classes, _ = scene()
    group = group_of(path / "cube.zarr")
    put(group, "reflectance", X, ("band", "y", "x"), (2, 8, 10))
    put(group, "landcover", classes, ("y", "x"), (23, 31), attributes=FLAGS)
    put(group, "time_of_day", X, ("hour", "y", "x"), (3, 23, 31))
    put(group, "wide", np.zeros((23, 40), "u1"), ("y", "x2"), (23, 40))
    for name, one in zip(BANDS, X, strict=True):
        put(group, name, one, ("y", "x"), (8, 31))
    plain = zarr.create_group(path / "plain.zarr")
    plain.create_array("X", data=X, chunks=(3, 8, 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert run("train", *CUBE, *LABELS, "--out", "run").exit_code == 0
    return path


@pytest.fixture(autouse=True)
def here(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "all")
    monkeypatch.chdir(tmp_path / "all")


def test_inspect_shows_the_dimensions_and_the_plan():
    found = run("inspect", *CUBE, *LABELS)
    assert "3 × 23 × 31 float32" in found.stdout
    assert "features  " in found.stdout
    assert "713" in found.stdout


def test_train_records_the_cube(trained):
    about = json.loads((trained / "run/model.zarr/zarr.json").read_text())["attributes"]
    text = json.dumps(about)
    assert '"feature_dim": ["band"]' in text
    assert '"class_names": {"1": "water", "2": "forest", "3": "urban_area"}' in text


def test_variables_are_features():
    names = ("cube.zarr", "--features", ",".join(BANDS), *LABELS)
    assert run("train", *names, "--out", "other").exit_code == 0
    one, two = (
        json.loads(Path(run_, "history.jsonl").read_text().splitlines()[-1])
        for run_ in ("run", "other")
    )
    assert one["objective"] == pytest.approx(two["objective"], rel=1e-9)
    found = run("evaluate", "other", *names, "--json")
    again = run("evaluate", "run", *CUBE, *LABELS, "--json")
    assert json.loads(found.stdout)["accuracy"] == json.loads(again.stdout)["accuracy"]


def test_a_model_remembers_the_feature_dimension():
    short = run("evaluate", "run", *CUBE[:3], *LABELS, "--json")
    assert json.loads(short.stdout) == json.loads(
        run("evaluate", "run", *CUBE, *LABELS, "--json").stdout
    )


def test_predict_writes_a_map_and_its_pictures():
    drawn = ("--png", "map.png", "--geotiff", "map.tif")
    found = run("predict", "run", *CUBE[:3], "--out", "map.zarr", "--probabilities", *drawn)
    assert found.exit_code == 0, found.output
    assert "map.zarr/labels, 23 × 31" in found.stdout
    ds = xr.open_zarr("map.zarr", mask_and_scale=False)
    assert ds["labels"].attrs["flag_meanings"] == "water forest urban_area"
    assert ds["probabilities"].dims == ("class", "y", "x")
    assert Path("map.png").stat().st_size > 1000
    assert Path("map.tif").stat().st_size > 100
    refused(run("predict", "run", *CUBE, "--out", "map.zarr"), "map.zarr already exists")
    again = run("predict", "run", *CUBE, "--out", "map.zarr", "--overwrite")
    assert again.exit_code == 0, again.output


def test_an_interrupted_map_names_the_command_that_continues(monkeypatch):
    monkeypatch.setattr("dsoftmax.data.cubes.tiling.GROUP_BYTES", 0)
    real, seen = stored_map.Progress.add, []

    def add(self, tile, skipped):
        real(self, tile, skipped)
        seen.append(tile)
        if len(seen) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(stored_map.Progress, "add", add)
    found = run("predict", "run", *CUBE, "--out", "map.zarr")
    assert found.exit_code == 3
    assert ".map.zarr.partial" in found.stderr
    assert "To continue:\n  dsoftmax" in found.stderr
    monkeypatch.setattr(stored_map.Progress, "add", real)
    assert run("predict", "run", *CUBE, "--out", "map.zarr").exit_code == 0
    assert run("predict", "run", *CUBE, "--out", "whole.zarr").exit_code == 0
    one, two = (xr.open_zarr(name)["labels"].values for name in ("map.zarr", "whole.zarr"))
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--features", "reflectance", "--feature-dim", "bnad"), "Did you mean band? It has"),
        (("--features", "B02,B3"), "Did you mean B03?"),
        (("--features", "B02,B02"), "is named twice"),
        (("--features", "time_of_day", "--feature-dim", "hour,hour"), "names a dimension twice"),
        (("--features", "reflectance"), "--feature-dim"),
        (("--features", "reflectance", "--feature-dim", "band", "--log1p"), "--log1p"),
    ],
)
def test_mistakes_of_features(words, message):
    found = run("train", "cube.zarr", *words, *LABELS, "--out", "new")
    refused(found, message)


def test_mistakes_of_labels_and_pictures():
    refused(run("train", *CUBE, "--labels", "wide", "--out", "new"), "has the dimension x2")
    refused(
        run(
            "train", "plain.zarr", "--features", "X", "--feature-dim", "band", *LABELS, "--out", "n"
        ),
        "has no dimension names",
    )
    refused(run("train", *CUBE[:1], "--features", "B02,", "--labels", "landcovr", "--out", "n"),
            "Did you mean landcover?")  # fmt: skip
    refused(
        run("predict", "run", *CUBE[:1], "--features", "B02,B03", "--out", "map.zarr"),
        "lacks 3 of the 3 features of the model: 0, 1, 2",
    )
