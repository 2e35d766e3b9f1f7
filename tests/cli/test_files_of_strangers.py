"""Files of strangers run no code, make no command wait, and end in one message."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import DATA, TRAIN, refused, run

DEEP = "[" * 100_000


@pytest.fixture
def trained(here):
    assert run(*TRAIN).exit_code == 0


class Program:
    """An object whose pickle makes a file when it is read."""

    def __reduce__(self):
        return Path.touch, (Path("code-ran"),)


WAYS = {
    "a filter": ([{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}], None),
    "the compressor": ([{"id": "vlen-utf8"}], {"id": "pickle", "protocol": 5}),
    "the first filter": ([{"id": "pickle", "protocol": 5}], None),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_pickle_is_read(trained, way):
    import pickle

    filters, compressor = WAYS[way]
    Path("labels").mkdir()
    metadata = {
        "zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "|O", "compressor": compressor,
        "fill_value": "", "order": "C", "filters": filters,
    }  # fmt: skip
    Path("labels/.zarray").write_text(json.dumps(metadata))
    Path("labels/0").write_bytes(pickle.dumps(Program()))
    labels = ("data.zarr", "--features", "X", "--labels", "labels")
    for words in (("train", *labels, "--out", "other"), ("inspect", *labels)):
        refused(run(*words), "pickle")
    refused(run("evaluate", "run", *labels), "pickle")
    shutil.rmtree("run/model.zarr/coef")
    shutil.copytree("labels", "run/model.zarr/coef")
    refused(run("predict", "run", *DATA[:3], "--out", "out"), "model")
    assert not Path("code-ran").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in its files")
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name",
    [
        "data.zarr/X/c/2/0", "data.zarr/X/zarr.json", "run/.lock", "run/history.jsonl",
        "run/checkpoint.npz", "run/statistics.npz", "run/run.json",
    ],
)  # fmt: skip
def test_a_pipe_in_place_of_a_file_is_an_error_and_no_wait(trained, name):
    Path(name).unlink()
    os.mkfifo(name)
    result = run(*TRAIN)
    if name.endswith(".npz"):  # no checkpoint: the run begins anew
        assert result.exit_code in (0, 1)
    else:
        refused(result)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in its files")
@pytest.mark.timeout(60)
def test_a_pipe_in_a_model_is_an_error_and_no_wait(trained):
    for name in ("zarr.json", "coef/zarr.json", "intercept/c/0"):
        place = Path("run/model.zarr", name)
        content = place.read_bytes()
        place.unlink()
        os.mkfifo(place)
        refused(run("predict", "run", *DATA[:3], "--out", "out"), "does not hold")
        place.unlink()
        place.write_bytes(content)
    assert run("predict", "run", *DATA[:3], "--out", "out").exit_code == 0


@pytest.mark.timeout(60)
def test_links_in_a_circle_are_not_walked(here):
    Path("data.zarr/one").symlink_to(".")
    Path("data.zarr/two").symlink_to(".")
    refused(run("train", "data.zarr", "--features", "Y", "--labels", "y", "--out", "run"), "has X")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", DEEP),
        ("run.json", '{"dsoftmax_run": 1}'),
        ("run.json", "5"),
        ("history.jsonl", DEEP),
        ("history.jsonl", '{"pass": 1}\n{"pass": 2}\n'),
        ("history.jsonl", "5"),
    ],
)
def test_damaged_text_of_a_run_is_one_message(trained, name, content):
    Path("run", name).write_text(content)
    refused(run(*TRAIN), name)


@pytest.mark.parametrize("content", [DEEP, "{}", "5", "[]"])
def test_damaged_metadata_of_an_array_are_one_message(here, content):
    Path("data.zarr/X/zarr.json").write_text(content)
    refused(run(*TRAIN), "X")


@pytest.mark.parametrize(
    "changes",
    [
        {"n_models": np.asarray(0)},
        {"n_models": np.asarray(2)},
        {"n_passes": np.arange(3)},
        {"0/state.theta": np.zeros((2, 2))},
        {"0/solver": np.asarray("no such solver")},
    ],
)
def test_a_checkpoint_of_other_content_is_one_message(trained, changes):
    from dsoftmax.runs.checkpoint import read_arrays, write_arrays

    path = Path("run/checkpoint.npz")
    write_arrays(path, {**read_arrays(path), **changes})
    refused(run(*TRAIN), "checkpoint.npz")


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_control_characters_of_labels_are_escaped(here):
    names = np.array(["\x1b]0;title\x07\x1b[31mred", "b\nc", "d\u202e"])
    group = zarr.open_group("data.zarr")
    codes = group["y"][:]
    y = names[np.searchsorted(np.unique(codes), codes) % 3]
    unknown = y.copy()
    unknown[0] = "q"
    for name, values in (("names", y), ("unknown", unknown)):
        group.create_array(name, data=values.astype("T"), chunks=(len(y),))
    assert run("train", *DATA[:3], "--labels", "names", "--out", "run").exit_code == 0
    shown = run("evaluate", "run", *DATA[:3], "--labels", "names")
    assert shown.exit_code == 0, shown.output
    assert r"\x1b]0;title\x07\x1b[31mred" in shown.stdout
    assert r"b\nc" in shown.stdout
    other = run("evaluate", "run", *DATA[:3], "--labels", "unknown")
    refused(other, r"\x1b]0;title")
    for text in (shown.output, other.output):
        assert not set("\x1b\x07\u202e") & set(text)


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_streams_are_no_error(trained, closed):
    command = f"{sys.executable} -m dsoftmax evaluate run {' '.join(DATA)} {closed}"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert found.returncode == 0
    assert "Traceback" not in found.stderr
