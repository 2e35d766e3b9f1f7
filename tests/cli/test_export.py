"""``dsoftmax export`` writes what the methods of the model write, whole or not at all."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import refused, run

from dsoftmax import Model, load_model, save_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A run directory."""
    path = tmp_path_factory.mktemp("exported") / "run"
    options = ("--features", "X", "--labels", "y", "--engine", "serial", "--out", path)
    assert run("train", data, *options).exit_code == 0
    return path


def test_json_and_scikit_learn(trained, data, tmp_path):
    X = zarr.open_group(data)["X"][:].astype(np.float64)
    model = load_model(trained)
    done = run("export", trained, "--to", "json", "--out", tmp_path / "deep" / "m.json")
    assert done.exit_code == 0, done.stderr
    assert "3 classes and 4 features" in done.stdout
    found = json.loads((tmp_path / "deep" / "m.json").read_text())
    np.testing.assert_array_equal(found["coef"], model.theta[:, :-1])
    assert run("export", trained, "--to", "sklearn", "--out", tmp_path / "m.pkl").exit_code == 0
    fitted = pickle.loads((tmp_path / "m.pkl").read_bytes())
    expected = model.predict_proba(X, dtype="float64")
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=0, atol=1e-12)


def test_onnx(trained, tmp_path):
    import onnx

    for words, first in ((), "MatMul"), (("--dtype", "float32"), "LinearClassifier"):
        out = ("--out", tmp_path / "m.onnx", "--overwrite")
        assert run("export", trained, "--to", "onnx", *out, *words).exit_code == 0
        assert onnx.load(tmp_path / "m.onnx").graph.node[0].op_type == first


def test_celltypist_needs_names_and_gets_them(trained, tmp_path):
    out = ("--to", "celltypist", "--out", tmp_path / "m.pkl")
    refused(run("export", trained, *out), "have no names")
    assert not list(tmp_path.iterdir())
    model = load_model(trained)
    save_model(Model(model.theta, model.classes, {}, np.array(list("abcd"))), tmp_path / "n.zarr")
    assert run("export", tmp_path / "n.zarr", *out).exit_code == 0
    assert pickle.loads((tmp_path / "m.pkl").read_bytes())["Model"].features.tolist() == list(
        "abcd"
    )


def test_the_steps_of_a_run_are_known(data, tmp_path):
    options = ("--features", "X", "--labels", "y", "--nodata", "-9999,nan", "--out", tmp_path / "r")
    assert run("train", data, *options).exit_code == 0
    out = ("--out", tmp_path / "m")
    for target in ("sklearn", "onnx", "celltypist"):
        refused(run("export", tmp_path / "r", "--to", target, *out), "skips rows", "-9999, nan")
    assert not (tmp_path / "m").exists()
    assert run("export", tmp_path / "r", "--to", "json", *out).exit_code == 0
    found = json.loads((tmp_path / "m").read_text())["before"]
    assert {float(text) for text in found["nodata"]} >= {-9999.0}


def test_mistakes(trained, tmp_path):
    path = tmp_path / "m.json"
    path.write_text("mine")
    out = ("--out", path)
    refused(run("export", trained, "--to", "json", *out), "would be overwritten", "--overwrite")
    assert path.read_text() == "mine"
    refused(run("export", trained, "--to", "json", *out, "--dtype", "float32"), "--to onnx")
    refused(run("export", tmp_path / "none", "--to", "json", *out), "does not exist")
    assert "jsn" in run("export", trained, "--to", "jsn", *out).stderr
    assert run("export", trained, "--to", "json", *out, "--overwrite").exit_code == 0
    assert json.loads(Path(path).read_text())["version"] == 1
