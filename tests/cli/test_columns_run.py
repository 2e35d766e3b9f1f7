"""``train --labels a,b``: one model for each label column, in shared passes."""

import json
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import passes, refused, run, theta
from processes import start, wait_for_passes

from dsoftmax import load_model

DATA = ("data.zarr", "--features", "X", "--weights", "extra/weights")
LBFGS = ("--solver", "lbfgs", "--tol", "1e-7", "--max-iter", "300")
BOTH = ("train", *DATA, "--labels", "y,obs/family")


@pytest.fixture
def columns(here):
    """Store a second label column, of text."""
    group = zarr.open_group("data.zarr", mode="r+")
    family = np.array(["oak", "ash"])[(group["y"][:] + np.arange(6000) % 7 > 5).astype(int)]
    stored = group.create_array("obs/family", shape=(6000,), dtype="string", chunks=(700,))
    stored[:] = family.astype(object)


def alone(label, *options):
    """Run one column alone, and return θ and its lines of history."""
    assert run("train", *DATA, "--labels", label, *options, "--out", "alone", "--overwrite")
    return theta("alone").tobytes(), passes("alone")


def test_each_directory_has_the_bits_of_its_own_run_also_if_resumed(columns):
    assert run(*BOTH, *LBFGS[:-1], "3", "--out", "both").exit_code == 3
    done = run(*BOTH, *LBFGS, "--out", "both")
    assert done.exit_code == 0
    assert f"pass {max(len(passes(one)) for one in ('both/y', 'both/obs-family'))} " in done.stderr
    for label, path in (("y", "both/y"), ("obs/family", "both/obs-family")):
        assert (theta(path).tobytes(), passes(path)) == alone(label, *LBFGS)
        assert path in done.stdout
    assert load_model("both/obs-family").classes.tolist() == ["ash", "oak"]
    again = run(*BOTH, *LBFGS, "--out", "both")
    assert again.stdout.count("This run had already ended") == 2


def test_every_pass_reads_the_rows_once(columns):
    assert run(*BOTH, *LBFGS, "--out", "both", "--memory", "2GiB").exit_code == 0
    lines = [
        Path(f"both/{one}/history.jsonl").read_text().splitlines() for one in ("y", "obs-family")
    ]
    for first, second in zip(*lines, strict=False):
        one, two = json.loads(first), json.loads(second)
        assert one["rows"] == two["rows"] == 6000  # of the pass, not of the column
        assert one["work"][""]["seconds"] == two["work"][""]["seconds"]


def test_folds_and_scaled_features(columns):
    options = ("--folds", "3", "--C", "0.1,1", "--scale", "standard", "--tol", "1e-5")
    assert run(*BOTH, *options, "--out", "both").exit_code == 0
    for label, path in (("y", "both/y"), ("obs/family", "both/obs-family")):
        assert theta(path).tobytes() == alone(label, *options)[0]
        assert Path(path, "scores.json").read_text() == Path("alone/scores.json").read_text()


def test_an_interruption_saves_both_and_the_same_command_ends_with_the_same_bits(columns):
    command = (*BOTH, "--solver", "gradient-descent", "--tol", "0", "--max-iter", "20", "--out")
    process = start(*command, "both")
    wait_for_passes(process, 3, "both/obs-family/history.jsonl")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3, stderr
    assert stderr.count("is saved in both/") == 2
    assert stderr.strip().endswith(shlex.join(["dsoftmax", *command, "both"]))
    assert run(*command, "both").exit_code == 3
    assert run(*command, "whole").exit_code == 3
    for path in ("y", "obs-family"):
        assert theta(f"both/{path}").tobytes() == theta(f"whole/{path}").tobytes()


def test_mistakes_are_refused(columns):
    both = (*BOTH, "--out", "both")
    refused(run(*BOTH[:-1], "y,,obs/family", "--out", "both"), "single commas")
    refused(run(*BOTH[:-1], "y,y", "--out", "both"), "expected distinct paths")
    refused(run(*both, "--classes", "a,b"), "--classes a,b belongs to one label column")
    refused(run(*both, "--class-weight", "0=2"), "--class-weight 0=2 belongs to one")
    refused(run(*both, "--validation", "data.zarr"), "--validation data.zarr belongs to one")
    refused(run(*both, "--unlabelled", "0"), "--unlabelled names labels of one column")
    refused(run(*BOTH[:-1], "y,short", "--out", "both"), "expected one value per row in each")
    assert not Path("both").exists()
    assert run("train", *DATA, "--labels", "y", "--out", "one").exit_code == 0
    refused(run(*BOTH, "--out", "one"), "is the directory of one run")
