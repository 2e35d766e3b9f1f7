"""Spans of a file are read completely, and a lock has one owner."""

import os

import pytest

from dsoftmax.system.locks import lock
from dsoftmax.system.spans import read_into, read_spans


@pytest.mark.parametrize("spans", [[(0, 3)], [(2, 2), (4, 3), (0, 1)], [(9, 1), (0, 9)], []])
def test_spans_are_read_in_their_order(tmp_path, spans):
    content = b"0123456789"
    (tmp_path / "file").write_bytes(content)
    buffer = bytearray(sum(length for _, length in spans))
    with (tmp_path / "file").open("rb", buffering=0) as file:
        read_spans(file, spans, memoryview(buffer))
    assert bytes(buffer) == b"".join(content[start : start + length] for start, length in spans)


def test_adjacent_spans_are_one_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(100)))
    buffer = bytearray(60)

    class Counted:
        def __init__(self, file):
            self.file, self.reads = file, 0

        def seek(self, place):
            self.file.seek(place)

        def readinto(self, view):
            self.reads += 1
            return self.file.readinto(view)

    with (tmp_path / "file").open("rb", buffering=0) as file:
        counted = Counted(file)
        read_spans(counted, [(10, 20), (30, 20), (80, 20)], memoryview(buffer))
    assert bytes(buffer) == bytes([*range(10, 50), *range(80, 100)])
    assert counted.reads == 2


def test_a_file_that_ends_early_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    with (
        (tmp_path / "file").open("rb", buffering=0) as file,
        pytest.raises(ValueError, match="ended after 5 of 8 bytes"),
    ):
        read_into(file, memoryview(bytearray(8)))


def test_a_lock_has_one_owner_and_is_released_with_the_file(tmp_path):
    first, second = (os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR) for _ in range(2))
    try:
        assert lock(first) is True
        assert lock(second) is False
        os.close(first)
        assert lock(second, wait=True) is True
    finally:
        os.close(second)
