"""Every kind of stored labels passes every command: train, resume, predict, evaluate."""

import json

import numpy as np
import pytest
import zarr
from command_data import random_rows
from commands import run
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from zarr.core.dtype import VariableLengthBytes

X, CODES, _ = random_rows(3, 400, 3, 3)
WORDS = np.array(["oak", "fir", "bïrch"])[CODES]
UTF8 = np.array([word.encode() for word in WORDS.tolist()])
ROWS = ("data.zarr", "--features", "X")
LABELLED = (*ROWS, "--labels", "y")
KINDS = {
    "strings of any length": (WORDS, "str", (2, 3)),
    "bytes of any length": (UTF8.astype(object), VariableLengthBytes(), (2,)),
    "strings of fixed width": (WORDS, "U5", (2,)),
    "bytes of fixed width": (UTF8, "S6", (2,)),
    "booleans": (CODES > 0, "bool", (2, 3)),
    "half-precision floats": (CODES.astype("f2"), "f2", (3,)),
    "big-endian": (CODES.astype(">i4"), ">i4", (2,)),
}
CASES = [(kind, version) for kind, (_, _, versions) in KINDS.items() for version in versions]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}, v{case[1]}")
def theirs(request, tmp_path, monkeypatch):
    """Store the labels, and return scikit-learn's model with its accuracy."""
    kind, version = request.param
    y, dtype, _ = KINDS[kind]
    group = zarr.create_group(tmp_path / "data.zarr", zarr_format=version)
    group.create_array("X", data=X, chunks=(100, 3))
    options = {"shape": (len(y),), "chunks": (70,), "config": {"write_empty_chunks": True}}
    group.create_array("y", dtype=dtype, **options)[:] = y
    monkeypatch.chdir(tmp_path)
    text = np.array([one.decode() if isinstance(one, bytes) else one for one in y.tolist()])
    model = LogisticRegression(tol=1e-10, max_iter=1000).fit(X, text)
    return model, model.score(X, text)


def test_train_predict_and_evaluate_take_the_same_labels(theirs):
    model, accuracy = theirs
    classes = model.classes_.tolist()
    names = ",".join(map(str, classes))
    weights = ",".join(f"{label}=1" for label in classes)
    train = ("train", *LABELLED, "--tol", "1e-7", "--solver", "lbfgs", "--classes", names)
    assert run("inspect", *LABELLED).exit_code == 0
    assert run("train", *LABELLED, "--tol", "1e-7", "--out", "run").exit_code == 0
    for n_iter, code in (("1", 3), ("100", 0)):  # the second command resumes
        result = run(*train, "--class-weight", weights, "--max-iter", n_iter, "--out", "named")
        assert result.exit_code == code, result.output
    assert run("train", *LABELLED, "--folds", "3", "--C", "1", "--out", "folds").exit_code == 0
    for name in ("run", "named"):
        printed = run("evaluate", name, *LABELLED, "--json")
        assert printed.exit_code == 0, printed.output
        found = json.loads(printed.stdout)
        assert found["accuracy"] == pytest.approx(accuracy)
        assert found["classes"] == classes
        assert run("evaluate", name, *LABELLED).exit_code == 0
        predicted = run("predict", name, *ROWS, "--out", f"{name}.zarr", "--probabilities")
        assert predicted.exit_code == 0, predicted.output
        group = zarr.open_group(f"{name}.zarr", mode="r")
        assert group.attrs["classes"] == classes
        assert_array_equal(group["labels"][:].astype(object), model.predict(X).astype(object))
