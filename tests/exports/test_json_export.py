"""The JSON file holds all digits, and states the steps that come before the logits."""

import json

import numpy as np
import pytest
from exported import CLASSES, STEPS, model_of
from numpy.testing import assert_array_equal

from dsoftmax.errors import DataError, OutputExistsError


def written(model, path):
    model.to_json(path, overwrite=True)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", CLASSES)
def test_all_digits_and_labels_come_back(tmp_path, kind):
    model = model_of(CLASSES[kind], names=["a", "b", "é", "d"])
    found = written(model, tmp_path / "m.json")
    assert_array_equal(np.array(found["coef"]), model.theta[:, :-1])
    assert_array_equal(np.array(found["intercept"]), model.theta[:, -1])
    assert found["classes"] == model.classes.tolist()
    assert [type(one) for one in found["classes"]] == [type(one) for one in model.classes.tolist()]
    assert found["feature_names"] == ["a", "b", "é", "d"]
    assert (found["format"], found["version"], found["before"]) == ("dsoftmax", 1, {})


def test_the_steps_before_the_logits_are_stated(tmp_path):
    found = {
        name: written(model_of(CLASSES["strings"], about=about), tmp_path / "m.json")["before"]
        for name, about in STEPS.items()
    }
    assert found == {
        "counts": {"normalize": 1e4, "log1p": True},
        "other counts": {"normalize": 5e3},
        "skipped": {"nodata": ["-9999.0", "nan"]},
        "categories": STEPS["categories"],
    }


def test_labels_of_bytes_are_text_or_an_error(tmp_path):
    model = model_of(np.array([b"a", "é".encode()]))
    assert written(model, tmp_path / "m.json")["classes"] == ["a", "é"]
    with pytest.raises(DataError, match="Rename the classes"):
        model_of(np.array([b"a", b"\xff"])).to_json(tmp_path / "n.json")
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_nothing_is_overwritten_unless_asked(tmp_path):
    path = tmp_path / "m.json"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        model_of(CLASSES["strings"]).to_json(path)
    assert path.read_text() == "mine"
