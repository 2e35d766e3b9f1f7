"""Files and directories appear whole or not at all, and errors name the cure."""

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from dsoftmax.errors import OptionError, OutputExistsError, WriteError
from dsoftmax.system import files
from dsoftmax.system.files import (
    make_directory,
    remove,
    replacing,
    replacing_directory,
    write_text,
    writing,
)


def contents(path):
    return {
        str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()
    }


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path, 3) as draft:
        draft.write(b"new")
        draft.flush()
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {"file": b"new"}


def test_a_file_stays_as_it_was_after_an_error(tmp_path):
    write_text(tmp_path / "file", "old")

    def fail_halfway():
        with replacing(tmp_path / "file", 3) as draft:
            draft.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert contents(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("exchange", [True, False])
def test_a_directory_is_replaced_with_or_without_an_exchange(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_rename", lambda *_: False)
    for text in ("first", "second"):
        with replacing_directory(tmp_path / "deep" / "place", 6) as draft:
            draft.mkdir()
            (draft / text).write_text(text)
        assert contents(tmp_path) == {f"deep/place/{text}": text.encode()}


def test_an_exchange_changes_the_names_of_two_directories(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert files._rename(tmp_path / "a", tmp_path / "b", files.EXCHANGE)
    assert contents(tmp_path) == {"a/file": b"b", "b/file": b"a"}
    assert not files._rename(tmp_path / "a", tmp_path / "missing", files.EXCHANGE)


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, r"It needs up to 2\.0 KiB; .* free there\. .*Free space there"),
        (errno.EDQUOT, r"free there\. .*Free some of your quota"),
        (errno.EFBIG, r"ulimit -f"),
        (errno.EIO, r"Make sure that this place can be written"),
        (errno.EACCES, r"Permission denied\. Complete files are unchanged"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_the_cure(tmp_path, number, cure):
    with (
        pytest.raises(WriteError, match=rf"model could not be written: .*{cure}") as caught,
        writing(tmp_path / "model", 2048),
    ):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).endswith("then run the same again.")


def test_errors_of_ours_pass_unchanged(tmp_path):
    with pytest.raises(OptionError, match=r"^mine$"), writing(tmp_path / "model", 1):
        raise OptionError("mine")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        WriteError, match=r"file/run cannot be made: Not a directory\. Name another"
    ):
        make_directory(tmp_path / "file" / "run")


def test_anything_is_removed(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link", "missing"):
        assert remove(tmp_path / name)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize("by", ["renameat2", "two steps"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_appears_in_the_meantime_is_not_replaced(kind, by, tmp_path, monkeypatch):
    if by == "two steps":
        monkeypatch.setattr(files, "_rename", lambda *_: False)
    path = tmp_path / "new"
    for again in (False, True):
        with pytest.raises(OutputExistsError, match="appeared") if again else nullcontext():
            if kind == "file":
                with files.replacing(path, 1, overwrite=False) as file:
                    file.write(b"2" if again else b"1")
            else:
                with files.replacing_directory(path, 1, overwrite=False) as draft:
                    draft.mkdir()
                    (draft / "value").write_bytes(b"2" if again else b"1")
    assert (path if kind == "file" else path / "value").read_bytes() == b"1"
    assert [one.name for one in tmp_path.iterdir()] == ["new"]
