"""A full disk, at any write of a command: complete files stay complete, and the run resumes."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_data import FEW_CLASSES, FEW_FEATURES
from commands import DATA, DEMO, FOUR_PASSES, run
from faulty_disk import Disk, all_points, contents, drafts, full, lay_under, require_whole
from opening import opened
from outcomes import outcome
from processes import ended, start

from dsoftmax.errors import ReadError, WriteError
from dsoftmax.results.model import Model
from dsoftmax.results.stored_model import load_model, save_model
from dsoftmax.results.stored_predictions import write_predictions
from dsoftmax.runs.directory import RunDirectory
from dsoftmax.runs.history import History

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")


def begin(name, passes):
    """Leave a stopped run of this number of passes with its model, unless the number is 0."""
    if passes:
        assert run(*FOUR_PASSES[:-1], name, "--max-iter", str(passes - 1)).exit_code == 3


def after_failure(name, saved):
    """Return the sentences of which one must follow, if the checkpoint knows ``saved`` passes."""
    if saved:
        return f"The checkpoint of pass {saved} is saved in {name}.", f"run in {name} is unchanged."
    return "No pass was completed.", "This run has not begun."


@pytest.mark.parametrize(
    ("code", "passes", "step"),
    [
        (errno.ENOSPC, 0, 11),
        (errno.ENOSPC, 2, 11),
        (errno.EDQUOT, 2, 37),
        (errno.EFBIG, 0, 37),
        (errno.EIO, 0, 37),
        all_points(errno.ENOSPC, 0),
        all_points(errno.ENOSPC, 2),
    ],
)
def test_a_run_survives_a_full_disk_at_any_write_and_resumes(
    home, monkeypatch, undisturbed, code, passes, step
):
    found = set()
    for allowed in range(0, 1000, step):
        name = f"run{allowed}"
        command = (*FOUR_PASSES[:-1], name)
        begin(name, passes)
        before = load_model(home / name / "model.zarr").theta.tobytes() if passes else None
        disk = Disk(home / name, allowed, full(code))
        with monkeypatch.context() as patch:
            lay_under(disk, patch)
            result = run(*command)
        assert "Traceback" not in result.output
        if result.exit_code == 1:
            assert result.stderr.count("Error: ") == 1
            for part in (name, os.strerror(code), "free there", "run the same again"):
                assert part in result.stderr
            saved = RunDirectory(home / name).passes()
            assert any(sentence in result.stderr for sentence in after_failure(name, saved))
            found.add(saved)
        assert not drafts(home / name)
        require_whole(home / name)
        if passes and (home / name / "model.zarr").exists():
            now = load_model(home / name / "model.zarr").theta.tobytes()
            assert now in (before, undisturbed[0])
        again = run(*command)
        assert again.exit_code == 3, again.output
        assert outcome(home / name) == undisturbed
        if disk.points <= allowed:
            break
    else:
        raise AssertionError("a run never ended")
    assert found  # some writes failed
    assert found >= {0, 1, 2, 3} or passes or step > 11


@pytest.mark.parametrize("step", [17, all_points()])
def test_one_failed_write_leaves_no_wrong_file(home, monkeypatch, undisturbed, step):
    for allowed in range(0, 1000, step):
        name = f"run{allowed}"
        disk = Disk(home / name, allowed, full(), once=True)
        with monkeypatch.context() as patch:
            lay_under(disk, patch)
            result = run(*FOUR_PASSES[:-1], name)
        assert result.exit_code in (1, 3), result.output
        require_whole(home / name)
        assert not drafts(home / name)
        assert run(*FOUR_PASSES[:-1], name).exit_code == 3
        assert outcome(home / name) == undisturbed
        if disk.points <= allowed:
            return


@pytest.mark.parametrize("exchange", [True, False])
def test_models_and_predictions_are_replaced_completely_or_not_at_all(
    home, data, monkeypatch, rng, exchange
):
    if not exchange:  # some systems rename in two steps, and undo the first if the second fails
        monkeypatch.setattr("dsoftmax.system.files._rename", lambda *_: False)
    source = opened(zarr.open_array(data / "X", mode="r"))
    shape, classes = (FEW_CLASSES, FEW_FEATURES + 1), np.array(["a", "b", "c"])
    old, new = (Model(rng.normal(size=shape), classes) for _ in range(2))
    writers = {
        "model.zarr": save_model,
        "out.zarr": lambda model, path, overwrite: write_predictions(
            model, source, path, with_probabilities=True, overwrite=overwrite
        ),
    }
    for name, write in writers.items():
        place = home / name
        write(new, home / "expected", overwrite=True)
        expected = contents(home / "expected")
        write(old, place, overwrite=False)
        before = contents(place)
        assert before != expected
        for allowed in range(0, 1000, 2):
            disk = Disk(home, allowed, full(), once=not exchange)
            with monkeypatch.context() as patch:
                lay_under(disk, patch)
                caught = []
                try:
                    write(new, place, overwrite=True)
                except WriteError as error:
                    caught.append(str(error))
            assert all(name in message and "free there" in message for message in caught)
            # Only a failed flush of a directory's names raises no error.
            assert contents(place) == (before if caught else expected)
            assert not drafts(home)
            if disk.points <= allowed:
                break
            write(old, place, overwrite=True)
        assert allowed > 5
        assert contents(place) == expected


def test_the_scene_of_the_demo_is_complete_or_absent(home, monkeypatch):
    for allowed in (0, 3, 17):
        with monkeypatch.context() as patch:
            lay_under(Disk(home / "demo", allowed, full()), patch)
            result = run(*DEMO)
        assert result.exit_code == 1, result.output
        assert "scene.zarr" in result.stderr
        assert "No space left on device" in result.stderr
        assert not (home / "demo/scene.zarr").exists()
        assert not (home / "demo").exists() or not drafts(home / "demo")
    assert run(*DEMO).exit_code in (0, 3)


def test_a_history_without_passes_of_the_checkpoint_is_an_error(home):
    assert run(*FOUR_PASSES).exit_code == 3
    lines = Path("run/history.jsonl").read_text().splitlines(keepends=True)
    Path("run/history.jsonl").write_text("".join([lines[0], "{damaged}\n", *lines[2:]]))
    with pytest.raises(ReadError, match=r"history\.jsonl.* 1 .* 4\b"):
        History(Path("run/history.jsonl"), n_passes=4)
    result = run(*FOUR_PASSES)
    assert result.exit_code == 1
    assert "history.jsonl" in result.stderr


@pytest.mark.parametrize("file", ["run.json", "checkpoint.npz"])
def test_a_limit_on_the_size_of_files_is_one_message(home, undisturbed, file):
    assert run(*FOUR_PASSES[:-1], "other").exit_code == 3
    limit = Path("other", file).stat().st_size - 100
    code, _, stderr = ended(start(*FOUR_PASSES, limit=limit))
    assert code == 1, stderr
    assert f"run/{file}" in stderr
    assert "File too large" in stderr
    assert "ulimit -f" in stderr
    assert "Traceback" not in stderr
    assert not drafts("run")
    assert run(*FOUR_PASSES).exit_code == 3
    assert outcome("run") == undisturbed


def test_a_full_file_system_is_one_message(home, undisturbed):
    place = home / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs rights that this process does not have")
    try:
        command = (*FOUR_PASSES[:-1], place / "run")
        failed = 0
        for pages in range(64):
            free = os.statvfs(place)
            (place / "filler").write_bytes(bytes(max(free.f_bavail - pages, 0) * free.f_bsize))
            result = run(*command)
            (place / "filler").unlink()
            if result.exit_code == 3:
                break
            failed += 1
            assert result.exit_code == 1, result.output
            assert "No space left on device" in result.stderr
            assert result.stderr.count("Error: ") == 1
            if (place / "run").exists():
                require_whole(place / "run")
                assert not drafts(place / "run")
        assert failed > 4
        assert outcome(place / "run") == undisturbed
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_standard_output_is_one_message(home):
    assert run(*FOUR_PASSES).exit_code == 3
    with Path("/dev/full").open("w") as nowhere:
        code, _, stderr = ended(start("evaluate", "run", *DATA, stdout=nowhere))
    assert code == 1, stderr
    assert "No space left on device" in stderr
    assert "Traceback" not in stderr
