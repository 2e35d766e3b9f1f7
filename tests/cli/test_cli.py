"""The command line: what it says, what it writes, its exit codes, and that nothing is lost on the way."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import reference
import zarr
from click.testing import CliRunner

from dsoftmax.cli.options import engine_choice
from dsoftmax.cli.program import main
from dsoftmax.engines.plan import process_bytes
from dsoftmax.errors import OptionError
from dsoftmax.results.stored_model import load_model
from dsoftmax.solvers.auto import SURROGATE_ENTRIES

N, P, K, ROWS = 6000, 5, 4, 500


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(11)
    X = rng.normal(size=(N, P)).astype(np.float32)
    y = (X @ rng.normal(size=(P, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)
    return X, y, rng.uniform(0.5, 2, N)


@pytest.fixture(scope="module")
def original(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("stored") / "data.zarr"
    X, y, weights = values
    group = zarr.create_group(path)
    config = {"write_empty_chunks": True}
    group.create_array("X", data=X, chunks=(ROWS, P), compressors=None, config=config)
    group.create_array("y", data=y, chunks=(2 * ROWS,), compressors=None, config=config)
    group.create_array("extra/weights", data=weights, chunks=(ROWS,), config=config)
    group.create_array("scene", data=np.arange(N) // 60, chunks=(ROWS,), config=config)
    group.create_array(
        "place",
        data=np.where(np.arange(N) == 700, np.nan, np.arange(N) // 60),
        chunks=(ROWS,),
        config=config,
    )
    group.create_array("few", data=np.arange(N) % 2, chunks=(ROWS,), config=config)
    group.create_array("cube", data=X.reshape(-1, 2, P), chunks=(ROWS, 2, P))
    group.create_array("column", data=y[:, None], chunks=(ROWS, 1))
    group.create_array("short", data=y[:-1], chunks=(ROWS,), config=config)
    group.create_array("same", data=np.full(N, 3), chunks=(ROWS,), config=config)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch, original):
    """A working directory with a copy of the data, which a test may damage."""
    shutil.copytree(original, tmp_path / "data.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


DATA = ("data.zarr", "--features", "X", "--labels", "y")
TRAIN = ("train", *DATA, "--solver", "lbfgs", "--out", "run")


def refused(result, *parts):
    """One clear message on stderr, no traceback, exit code 1."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr
    return result


def theta(path="run"):
    return load_model(Path(path) / "model.zarr").theta


def passes(path="run"):
    return [
        json.loads(line)["pass"] for line in (Path(path) / "history.jsonl").read_text().splitlines()
    ]


# What it does


def test_train_reaches_the_optimum_and_writes_a_run_directory(here, values):
    X, y, _ = values
    result = run(*TRAIN, "--tol", "1e-7")
    assert result.exit_code == 0, result.output
    assert "Converged after" in result.stdout
    assert "peak memory" in result.stdout
    assert "log₁₀ max|∇F|" in result.stderr
    assert {"run.json", "history.jsonl", "checkpoint.npz", "statistics.npz", "model.zarr"} <= {
        p.name for p in Path("run").iterdir()
    }
    asked = json.loads(Path("run/run.json").read_text())
    assert asked["objective"]["C"] == "1.0"
    assert asked["versions"]["numpy"] == np.__version__
    assert asked["data"]["arrays"]["X"]["shape"] == [N, P]
    sklearn = pytest.importorskip("sklearn.linear_model")
    theirs = sklearn.LogisticRegression(tol=1e-10, max_iter=10_000).fit(X.astype(np.float64), y)
    model = load_model("run/model.zarr")
    np.testing.assert_allclose(
        model.theta[:, :-1], theirs.coef_ - theirs.coef_.mean(axis=0), atol=2e-5
    )
    assert passes() == list(range(1, model.about["n_passes"] + 1))


def test_weights_class_weights_and_no_intercept_are_those_of_scikit_learn(here, values):
    X, y, weights = values
    options = (
        "--weights",
        "extra/weights",
        "--class-weight",
        "balanced",
        "--no-intercept",
        "--C",
        "0.01",
        "--tol",
        "1e-8",
    )
    assert run(*TRAIN, *options, "--dtype", "float64").exit_code == 0
    sklearn = pytest.importorskip("sklearn.linear_model")
    theirs = sklearn.LogisticRegression(
        C=0.01, class_weight="balanced", fit_intercept=False, tol=1e-10, max_iter=10_000
    )
    theirs.fit(X.astype(np.float64), y, weights)
    np.testing.assert_allclose(theta()[:, :-1], theirs.coef_ - theirs.coef_.mean(axis=0), atol=1e-5)
    assert np.all(theta()[:, -1] == 0)


def test_classes_and_class_weights_are_read_in_the_kind_of_the_labels(here):
    assert run(*TRAIN, "--classes", "7, 3,2,1,0", "--class-weight", "0=2,3=0.5").exit_code in (0, 3)
    model = load_model("run/model.zarr")
    assert model.classes.tolist() == [0, 1, 2, 3, 7]
    assert model.classes.dtype.kind == "i"
    refused(run(*TRAIN, "--overwrite", "--classes", "a,b"), "--classes a,b", "int64")
    refused(run(*TRAIN, "--overwrite", "--classes", "1,1"), "twice")
    refused(run(*TRAIN, "--overwrite", "--class-weight", "0:2"), "label=weight")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("nested", [False, True])
def test_arrays_inside_groups_and_stores_of_their_own(here, values, version, nested):
    X, y, _ = values
    group = zarr.create_group("other.zarr", zarr_format=version)
    place = "deep/er/" if nested else ""
    group.create_array(f"{place}X", data=X, chunks=(ROWS, P))
    zarr.create_array(
        "labels.zarr",
        data=y,
        chunks=(ROWS,),
        zarr_format=version,
        config={"write_empty_chunks": True},
    )
    result = run(
        "train", "other.zarr", "--features", f"{place}X", "--labels", "labels.zarr", "--out", "run"
    )
    assert result.exit_code == 0, result.output
    again = run(
        "train", f"other.zarr/{place}X", "--labels", "labels.zarr", "--out", "run"
    )  # DATA may be the array itself
    assert again.exit_code == 0, again.output
    assert "ended before" in again.stdout


def test_consolidated_metadata_that_cannot_be_parsed_do_not_matter(here, values):
    group = zarr.create_group("old.zarr", zarr_format=2)
    group.create_array("X", data=values[0], chunks=(ROWS, P))
    Path("old.zarr/.zmetadata").write_text(
        '{"zarr_consolidated_format": 1, "metadata": {"X/.zarray": {"shape": "?"}}}'
    )
    result = run("train", "old.zarr", "--features", "X", "--labels", "data.zarr/y", "--out", "run")
    assert result.exit_code == 0, result.output


def test_evaluate_and_predict_agree_with_the_coefficients(here, values):
    X, y, _ = values
    assert run(*TRAIN).exit_code == 0
    logits = X @ theta()[:, :-1].T + theta()[:, -1]
    expected = logits.argmax(axis=1)
    result = run("evaluate", "run", *DATA, "--json")
    found = json.loads(result.stdout)
    assert found["accuracy"] == pytest.approx(np.mean(expected == y), abs=1e-12)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert found["log_loss"] == pytest.approx(-np.mean(log_p[np.arange(N), y]), abs=1e-6)
    assert found["support"] == np.bincount(y).tolist()
    people = run("evaluate", "run", *DATA)
    assert people.exit_code == 0
    assert f"{100 * np.mean(expected == y):.3f} %" in people.stdout
    assert (
        run(
            "predict", "run", "data.zarr", "--features", "X", "--out", "out.zarr", "--probabilities"
        ).exit_code
        == 0
    )
    out = zarr.open_group("out.zarr", mode="r")
    np.testing.assert_array_equal(out["labels"][:], expected)
    np.testing.assert_allclose(out["probabilities"][:], np.exp(log_p), atol=1e-6)


def test_evaluate_shows_the_largest_of_many_classes(here):
    rng = np.random.default_rng(3)
    group = zarr.create_group("many.zarr")
    y = np.r_[np.arange(60), rng.integers(0, 60, 2000)]
    group.create_array("X", data=rng.normal(size=(len(y), 2)))
    group.create_array("y", data=y)
    data = ("many.zarr", "--features", "X", "--labels", "y")
    assert (
        run("train", *data, "--out", "run", "--max-iter", "2", "--solver", "lbfgs").exit_code == 3
    )
    assert "30 largest of 60 classes" in run("evaluate", "run", *data).stdout


def test_inspect_opens_no_chunk(here):
    for chunk in Path("data.zarr").glob("*/c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(b"poison")
    shutil.rmtree("data.zarr/y/c")
    result = run(
        "inspect", *DATA, "--weights", "extra/weights", "--memory", "1GiB", "--classes", "0,1,2,3"
    )
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "6,000 × 5 float32" in said
    assert "chunks of 500 × 5" in said
    assert f"4 × {P + 1} float64" in said
    assert "1.0 GiB allowed" in said
    assert "float32: it holds every float32 exactly" in said
    assert run("inspect", *DATA, "--workers", "2", "--memory", "1GiB").exit_code == 0
    assert run("inspect", *DATA, "--engine", "serial", "--solver", "bohning").exit_code == 0
    most = [
        int(
            re.search(
                r"surrogate for up to (\d+) classes",
                " ".join(run("inspect", *DATA, *memory).stdout.split()),
            )[1]
        )
        for memory in ((), ("--memory", f"{process_bytes() // 2**20 + 150}MiB"))
    ]
    assert most[0] == SURROGATE_ENTRIES // (P + 1) > most[1] >= 4
    elastic = run("inspect", *DATA, "--l1-ratio", "0.25", "--solver", "proximal-newton")
    assert "elastic net, 25 % of it L1, C = 1" in " ".join(elastic.stdout.split())


# The penalty


def test_an_l1_penalty_needs_a_solver_for_it_and_leaves_zeros(here):
    refused(
        run(*TRAIN, "--l1-ratio", "1"), "solver='lbfgs'", "Pass solver='proximal-newton' (--solver)"
    )
    refused(run(*TRAIN, "--l1-ratio", "2"), "l1_ratio=2.0")
    result = run(*TRAIN, "--l1-ratio", "1", "--C", "0.01", "--solver", "proximal-newton")
    assert result.exit_code == 0, result.output
    assert 0 < np.mean(theta() == 0) < 1
    assert json.loads(Path("run/run.json").read_text())["objective"]["l1_ratio"] == 1.0
    assert load_model("run/model.zarr").about["l1_ratio"] == 1.0


# Going on


def test_the_same_command_again_says_that_the_run_has_ended(here):
    first = run(*TRAIN)
    before = theta()
    again = run(*TRAIN)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "ended before" in again.stdout
    assert theta().tobytes() == before.tobytes()


def test_a_run_that_stopped_at_max_iter_goes_on_with_more_and_ends_where_one_run_ends(here):
    stopped = run(*TRAIN, "--tol", "1e-6", "--max-iter", "3")
    assert stopped.exit_code == 3
    assert "max_iter" in stopped.stdout
    assert run(*TRAIN, "--tol", "1e-6", "--max-iter", "3").exit_code == 3
    assert run(*TRAIN, "--tol", "1e-4", "--engine", "serial").exit_code == 0
    assert run(*TRAIN, "--tol", "1e-6", "--memory", "2GiB").exit_code == 0
    assert (
        run("train", *DATA, "--solver", "lbfgs", "--out", "whole", "--tol", "1e-6").exit_code == 0
    )
    assert theta().tobytes() == theta("whole").tobytes()
    assert passes() == passes("whole")


def start(*words):
    # A group of its own, so that a signal reaches it alone.
    return subprocess.Popen(
        [sys.executable, "-m", "dsoftmax", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_passes(process, n, path="run/history.jsonl"):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if Path(path).exists() and len(Path(path).read_text().splitlines()) >= n:
            return
        time.sleep(0.005)
    raise AssertionError(f"no {n} passes: {process.communicate()}")


LONG = (*DATA, "--solver", "gradient-descent", "--tol", "0", "--max-iter", "150")


@pytest.fixture(scope="module")
def uninterrupted(original, tmp_path_factory):
    """A run of many passes that nothing disturbed."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert run("train", str(original), *LONG[1:], "--out", path).exit_code == 3
    return path


def test_killed_at_any_moment_the_same_command_reaches_the_same_bits(here, uninterrupted):
    for n in (4, 40):
        process = start("train", *LONG, "--out", "run")
        wait_for_passes(process, n)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not Path("run/model.zarr").exists()
    engine = ("--engine", "serial")  # another engine, the same bits
    result = run("train", *LONG, "--out", "run", *engine)
    assert result.exit_code == 3
    assert theta().tobytes() == theta(uninterrupted).tobytes()
    assert passes() == passes(uninterrupted)
    assert not [
        p.name for p in Path("run").iterdir() if p.name.startswith(".") and p.name != ".lock"
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_checkpoint_and_says_how_to_go_on(here, uninterrupted, number):
    command = ("train", *LONG, "--out", "run")
    process = start(*command)
    wait_for_passes(process, 5)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3, stderr
    assert "Traceback" not in stderr
    assert "is kept in run" in stderr
    assert stderr.strip().splitlines()[-1].split() == [
        "dsoftmax",
        *(shlex.quote(word) for word in command),
    ]
    assert run(*command).exit_code == 3
    assert theta().tobytes() == theta(uninterrupted).tobytes()


def test_an_interruption_before_the_run_was_read_does_not_deny_it(here, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dsoftmax.runs.fingerprint.fingerprint", interrupt)
        new = run(*TRAIN)
        assert (new.exit_code, Path("run").exists()) == (3, False)
        assert "This run has not begun." in new.stderr
    assert run(*TRAIN).exit_code == 0
    monkeypatch.setattr("dsoftmax.runs.fingerprint.fingerprint", interrupt)
    again = run(*TRAIN)
    assert again.exit_code == 3
    assert "has not begun" not in again.stderr
    assert "The run that run held before is still there. To go on:" in again.stderr


def test_worker_processes_give_the_same_bits(here):
    assert run(*TRAIN, "--engine", "serial").exit_code == 0
    process = start(
        "train",
        *DATA,
        "--solver",
        "lbfgs",
        "--out",
        "cluster",
        "--engine",
        "cluster",
        "--workers",
        "2",
    )
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "2 workers" in stdout
    assert theta("cluster").tobytes() == theta().tobytes()


# What it refuses


def test_help_is_fast_and_imports_nothing_heavy():
    code = "import sys; from dsoftmax.cli.program import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'numpy', 'zarr', 'dask', 'distributed', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("demo", "inspect", "train", "predict", "evaluate"):
        assert command in done.stdout
        assert run(command, "--help").exit_code == 0


def test_names_that_do_not_exist_get_the_nearest_that_does(here):
    refused(run("trian"), "trian", "train")
    refused(run("train", "--labls", "y"), "--labls", "--labels")
    refused(run(*TRAIN, "--solver", "lbgfs"), "'lbfgs'")
    refused(run(*TRAIN, "--engine", "thread"), "'threads'")
    refused(run(*TRAIN, "--dtype", "float16"), "'float32'")
    refused(
        run("train", "data.zarr", "--features", "x", "--labels", "y", "--out", "run"),
        "no such array",
        "extra/weights",
    )
    refused(
        run("train", "data.zarr", "--features", "X", "--labels", "weights", "--out", "run"),
        "Did you mean extra/weights?",
    )
    refused(
        run("train", "dat.zarr", "--features", "X", "--labels", "y", "--out", "run"),
        "Did you mean data.zarr?",
    )
    refused(
        run("train", "data.zarr", "--labels", "y", "--out", "run"), "--features is missing", "X"
    )
    refused(
        run("train", "data.zarr", "--features", "extra", "--labels", "y", "--out", "run"),
        "a group",
        "weights",
    )
    refused(run("train"), "DATA")
    assert not Path("run").exists()


def test_what_is_not_zarr(here):
    Path("folder").mkdir()
    Path("file.zarr").write_text("x")
    refused(
        run("train", "folder", "--features", "X", "--labels", "y", "--out", "run"),
        "not a Zarr store",
    )
    refused(
        run("train", "file.zarr", "--features", "X", "--labels", "y", "--out", "run"), "is a file"
    )
    assert not Path("run").exists()


def change(name, row, value):
    zarr.open_array(f"data.zarr/{name}", mode="r+")[row] = value


def test_rows_that_cannot_be_used(here):
    refused(run(*TRAIN, "--classes", "0,1,2"), "label 3 (row 5)", "[0 1 2]")
    refused(
        run("train", "data.zarr", "--features", "X", "--labels", "same", "--out", "run"),
        "one class",
    )
    refused(
        run("train", "data.zarr", "--features", "X", "--labels", "short", "--out", "run"),
        "short",
        "5,999",
        "6,000",
    )
    cube = refused(
        run("train", "data.zarr", "--features", "cube", "--labels", "y", "--out", "run"),
        "cube",
        "3 dimensions",
    )
    assert "X.reshape" not in cube.stderr
    assert "beside it as cube-rows" in cube.stderr
    column = refused(
        run("train", "data.zarr", "--features", "X", "--labels", "column", "--out", "run"),
        "column has shape (6000, 1)",
    )
    assert "ravel" not in column.stderr
    assert "beside it as column-rows" in column.stderr
    change("extra/weights", 4321, -1)
    refused(run(*TRAIN, "--weights", "extra/weights"), "weights", "4,321", "-1")
    change("X", (1234, 3), np.nan)
    refused(run(*TRAIN), "data.zarr/X", "row 1,234", "column 3", "nan")
    change("X", (1234, 3), 0.5)
    assert run(*TRAIN).exit_code == 0  # what failed before binds nothing


def test_a_label_that_the_model_does_not_know(here):
    assert run(*TRAIN).exit_code == 0
    change("y", 5, 9)
    found = refused(
        run("evaluate", "run", *DATA), "label 9 (row 5)", "The model knows these classes only"
    )
    assert "Pass classes" not in found.stderr


@pytest.mark.parametrize("version", [2, 3])
def test_a_sparse_group_is_not_taken_for_one_of_its_arrays(here, version):
    attributes = {"encoding-type": "csr_matrix", "shape": [N, P]}
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
            "scipy.sparse.csr_array(",
        )
        assert "shape=g.attrs['shape']" in found.stderr
        assert "It has data" not in found.stderr


def test_chunks_that_are_lost_or_damaged(here):
    chunk = Path("data.zarr/X/c/7/0")
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:100])
    refused(run(*TRAIN), "data.zarr/X", "rows 3,500–3,999", "truncated")
    chunk.unlink()
    refused(run(*TRAIN), "data.zarr/X", "c/7/0", "--missing-chunks fill")
    assert run(*TRAIN, "--missing-chunks", "fill").exit_code == 0


def test_contradictions(here):
    refused(
        run(*TRAIN, "--engine", "threads", "--workers", "2"),
        "--workers belongs to --engine cluster",
    )
    refused(run(*TRAIN, "--workers", "2", "--scheduler", "tcp://h:1"), "contradict")
    refused(run(*TRAIN, "--scheduler", "tcp://h:1", "--memory", "2GiB"), "--memory does nothing")
    refused(run(*TRAIN, "--workers", "0"), "at least one")
    refused(run(*TRAIN, "--memory", "much"), "--memory")
    refused(run(*TRAIN, "--memory", "1MiB"), "Allow at least")
    refused(run(*TRAIN, "--C", "-1"), "C=-1")
    refused(run(*TRAIN, "--tol", "nan"), "tol")
    assert engine_choice(None, None, None, None, None).engine == "threads"
    assert engine_choice(None, 2, None, None, None).engine == "cluster"
    with pytest.raises(OptionError, match="--scheduler-file"):
        engine_choice(None, None, "tcp://h:1", "file", None)


def test_inspect_refuses_what_train_would_and_names_a_memory_that_does(here):
    for where in ((), ("--workers", "2"), ("--workers", "3")):
        refused(found := run("inspect", *DATA, *where, "--memory", "64MiB"), "Allow at least")
        enough = int(
            re.search(r"Allow at least ([\d,]+) MiB", " ".join(found.stderr.split()))[1].replace(
                ",", ""
            )
        )
        assert run("inspect", *DATA, *where, "--memory", f"{enough}MiB").exit_code == 0
        refused(
            run("inspect", *DATA, *where, "--memory", f"{int(0.9 * enough)}MiB"),
            f"Allow at least {enough:,} MiB",
        )


def test_a_scheduler_that_does_not_answer(here, monkeypatch):
    from dsoftmax.engines.cluster import connect

    monkeypatch.setattr(connect, "connected", partial(connect.connected, timeout=0.5))
    refused(run(*TRAIN, "--scheduler", "tcp://127.0.0.1:9"), "127.0.0.1:9", "dask scheduler")
    refused(run(*TRAIN, "--scheduler-file", "none.json"), "none.json")
    assert not Path("run").exists()


def test_a_run_of_other_data_or_another_objective_is_not_touched(here):
    assert run(*TRAIN).exit_code == 0
    before = theta().tobytes()
    refused(run(*TRAIN, "--C", "2"), 'C: was "1.0", is "2.0"', "--overwrite")
    refused(
        run(*TRAIN, "--l1-ratio", "0.5", "--solver", "proximal-newton"), "l1_ratio: was 0.0, is 0.5"
    )
    refused(run(*TRAIN, "--solver", "bohning", "--no-intercept"), "solver: was", "intercept: was")
    refused(
        run("train", "data.zarr", "--features", "X", "--labels", "same", "--out", "run"),
        "data.zarr/same",
    )
    change("X", (0, 0), 3.25)
    refused(run(*TRAIN), "contents of the first or last chunk")
    assert theta().tobytes() == before
    Path("run/notes.txt").write_text("mine")
    assert run(*TRAIN, "--overwrite", "--C", "2").exit_code == 0
    assert theta().tobytes() != before
    assert Path("run/notes.txt").read_text() == "mine"


def test_overwrite_touches_nothing_before_the_data_can_be_read(here):
    assert run(*TRAIN).exit_code == 0
    before = theta().tobytes()
    Path("data.zarr/X/c/0/0").unlink()
    refused(run(*TRAIN, "--overwrite"), "c/0/0")
    assert theta().tobytes() == before


def test_outputs_that_exist(here):
    Path("run").mkdir()
    Path("run/thesis.tex").write_text("…")
    refused(run(*TRAIN), "thesis.tex")
    refused(run(*TRAIN, "--overwrite"), "thesis.tex")
    refused(
        run(*TRAIN[:-1], "run/thesis.tex/run"),
        "run/thesis.tex/run cannot be made: Not a directory",
        "has not begun",
    )
    assert [p.name for p in Path("run").iterdir()] == ["thesis.tex"]
    assert run("train", *DATA, "--out", "good").exit_code == 0
    predict = ("predict", "good", "data.zarr", "--features", "X", "--out")
    refused(run(*predict, "data.zarr"), "exists")
    refused(run(*predict, "data.zarr", "--overwrite"), "the data")
    refused(run(*predict, "good", "--overwrite"), "the run")
    refused(run(*predict, "run", "--overwrite"), "does not hold predictions")
    assert run(*predict, "out.zarr").exit_code == 0
    refused(run(*predict, "out.zarr"), "--overwrite")
    assert run(*predict, "out.zarr", "--overwrite").exit_code == 0


def test_a_run_that_has_not_ended_or_is_none_has_no_model(here):
    refused(
        run("predict", "nowhere", "data.zarr", "--features", "X", "--out", "out.zarr"),
        "does not exist",
    )
    refused(run("evaluate", "data.zarr", *DATA), "does not hold a model")
    Path("empty").mkdir()
    refused(run("evaluate", "empty", *DATA), "neither a run directory")
    assert run(*TRAIN).exit_code == 0
    refused(
        run("evaluate", "run", "data.zarr", "--features", "extra/weights", "--labels", "y"),
        "dimensions",
    )
    shutil.rmtree("run/model.zarr")
    refused(
        run("predict", "run", "data.zarr", "--features", "X", "--out", "out.zarr"),
        "run that has ended",
    )
    assert not Path("out.zarr").exists()
    assert run(*TRAIN).exit_code == 0  # the checkpoint has it all
    assert Path("run/model.zarr").exists()


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
        patch.setattr("dsoftmax.runs.fingerprint.fingerprint", broken)
        result = refused(run(*TRAIN), "AssertionError", "two and two make five", "report")
        assert "Traceback" not in result.stderr
        patch.setenv("DSOFTMAX_DEBUG", "1")
        assert "Traceback" in run(*TRAIN).stderr
    assert run(*TRAIN, "--tol", "1e-7").exit_code == 0


# Many models, one pass


GRID = ("train", *DATA, "--C", "0.01,1,100", "--folds", "3", "--out", "grid")


def test_a_grid_is_scored_shown_and_kept(here):
    result = run(*GRID)
    assert result.exit_code == 0, result.stderr
    assert "12 models: 3 values of C × 3 folds, and all rows" in result.stdout
    scores = json.loads(Path("grid/scores.json").read_text())
    assert (scores["C"], scores["folds"], scores["scoring"]) == ([0.01, 1.0, 100.0], 3, "accuracy")
    assert np.shape(scores["accuracy"]) == np.shape(scores["log_loss"]) == (3, 3)
    best = scores["C"][int(np.argmax(np.mean(scores["accuracy"], axis=0)))]
    assert scores["best_C"] == best == load_model("grid/model.zarr").about["C"]
    assert run("train", *DATA, "--C", str(best), "--out", "one").exit_code == 0
    np.testing.assert_allclose(theta("grid"), theta("one"), atol=1e-3)
    assert len(Path("grid/history.jsonl").read_text().splitlines()) == scores["n_passes"]
    again = run(*GRID)
    assert "ended before" in again.stdout


def test_folds_of_groups_are_scored_as_scikit_learn_scores_them(here, values):
    sklearn = pytest.importorskip("sklearn.linear_model")
    X, y, _ = values
    result = run(*GRID, "--groups", "scene", "--tol", "1e-8", "--dtype", "float64")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(Path("grid/scores.json").read_text())
    which = np.array([reference.fold(int(scene), 3) for scene in np.arange(N) // 60])
    for fold in range(3):
        out = which == fold
        theirs = sklearn.LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(
            X[~out].astype(float), y[~out]
        )
        assert scores["accuracy"][fold][1] == pytest.approx(
            theirs.score(X[out].astype(float), y[out]), abs=1e-12
        )
    asked = json.loads(Path("grid/run.json").read_text())
    assert asked["data"]["arrays"]["groups"]["store"].endswith("data.zarr/scene")
    refused(
        run(*GRID, "--tol", "1e-8", "--dtype", "float64"),
        "holds a run of another objective or other data",
        "groups",
    )
    shown = run("inspect", *DATA, "--folds", "3", "--groups", "scene")
    assert shown.exit_code == 0, shown.stderr
    assert re.search(r"data\.zarr/scene +6,000 int64", shown.stdout)


def test_a_validation_part_holds_whole_groups(here):
    held = [reference.place(scene) < 0.3 for scene in (np.arange(N) // 60).tolist()]
    words = (
        "train",
        *DATA,
        "--validation-fraction",
        "0.3",
        "--groups",
        "scene",
        "--max-iter",
        "2",
        "--solver",
        "lbfgs",
    )
    assert run(*words, "--out", "run").exit_code in (0, 3)
    with np.load("run/statistics.npz") as stored:
        assert stored["held_rows"].sum() == sum(held)


@pytest.mark.parametrize("groups", [(), ("--groups", "scene")])
def test_a_grid_that_is_stopped_goes_on_to_the_same_bits(here, groups):
    many = (*GRID, *groups, "--solver", "lbfgs")
    assert run(*many, "--max-iter", "3").exit_code == 3
    assert run(*many, "--max-iter", "300").exit_code == 0
    stopped = Path("grid/scores.json").read_text(), theta("grid").tobytes()
    assert run(*many, "--max-iter", "300", "--overwrite").exit_code == 0
    assert (Path("grid/scores.json").read_text(), theta("grid").tobytes()) == stopped


def test_held_out_rows_stop_a_run_early(here):
    result = run(
        "train",
        *DATA,
        "--validation-fraction",
        "0.3",
        "--tol",
        "0",
        "--C",
        "inf",
        "--solver",
        "lbfgs",
        "--out",
        "run",
    )
    assert result.exit_code == 0, result.stderr
    assert "Stopped early after" in result.stdout
    losses = [
        json.loads(line)["held_loss"] for line in Path("run/history.jsonl").read_text().splitlines()
    ]
    known = [loss for loss in losses if loss is not None]
    assert f"{min(known):.6g}" in result.stdout


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--C", "1,10"), ("--C names 2 values", "--folds")),
        (("--C", "1,x"), ("--C 1,x", "commas between them")),
        (("--folds", "1"), ("--folds=1; expected a whole number that is at least 2",)),
        (("--C", "2,-1", "--folds", "3"), ("--C=[-1.0, 2.0]; expected positive numbers",)),
        (("--scoring", "log_loss"), ("--scoring does nothing without --folds",)),
        (("--folds", "3", "--validation-fraction", "0.1"), ("both hold out rows",)),
        (("--validation-fraction", "1.5"), ("between 0 and 1",)),
        (
            ("--groups", "scene"),
            ("--groups does nothing without --folds or --validation-fraction",),
        ),
        (("--groups", "scenes", "--folds", "3"), ("--groups", "scenes")),
        (("--groups", "short", "--folds", "3"), ("data.zarr/short has 5,999 rows",)),
    ],
)
def test_grids_that_make_no_sense_are_refused(here, options, parts):
    refused(run("train", *DATA, *options, "--out", "run"), *parts)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("groups", "parts"),
    [
        ("place", ("place row 700: the group is nan",)),
        ("few", ("The folds hold", "at least", "Pass fewer folds")),
    ],
)
def test_groups_that_cannot_be_folds_are_one_message(here, groups, parts):
    refused(run("train", *DATA, "--folds", "5", "--groups", groups, "--out", "run"), *parts)
