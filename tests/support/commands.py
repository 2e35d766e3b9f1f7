"""Run commands in this process, and read the files of a run."""

import json
from pathlib import Path

from click.testing import CliRunner

from dsoftmax.cli.program import main
from dsoftmax.results.stored_model import load_model

DATA = ("data.zarr", "--features", "X", "--labels", "y")
TRAIN = ("train", *DATA, "--solver", "lbfgs", "--out", "run")
FOUR_PASSES = (
    *TRAIN[:-2],
    *["--engine", "serial", "--tol", "0", "--max-iter", "3", "--out", "run"],
)
DEMO = (*["demo", "--memory", "768MiB", "--size", "0.001", "--dir"], "demo")


def run(*words):
    """Run a command, and return click's result."""
    return CliRunner().invoke(main, [str(word) for word in words])


def train(data="data.zarr", features="X", labels="y", *options):
    """Run ``train`` on other arrays than X and y."""
    named = () if features is None else ("--features", features)
    return run("train", data, *named, "--labels", labels, "--out", "run", *options)


def refused(result, *parts):
    """Check for one message on stderr with these parts, no traceback, and exit code 1."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr
    return result


def theta(path="run"):
    """Return θ of the model in a run directory."""
    return load_model(Path(path) / "model.zarr").theta


def passes(path="run"):
    """Return the numbers of the passes in the history."""
    lines = (Path(path) / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["pass"] for line in lines]
