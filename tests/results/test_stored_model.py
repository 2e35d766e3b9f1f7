"""A model comes back from the disk as it was saved, or an error says why it does not."""

import json
import tracemalloc

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

from dsoftmax.errors import OutputExistsError, ReadError, WriteError
from dsoftmax.results.model import Model
from dsoftmax.results.stored_model import load_model, save_model

CLASSES = {
    "integers": np.array([-1, 5, 2**40]),
    "small integers": np.array([0, 1, 2], np.int8),
    "booleans": np.array([False, True]),
    "floats": np.array([0.0, 1.0, 2.0], np.float32),
    "strings": np.array(["a", "bee", "é"]),
    "bytes": np.array([b"a", b"bee", b"\xff"]),
}


def model_of(rng, classes, p=4):
    return Model(
        rng.normal(size=(len(classes), p + 1)), classes, {"C": 1.0, "status": "Converged ≤ 1e-4"}
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_a_model_comes_back_bit_for_bit(rng, tmp_path, kind):
    model = model_of(rng, CLASSES[kind])
    save_model(model, tmp_path / "deep" / "model.zarr")
    again = load_model(str(tmp_path / "deep" / "model.zarr"))
    assert again.theta.tobytes() == model.theta.tobytes()
    assert again.theta.dtype == np.float64
    assert_array_equal(again.classes, model.classes)
    assert again.classes.dtype == model.classes.dtype
    assert again.about == model.about


def test_any_zarr_reader_reads_it_and_no_pickle_is_in_it(rng, tmp_path):
    model = model_of(rng, CLASSES["strings"])
    save_model(model, tmp_path / "model.zarr")
    group = zarr.open_group(tmp_path / "model.zarr", mode="r")
    assert_array_equal(group["coef"][:], model.theta[:, :-1])
    assert_array_equal(group["intercept"][:], model.theta[:, -1])
    metadata = json.loads((tmp_path / "model.zarr" / "zarr.json").read_text())
    assert metadata["attributes"]["classes"] == ["a", "bee", "é"]


def test_nothing_is_overwritten_unless_asked(rng, tmp_path):
    path = tmp_path / "model.zarr"
    first, second = model_of(rng, CLASSES["integers"]), model_of(rng, CLASSES["integers"])
    save_model(first, path)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        save_model(second, path)
    assert_array_equal(load_model(path).theta, first.theta)
    save_model(second, path, overwrite=True)
    assert_array_equal(load_model(path).theta, second.theta)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.zarr"]


def test_a_failed_save_leaves_the_old_model(rng, tmp_path, monkeypatch):
    path = tmp_path / "model.zarr"
    first = model_of(rng, CLASSES["integers"])
    save_model(first, path)
    monkeypatch.setattr(
        "dsoftmax.system.files._rename",
        lambda *_: (_ for _ in ()).throw(OSError("disk full")),
    )
    with pytest.raises(WriteError, match="disk full"):
        save_model(model_of(rng, CLASSES["integers"]), path, overwrite=True)
    assert_array_equal(load_model(path).theta, first.theta)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.zarr"]


def test_a_file_at_the_path_is_replaced(rng, tmp_path):
    path = tmp_path / "model.zarr"
    path.write_text("something")
    model = model_of(rng, CLASSES["integers"])
    save_model(model, path, overwrite=True)
    assert_array_equal(load_model(path).theta, model.theta)


@pytest.mark.parametrize("damage", ["absent", "empty", "no coef", "classes", "truncated", "file"])
def test_anything_but_a_model_is_a_read_error(rng, tmp_path, damage):
    path = tmp_path / "model.zarr"
    if damage == "file":
        path.write_text("hello")
    elif damage == "empty":
        path.mkdir()
    elif damage != "absent":
        save_model(model_of(rng, CLASSES["integers"]), path)
    if damage == "no coef":
        (path / "coef" / "zarr.json").unlink()
    if damage == "classes":
        metadata = json.loads((path / "zarr.json").read_text())
        metadata["attributes"]["classes"] = [1, 2]
        (path / "zarr.json").write_text(json.dumps(metadata))
    if damage == "truncated":
        (path / "coef" / "c" / "0" / "0").write_bytes(b"123")
    with pytest.raises(ReadError, match="does not hold a model"):
        load_model(path)


def test_a_lost_chunk_of_coefficients_is_not_read_as_zeros(rng, tmp_path):
    path = tmp_path / "model.zarr"
    save_model(model_of(rng, CLASSES["integers"]), path)
    (path / "coef" / "c" / "0" / "0").unlink()
    with pytest.raises(ReadError, match="does not hold a model"):
        load_model(path)


def test_coefficients_that_are_zero_are_written_and_read(tmp_path):
    path = tmp_path / "model.zarr"
    save_model(Model(np.zeros((2, 3)), np.arange(2)), path)
    assert_array_equal(load_model(path).theta, np.zeros((2, 3)))


def test_no_flipped_bit_is_read_silently(rng, tmp_path):
    model = model_of(rng, CLASSES["strings"])
    save_model(model, tmp_path / "model.zarr")
    refused = 0
    for file in [one for one in (tmp_path / "model.zarr").rglob("*") if one.is_file()]:
        whole = file.read_bytes()
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged)
            try:
                again = load_model(tmp_path / "model.zarr")
            except ReadError:
                refused += 1
                continue
            assert again.theta.tobytes() == model.theta.tobytes()
            assert_array_equal(again.classes, model.classes)
            assert again.about == model.about
        file.write_bytes(whole)
    assert refused > 200


def changed(path, **attributes):
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"] |= attributes
    (path / "zarr.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"dsoftmax_model": 99}, "99"),
        ({"classes": [2, 1, 0]}, "ascending"),
        ({"classes": [0, 1, 1]}, "ascending"),
        ({"classes": [0, 5, 7]}, "digest"),
        ({"classes_dtype": "|O"}, "dtype object"),
        ({"about": {"C": 2.0}}, "digest"),
    ],
)
def test_other_attributes_are_refused(rng, tmp_path, attributes, message):
    save_model(model_of(rng, CLASSES["small integers"]), tmp_path / "model.zarr")
    changed(tmp_path / "model.zarr", **attributes)
    with pytest.raises(ReadError, match=message):
        load_model(tmp_path / "model.zarr")


@pytest.mark.parametrize("p", [10**8, 10**12, 10**18])
def test_a_huge_shape_takes_no_memory(rng, tmp_path, p):
    save_model(model_of(rng, CLASSES["integers"]), tmp_path / "model.zarr")
    path = tmp_path / "model.zarr" / "coef" / "zarr.json"
    metadata = json.loads(path.read_text())
    metadata["shape"] = metadata["chunk_grid"]["configuration"]["chunk_shape"] = [3, p]
    path.write_text(json.dumps(metadata))
    tracemalloc.start()
    with pytest.raises(ReadError):
        load_model(tmp_path / "model.zarr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7
