"""A real scene as a cube: the commands and the estimator, in three orders of dimensions."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from commands import run
from sklearn.linear_model import LogisticRegression

DATA = os.environ.get("DSOFTMAX_DATA")

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        DATA is None, reason="DSOFTMAX_DATA does not name a folder with landsat7_nc.npz"
    ),
]
ORDERS = [("band", "y", "x"), ("y", "x", "band"), ("x", "band", "y")]
CHUNKS = {"band": 2, "y": 100, "x": 150}


@pytest.fixture(scope="module")
def scene():
    with np.load(Path(DATA) / "landsat7_nc.npz") as file:
        X, classes = file["cube"], file["landclass96"]
    coords = {
        "y": 228500 - 28.5 * np.arange(X.shape[1]),
        "x": 629992 + 28.5 * np.arange(X.shape[2]),
    }
    ds = xr.Dataset(
        {"reflectance": (("band", "y", "x"), X), "landcover": (("y", "x"), classes)}, coords
    )
    rows, labels = X.reshape(len(X), -1).T.astype(float), classes.reshape(-1)
    counted = ~np.isnan(rows).any(axis=1) & (labels > 0)
    rows, labels = rows[counted], labels[counted]
    fitted = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(rows, labels)
    own = fitted.predict_log_proba(rows)[np.arange(len(labels)), labels - 1]
    F = -own.mean() + (fitted.coef_**2).sum() / (2 * len(labels))
    hits = (fitted.predict(rows) == labels).mean()
    return ds, counted, F, hits


@pytest.mark.parametrize("order", ORDERS)
def test_the_commands_on_a_landsat_scene(order, scene, tmp_path):
    ds, counted, F, hits = scene
    cube = ds.assign(reflectance=ds["reflectance"].transpose(*order).chunk(CHUNKS))
    cube.to_zarr(tmp_path / "cube.zarr", zarr_format=2)
    names = ["--features", "reflectance", "--feature-dim", "band", "--labels", "landcover"]
    told = run("inspect", tmp_path / "cube.zarr", *names, "--unlabelled", "0").stdout
    assert "216,627" in told
    options = ["--unlabelled", "0", "--tol", "1e-8", "--out", tmp_path / "run"]
    assert run("train", tmp_path / "cube.zarr", *names, *options).exit_code == 0
    summary = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[-1])
    assert summary["objective"] == pytest.approx(F, rel=1e-6)
    found = run("evaluate", tmp_path / "run", tmp_path / "cube.zarr", *names, "--json")
    metrics = json.loads(found.stdout)
    assert metrics["accuracy"] == pytest.approx(hits, abs=1e-5)
    assert sum(metrics["skipped"].values()) == len(counted) - counted.sum()
    out = ["--out", tmp_path / "map.zarr", "--png", tmp_path / "map.png"]
    assert run("predict", tmp_path / "run", tmp_path / "cube.zarr", *names[:2], *out).exit_code == 0
    predicted = xr.open_zarr(tmp_path / "map.zarr", mask_and_scale=False)["labels"]
    predicted = predicted.transpose("y", "x").values.reshape(-1)[counted]
    true = ds["landcover"].values.reshape(-1)[counted]
    assert (predicted == true).mean() == pytest.approx(hits, abs=1e-5)
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
