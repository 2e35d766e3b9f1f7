"""Every example runs as its first lines say, and prints what it is meant to show."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested_here() -> None:
    assert sorted(path.name for path in (ROOT / "examples").glob("*.py")) == [
        "cube.py",
        "dask_cluster.py",
        "in_memory.py",
        "out_of_core.py",
        "score_json.py",
    ]


def test_a_cube() -> None:
    printed = run("cube.py")
    assert "features: B02 B03 B04 B08" in printed
    assert "legend: [1, 2, 3] water forest urban_area" in printed
    share = re.search(r"(\d+)% of all pixels have their true class", printed)
    assert share is not None
    assert int(share[1]) > 90


def test_in_memory() -> None:
    assert "Converged" in run("in_memory.py")


def test_a_model_in_json_is_scored_without_a_library(tmp_path: Path) -> None:
    import numpy as np
    from scipy.special import softmax

    from dsoftmax import Model

    theta, row = np.random.default_rng(0).normal(size=(3, 5)), [0.5, -2.0, 300.0, 1e-3]
    expected = softmax(theta @ [*row, 1.0])
    Model(theta, np.array(["ash", "öak", "yew"])).to_json(tmp_path / "model.json")
    words = [str(tmp_path / "model.json"), *map(str, row)]
    printed = [run("score_json.py", *words)]
    if node := shutil.which("node"):
        command = [node, str(ROOT / "examples" / "score_json.mjs"), *words]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for text in printed:
        label, probabilities = json.loads(text)
        assert label == ["ash", "öak", "yew"][expected.argmax()]
        np.testing.assert_allclose(probabilities, expected, rtol=1e-12, atol=1e-300)


def test_out_of_core_stays_within_the_memory_limit(tmp_path: Path) -> None:
    printed = run("out_of_core.py", str(tmp_path))
    found = re.search(r"data ([\d,]+) MiB, memory limit ([\d,]+) MiB, peak ([\d,]+) MiB", printed)
    assert found, printed
    data, limit, peak = (int(number.replace(",", "")) for number in found.groups())
    assert "Converged" in printed
    assert data >= 3 * limit
    assert peak <= limit


def test_a_dask_cluster_gives_the_bits_of_one_core() -> None:
    printed = run("dask_cluster.py")
    assert "Converged" in printed
    assert "same bits on one core: True" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_local_cluster_script_trains_through_the_scheduler(tmp_path: Path) -> None:
    import numpy as np
    import zarr

    rng = np.random.default_rng(0)
    X = rng.standard_normal((4_000, 5))
    group = zarr.create_group(tmp_path / "data.zarr")
    group.create_array("X", data=X, chunks=(500, 5))
    group.create_array(
        "y", data=(X[:, :3] + rng.gumbel(size=(4_000, 3))).argmax(axis=1), chunks=(500,)
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        str(ROOT / "cluster" / "local.sh"),
        "data.zarr",
        "--features",
        "X",
        "--labels",
        "y",
        "--out",
        "run",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "model.zarr").is_dir()
