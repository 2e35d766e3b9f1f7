"""States survive the disk bit for bit, and a file appears whole or not at all."""

import os
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from dsoftmax.errors import ReadError
from dsoftmax.runs.checkpoint import from_arrays, read_arrays, to_arrays, write_arrays
from dsoftmax.system.files import write_text


@dataclass(frozen=True)
class Inner:
    number: float
    text: str
    flag: bool


@dataclass(frozen=True)
class Outer:
    values: np.ndarray
    count: int
    inner: Inner
    labels: np.ndarray
    parts: tuple[np.ndarray, ...]


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_side=0, max_dims=3), elements=st.floats()),
    st.integers(-(2**62), 2**62),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.booleans(),
)
def test_a_dataclass_comes_back_bit_for_bit(tmp_path_factory, values, count, number, text, flag):
    parts = (values, *(np.full(i, i) for i in range(11)))
    before = Outer(values, count, Inner(number, text, flag), np.array(["a", "béé"]), parts)
    path = tmp_path_factory.getbasetemp() / "state.npz"
    write_arrays(path, to_arrays(before))
    after = from_arrays(Outer, read_arrays(path))
    assert after.values.tobytes() == values.tobytes()
    assert after.values.shape == values.shape
    assert (after.count, after.inner.text, after.inner.flag) == (count, text, flag)
    assert np.float64(after.inner.number).tobytes() == np.float64(number).tobytes()
    assert [
        type(x) for x in (after.count, after.inner.number, after.inner.text, after.inner.flag)
    ] == [int, float, str, bool]
    assert_array_equal(after.labels, before.labels)
    assert len(after.parts) == len(parts)
    assert all(
        there.tobytes() == here.tobytes() for there, here in zip(after.parts, parts, strict=True)
    )
    names = {"values", "count", "inner.number", "inner.text", "inner.flag", "labels"}
    assert set(to_arrays(before)) == names | {f"parts.{i}" for i in range(len(parts))}
    none = from_arrays(Outer, to_arrays(Outer(values, count, before.inner, before.labels, ())))
    assert none.parts == ()


def test_a_field_that_is_missing_is_an_error():
    with pytest.raises(KeyError, match="text"):
        from_arrays(Inner, {"number": np.asarray(1.0), "flag": np.asarray(True)})


@pytest.mark.parametrize(
    "write",
    [
        lambda path, i: write_arrays(path, {"x": np.full(3, i)}),
        lambda path, i: write_text(path, str(i)),
    ],
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, write):
    path = tmp_path / "state"
    write(path, 1)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, 2)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
    monkeypatch.undo()
    write(path, 2)
    assert path.read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_objects_are_never_pickled(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle=False"):
        write_arrays(tmp_path / "state.npz", {"x": np.array([{}])})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["absent", "empty", "truncated", "text", "flipped", "npy"])
def test_a_damaged_file_is_a_read_error(tmp_path, damage):
    path = tmp_path / "state.npz"
    write_arrays(path, {"x": np.arange(1000), "y": np.arange(5.0)})
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[2000] ^= 1
    elif damage == "npy":
        np.save(tmp_path / "x.npy", np.arange(3))
        content = (tmp_path / "x.npy").read_bytes()
    else:
        content = {"truncated": content[: len(content) // 2], "text": b"hello"}.get(damage, b"")
    path.write_bytes(content)
    if damage == "absent":
        path.unlink()
    with pytest.raises(ReadError, match="cannot be read"):
        read_arrays(path)


def test_no_flipped_bit_is_read_silently(tmp_path):
    """Also not one that makes an array vanish from the archive's directory."""
    path = tmp_path / "state.npz"
    before = {"theta": np.arange(6.0).reshape(2, 3), "pairs.0": np.ones(2), "text": np.array("a")}
    write_arrays(path, before)
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        for bit in (place % 8, (place + 3) % 8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                after = read_arrays(path)
            except ReadError:
                refused += 1
                continue
            assert after.keys() == before.keys()
            for name, values in before.items():
                assert after[name].dtype == values.dtype
                assert_array_equal(after[name], values)
    assert refused > len(whole)


@pytest.mark.parametrize("kind", ["compressed", "a header of 10¹² values"])
def test_no_archive_takes_more_memory_than_its_bytes(tmp_path, kind):
    path = tmp_path / "state.npz"
    write_arrays(path, {"theta": np.zeros(10**6)})
    if kind == "compressed":
        with np.load(path) as stored:
            np.savez_compressed(path, **dict(stored))
    else:
        shape = b"(1000000,)"
        whole = path.read_bytes()
        assert whole.count(shape + b", }      ") == 1
        path.write_bytes(whole.replace(shape + b", }      ", b"(1000000000000,), }"))
    tracemalloc.start()
    with pytest.raises(ReadError, match=r"is compressed|but other bytes"):
        read_arrays(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6
