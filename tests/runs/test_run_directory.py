"""The run directory: files are whole, runs are not mixed up, and each pass is kept once."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import OutputExistsError, ReadError, RunMismatchError, WriteError
from dsoftmax.runs.directory import RunDirectory
from dsoftmax.runs.fingerprint import fingerprint
from dsoftmax.runs.history import FIELDS, History, read_history
from dsoftmax.solvers.table import SOLVERS
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    return X, (X @ rng.normal(size=(4, 3)) + rng.gumbel(size=(300, 3))).argmax(axis=1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("labels", ["numbers", "words"])
def test_a_run_saved_after_any_pass_and_resumed_has_the_same_bits(tmp_path, data, solver, labels):
    X, y = data
    source = opened(X, y if labels == "numbers" else np.array(["ash", "birch", "oak"])[y])
    settings = Settings(
        solver=solver, tol=1e-5, max_iter=12, validation_fraction=0.2 if labels == "words" else None
    )
    directory = RunDirectory(tmp_path)
    seen = []

    def save(record, runs):
        directory.save(record, runs)
        seen.append(directory.load())

    whole = train(source, SerialEngine(), settings, watchers=[save])
    for runs in (seen[0], seen[len(seen) // 2], seen[-1]):
        resumed = train(source, SerialEngine(), settings, resume=runs)
        assert resumed.model.theta.tobytes() == whole.model.theta.tobytes()
        assert resumed.model.classes.tolist() == whole.model.classes.tolist()
        assert resumed.run.n_passes == whole.run.n_passes
    assert directory.passes() == whole.run.n_passes


def test_no_file_needs_pickle(tmp_path, data):
    X, y = data
    directory = RunDirectory(tmp_path)
    train(
        opened(X, np.array(["a", "b", "c"], object)[y]),
        SerialEngine(),
        Settings(),
        watchers=[directory.save],
    )
    for name in ("checkpoint.npz", "statistics.npz"):
        with np.load(directory.file(name), allow_pickle=False) as stored:
            assert all(stored[one].dtype.kind != "O" for one in stored.files)


@dataclass(frozen=True)
class Pass:
    pass_: int
    objective: float = 1.0

    def as_dict(self):
        others = dict.fromkeys(FIELDS, 0)
        return {**others, "pass": self.pass_, "objective": self.objective}


def test_history_holds_each_pass_once_whatever_was_cut_off(tmp_path):
    path = tmp_path / "history.jsonl"
    with History(path) as history:
        for number in (1, 2, 3):
            history(Pass(number), None)
    path.write_text(path.read_text() + '{"pass": 4, "obj')  # killed in the middle of a line
    assert [record["pass"] for record in read_history(path)] == [1, 2, 3]
    with History(path, n_passes=2) as history:  # the checkpoint knows two
        history(Pass(3, 0.5), None)
        history(Pass(4, float("nan")), None)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["pass"] for line in lines] == [1, 2, 3, 4]
    assert lines[2]["objective"] == 0.5
    assert lines[3]["objective"] is None  # JSON has no nan


def test_every_difference_is_listed_with_what_was_and_what_is(tmp_path):
    directory = RunDirectory(tmp_path)
    asked = {
        "objective": {"C": "1.0", "solver": "lbfgs"},
        "data": {"chunks": 3},
        "digest": "a",
        "stopping": {"tol": 0.1},
    }
    directory.write_asked(asked)
    directory.require_same({**asked, "stopping": {"tol": 0.2}, "engine": {"workers": 9}})
    other = {
        **asked,
        "objective": {"C": "2.0", "solver": "lbfgs"},
        "data": {"chunks": 4},
        "digest": "b",
    }
    with pytest.raises(RunMismatchError, match="--overwrite") as caught:
        directory.require_same(other)
    message = str(caught.value)
    assert 'C: was "1.0", is "2.0"' in message
    assert "chunks: was 3, is 4" in message
    assert "contents of the first or last chunk" in message
    assert "solver" not in message
    assert "tol:" not in message


def test_the_fingerprint_sees_values_labels_weights_and_groups_at_both_ends(data):
    X, y = data
    weights = np.ones(len(y))
    groups = np.array(["a", "b", "c"])[y]
    before = fingerprint(opened(X, y, weights, groups=groups))
    assert before == fingerprint(opened(X.copy(), y.copy(), weights.copy(), groups=groups.copy()))
    for changed in (
        opened(np.vstack([X[:-1], X[-1:] + 1e-12]), y, weights, groups=groups),
        opened(X, np.r_[(y[0] + 1) % 3, y[1:]], weights, groups=groups),
        opened(X, y, np.r_[weights[:-1], 2.0], groups=groups),
        opened(X, y, weights, groups=np.r_[groups[:-1], ["d"]]),
        opened(X, y, groups=groups),
        opened(X, y, weights),
        opened(X.astype(np.float32), y, weights, groups=groups),
    ):
        assert fingerprint(changed) != before


def test_only_files_of_a_run_are_removed(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_asked({})
    for name in (
        "checkpoint.npz",
        "history.jsonl",
        ".checkpoint.npz.abc123",
        "notes.txt",
        ".hidden",
    ):
        (tmp_path / name).write_text("x")
    (tmp_path / "model.zarr").mkdir()
    (tmp_path / ".model.zarr.1234.old").mkdir()
    directory.clear()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".hidden",
        "notes.txt",
        "run.json",
    ]


def test_a_directory_of_something_else_is_refused_and_an_empty_one_is_not(tmp_path):
    RunDirectory(tmp_path / "new").require_free()
    RunDirectory(tmp_path).require_free()
    (tmp_path / ".run.json.k2j3").write_text("{")  # a run that was killed in its first file
    RunDirectory(tmp_path).require_free()
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        RunDirectory(tmp_path).require_free()
    with pytest.raises(OutputExistsError, match="a file"):
        RunDirectory(tmp_path / "thesis.tex").require_free()


def test_two_processes_do_not_train_in_one_directory(tmp_path):
    pytest.importorskip("fcntl")
    with (
        RunDirectory(tmp_path).locked(),
        pytest.raises(OutputExistsError, match="Another process"),
        RunDirectory(tmp_path).locked(),
    ):
        pass
    with RunDirectory(tmp_path).locked():
        pass


def test_a_place_where_no_directory_can_be_made_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("x")
    for make in (lambda run: run.locked().__enter__(), lambda run: run.write_asked({})):
        with pytest.raises(
            WriteError,
            match=r"The directory .*file/run cannot be made: Not a directory\. Name another",
        ) as error:
            make(RunDirectory(tmp_path / "file" / "run"))
        assert "0 B" not in str(error.value)


def test_damaged_files_are_named(tmp_path, data):
    X, y = data
    directory = RunDirectory(tmp_path)
    with pytest.raises(ReadError, match=r"run\.json"):
        directory.read_asked()
    result = train(opened(X, y), SerialEngine(), Settings(max_iter=2), watchers=[directory.save])
    path = directory.file("checkpoint.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ReadError, match=r"checkpoint\.npz"):
        directory.load()
    directory.save(None, [replace(result.run, solver="unheard of")])
    with pytest.raises(ReadError, match="another version"):
        directory.load()


@pytest.mark.parametrize("kind", ["removed", "replaced"])
def test_a_directory_that_is_no_longer_the_locked_one_is_not_written(tmp_path, kind):
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        directory.require_locked()
        (tmp_path / "run").rename(tmp_path / "away")
        if kind == "replaced":
            with RunDirectory(tmp_path / "run").locked():
                pass
        with pytest.raises(WriteError, match="removed, moved or replaced"):
            directory.require_locked()
    assert [one.name for one in tmp_path.glob("run/*")] == ([".lock"] if kind == "replaced" else [])
