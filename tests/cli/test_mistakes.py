"""A mistake in a command is one message with the cure, and exit code 1."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_data import N, P, change
from commands import TRAIN, refused, run, theta, train

from dsoftmax.cli.engine_choice import engine_choice
from dsoftmax.errors import OptionError


def test_an_unknown_name_gets_the_nearest_known_one(here):
    refused(run("trian"), "trian", "train")
    refused(run("train", "--labls", "y"), "--labls", "--labels")
    refused(run(*TRAIN, "--solver", "lbgfs"), "'lbfgs'")
    refused(run(*TRAIN, "--engine", "thread"), "'threads'")
    refused(run(*TRAIN, "--dtype", "float16"), "'float32'")
    refused(
        train("data.zarr", "x", "y"),
        "data.zarr",
        "extra/weights",
    )
    refused(
        train("data.zarr", "X", "weights"),
        "Did you mean extra/weights?",
    )
    refused(
        train("dat.zarr", "X", "y"),
        "Did you mean data.zarr?",
    )
    refused(train(features=None), "--features", "X")
    refused(
        train("data.zarr", "extra", "y"),
        "extra",
        "weights",
    )
    refused(run("train"), "DATA")
    assert not Path("run").exists()


def test_data_that_is_not_zarr_is_refused(here):
    Path("folder").mkdir()
    Path("file.zarr").write_text("x")
    refused(
        train("folder", "X", "y"),
        "folder",
        "Zarr",
    )
    refused(train("file.zarr", "X", "y"), "file.zarr")
    assert not Path("run").exists()


def test_unusable_rows_are_named(here):
    refused(run(*TRAIN, "--classes", "0,1,2"), "data.zarr/y", "label 3 (row 5)", "[0 1 2]")
    refused(
        train("data.zarr", "X", "same"),
        "one class",
    )
    refused(
        train("data.zarr", "X", "short"),
        "short",
        "5,999",
        "6,000",
    )
    cube = refused(
        train("data.zarr", "cube", "y"),
        "cube",
        "3 dimensions",
    )
    assert "X.reshape" not in cube.stderr
    assert "cube-rows" in cube.stderr
    column = refused(
        train("data.zarr", "X", "column"),
        "column",
        "(6000, 1)",
    )
    assert "ravel" not in column.stderr
    assert "column-rows" in column.stderr
    change("extra/weights", 4321, -1)
    refused(run(*TRAIN, "--weights", "extra/weights"), "weights", "4,321", "-1")
    change("X", (1234, 3), np.nan)
    refused(run(*TRAIN), "data.zarr/X", "row 1,234", "column 3", "nan")
    change("X", (1234, 3), 0.5)
    assert run(*TRAIN).exit_code == 0  # the refused commands left no run behind


@pytest.mark.parametrize("layout", ["features first", "features last", "rows first"])
def test_the_command_that_is_offered_for_a_cube_stores_rows(here, values, layout):
    X, y, _ = values
    X, y = X[:600], y[:600]
    cube = {
        "features first": X.T.reshape(P, 20, 30),
        "features last": X.reshape(20, 30, P),
        "rows first": X[:, :4].reshape(600, 2, 2),
    }[layout]
    shape = (600,) if layout == "rows first" else (20, 30)
    group = zarr.create_group("cube.zarr")
    group.create_array("X", data=cube, chunks=(1, *cube.shape[1:]))
    written = {"config": {"write_empty_chunks": True}}
    group.create_array("y", data=y.reshape(shape), chunks=(7, *shape[1:]), **written)
    names = ["X", "y"]
    for number, part in enumerate(("X-rows", "y-rows")[: 1 if shape == (600,) else 2]):
        message = refused(train("cube.zarr", *names), part).stderr
        command = message[message.index("python -c") :].replace("python", sys.executable, 1)
        subprocess.run(command, shell=True, check=True)
        names[number] = part
    expected = X[:, :4] if layout == "rows first" else X
    assert (zarr.open_array("cube.zarr/X-rows")[:] == expected).all()
    assert (zarr.open_array(f"cube.zarr/{names[1]}")[:] == y).all()
    assert train("cube.zarr", *names).exit_code == 0


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("encoding", [{}, {"encoding-type": "csc_matrix"}])
def test_a_sparse_matrix_group_is_refused_with_a_cure(here, version, encoding):
    attributes = {**encoding, "shape": [N, P]}
    group = zarr.create_group("cells.zarr", zarr_format=version).create_group(
        "X", attributes=attributes
    )
    for name in ("data", "indices", "indptr"):
        group.create_array(name, data=np.arange(3))
    for data, features in (
        ("cells.zarr", ("--features", "X")),
        ("cells.zarr/X", ()),
        ("data.zarr", ("--features", "cells.zarr/X")),
    ):
        found = refused(
            run("train", data, *features, "--labels", "data.zarr/y", "--out", "run"),
            "sparse matrix",
            f"scipy.sparse.{'csc' if encoding else 'csr'}_array(",
        )
        assert "shape=g.attrs['shape']" in found.stderr
        assert "It has data" not in found.stderr


def test_missing_and_truncated_chunks_are_named(here):
    chunk = Path("data.zarr/X/c/7/0")
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:100])
    refused(run(*TRAIN), "data.zarr/X", "rows 3,500–3,999", "truncated")
    chunk.unlink()
    refused(run(*TRAIN), "data.zarr/X", "c/7/0", "--missing-chunks fill")
    assert run(*TRAIN, "--missing-chunks", "fill").exit_code == 0


def test_options_that_contradict_each_other_are_refused(here):
    refused(
        run(*TRAIN, "--engine", "threads", "--workers", "2"),
        "--workers",
        "--engine cluster",
    )
    refused(run(*TRAIN, "--workers", "2", "--scheduler", "tcp://h:1"), "--workers", "--scheduler")
    refused(run(*TRAIN, "--scheduler", "tcp://h:1", "--memory", "2GiB"), "--memory", "dask worker")
    refused(run(*TRAIN, "--workers", "0"), "--workers", "0", "at least one")
    refused(run(*TRAIN, "--memory", "much"), "--memory", "much")
    refused(run(*TRAIN, "--memory", "1MiB"), "1 MiB")
    refused(run(*TRAIN, "--C", "-1"), "C", "-1")
    refused(run(*TRAIN, "--tol", "nan"), "tol", "nan")
    assert engine_choice(None, None, None, None, None).engine == "threads"
    assert engine_choice(None, 2, None, None, None).engine == "cluster"
    with pytest.raises(OptionError, match="--scheduler-file"):
        engine_choice(None, None, "tcp://h:1", "file", None)


def test_a_scheduler_that_does_not_answer_is_named(here, monkeypatch):
    from dsoftmax.engines.cluster import connect

    monkeypatch.setattr(connect, "connected", partial(connect.connected, timeout=0.5))
    refused(run(*TRAIN, "--scheduler", "tcp://127.0.0.1:9"), "127.0.0.1:9", "dask scheduler")
    refused(run(*TRAIN, "--scheduler-file", "none.json"), "none.json")
    assert not Path("run").exists()


def test_a_full_disk_and_a_defect_are_one_message_each(here, monkeypatch):
    def full(path, arrays):
        raise OSError(28, "No space left on device", str(path))

    assert run(*TRAIN).exit_code == 0
    before = theta().tobytes()
    with monkeypatch.context() as patch:
        patch.setattr("dsoftmax.runs.saved.write_arrays", full)
        refused(run(*TRAIN, "--tol", "1e-7"), "No space left on device", "checkpoint.npz")
    assert theta().tobytes() == before

    def broken(*_):
        raise AssertionError("two and two make five")

    with monkeypatch.context() as patch:
        patch.setattr("dsoftmax.cli.training_run.fingerprint", broken)
        result = refused(run(*TRAIN), "AssertionError", "two and two make five", "report")
        assert "Traceback" not in result.stderr
        patch.setenv("DSOFTMAX_DEBUG", "1")
        assert "Traceback" in run(*TRAIN).stderr
    assert run(*TRAIN, "--tol", "1e-7").exit_code == 0
