"""The script of cluster/mpi under a real mpiexec."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsoftmax import load_model

SCRIPT = Path(__file__).parents[2] / "cluster" / "mpi" / "train.sh"
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
MPIEXEC = shutil.which("mpiexec", path=PROGRAMS)

pytestmark = pytest.mark.skipif(
    MPIEXEC is None, reason="mpiexec is not installed (pip install mpich)"
)


def train(n_ranks, stored, certificates, folder):
    return subprocess.run(
        [MPIEXEC, "-n", str(n_ranks), SCRIPT, *stored.arguments, "--out", "run"],
        env={**os.environ, "PATH": PROGRAMS, "TLS": str(certificates)},
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_three_ranks_give_the_bits_of_threads(stored, certificates, tmp_path):
    done = train(3, stored, certificates, tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "run").coef_.tobytes() == stored.coef.tobytes()
    assert not list(tmp_path.glob("*.json"))


def test_one_rank_has_no_worker(stored, certificates, tmp_path):
    done = train(1, stored, certificates, tmp_path)
    assert done.returncode == 1
    assert "pass -n 2 or more" in done.stderr


def test_two_runs_do_not_share_a_folder(tmp_path):
    (tmp_path / "dsoftmax-mpi.scheduler.json").touch()
    first = {"PATH": PROGRAMS, "TLS": "none", "PMI_RANK": "0", "PMI_SIZE": "2"}
    done = subprocess.run(
        [SCRIPT, "data.zarr"],
        env=first, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "remove the file" in done.stderr
