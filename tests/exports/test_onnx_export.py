"""ONNX's own evaluator computes the labels and the probabilities of a model."""

import json
import sys

import numpy as np
import onnx
import pytest
from exported import CLASSES, STEPS, expected, model_of, rows_of
from numpy.testing import assert_allclose, assert_array_equal
from onnx.reference import ReferenceEvaluator

from dsoftmax.errors import DataError, OptionError, OutputExistsError
from dsoftmax.exports import onnx as export


def computed(path, X):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return ReferenceEvaluator(str(path)).run(None, {"X": X})


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("far", [0.0, 1e5])
def test_float64_keeps_all_digits(tmp_path, kind, far):
    model, X = model_of(CLASSES[kind], far=far), rows_of(far=far)
    model.to_onnx(tmp_path / "deep" / "m.onnx")
    label, P = computed(tmp_path / "deep" / "m.onnx", X)
    y, expected_P = expected(model, X)
    assert label.tolist() == y.tolist()
    assert P.dtype == np.float64
    assert_allclose(P, expected_P, rtol=0, atol=1e-12 if far == 0 else 1e-9)


@pytest.mark.parametrize("kind", CLASSES)
def test_float32_is_one_classifier(tmp_path, kind):
    model, X = model_of(CLASSES[kind]), rows_of().astype(np.float32)
    model.to_onnx(tmp_path / "m.onnx", dtype="float32")
    label, P = computed(tmp_path / "m.onnx", X)
    y, expected_P = expected(model, X.astype(np.float64))
    assert onnx.load(tmp_path / "m.onnx").graph.node[0].op_type == "LinearClassifier"
    assert label.tolist() == y.tolist()
    assert_allclose(P, expected_P, rtol=0, atol=1e-6)


def test_float32_loses_digits_of_features_that_are_large_beside_their_spread(tmp_path):
    model, X = model_of(CLASSES["strings"], far=1e5), rows_of(far=1e5)
    model.to_onnx(tmp_path / "m.onnx", dtype="float32")
    _, P = computed(tmp_path / "m.onnx", X.astype(np.float32))
    assert np.abs(P - expected(model, X)[1]).max() > 1e-4


def test_names_of_features_are_in_the_file(tmp_path):
    model_of(CLASSES["strings"], names=["a", "b", "c", "é"]).to_onnx(tmp_path / "m.onnx")
    (kept,) = onnx.load(tmp_path / "m.onnx").metadata_props
    assert json.loads(kept.value) == ["a", "b", "c", "é"]


def test_what_it_cannot_hold_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    for about in STEPS.values():
        with pytest.raises(OptionError, match="ONNX cannot hold these steps"):
            model_of(CLASSES["strings"], about=about).to_onnx(path)
    with pytest.raises(DataError, match="larger than a 64-bit"):
        model_of(np.array([0, 2**64 - 1], np.uint64)).to_onnx(path)
    with pytest.raises(DataError, match="UTF-8"):
        model_of(np.array([b"a", b"\xff"])).to_onnx(path)
    with pytest.raises(OptionError, match="float16"):
        model_of(CLASSES["strings"]).to_onnx(path, dtype="float16")
    monkeypatch.setattr(export, "LARGEST", 100)
    with pytest.raises(OptionError, match="less than 2 GiB"):
        model_of(CLASSES["strings"]).to_onnx(path)
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    model = model_of(CLASSES["strings"])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OptionError, match=r"pip install 'dsoftmax\[onnx\]'"):
        model.to_onnx(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(OptionError, match=r"pip install 'dsoftmax\[sklearn\]'"):
        model.to_sklearn()
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unless_asked(tmp_path):
    model, path = model_of(CLASSES["strings"]), tmp_path / "m.onnx"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        model.to_onnx(path)
    assert path.read_text() == "mine"
    model.to_onnx(path, overwrite=True)
    assert_array_equal(computed(path, rows_of())[0], expected(model, rows_of())[0])
    with pytest.raises(OutputExistsError, match="is a directory"):
        model.to_onnx(tmp_path, overwrite=True)
