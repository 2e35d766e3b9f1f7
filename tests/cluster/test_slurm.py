"""The job scripts of cluster/slurm on a real Slurm, with one node on this machine."""

import os
import sys
from pathlib import Path

import pytest
import slurm
from slurm import answer, wait_until

from dsoftmax import load_model

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "cluster" / "slurm"

pytestmark = pytest.mark.skipif(
    bool(slurm.missing()), reason=f"not installed: {', '.join(slurm.missing())} (apt: slurm-wlm)"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory, stored, certificates):
    with slurm.slurm(tmp_path_factory.mktemp("slurm")) as found:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{found['PATH']}"
        yield {**found, "PATH": programs, "TLS": str(certificates), "OMP_NUM_THREADS": "1"}


def state(environment, job):
    return answer(environment, "scontrol", "show", "job", job)


def passes(run):
    history = run / "history.jsonl"
    return len(history.read_text().splitlines()) if history.exists() else 0


def test_a_job_loses_a_worker_and_is_requeued_and_ends_with_the_bits_of_threads(
    environment, stored, tmp_path
):
    train = [str(SLURM / "train.sbatch"), *stored.arguments, "--out", "run"]
    job = answer(environment, "sbatch", "--parsable", *train, cwd=tmp_path)
    file = tmp_path / f"dsoftmax-{job}.scheduler.json"
    wait_until(file.exists)
    script = [str(SLURM / "workers.sbatch"), str(file)]
    worker = answer(environment, "sbatch", "--parsable", *script, cwd=tmp_path)
    more = tmp_path / f"dsoftmax-worker-{worker}-4294967294.log"  # the number of no array
    wait_until(lambda: more.exists() and "Registered to" in more.read_text())
    answer(environment, "scancel", worker)
    wait_until(lambda: passes(tmp_path / "run") > 3)
    answer(environment, "scontrol", "requeue", job)
    wait_until(lambda: "JobState=PENDING" in state(environment, job))
    before = passes(tmp_path / "run")

    def runs_again():
        answer(environment, "scontrol", "update", f"jobid={job}", "StartTime=now")
        return "JobState=PENDING" not in state(environment, job)

    wait_until(runs_again)  # Slurm sets the time of the next start once more when the job has ended
    wait_until(lambda: "JobState=COMPLETED" in state(environment, job), 60)

    assert "Restarts=1" in state(environment, job)
    said = (tmp_path / f"dsoftmax-{job}.log").read_text()
    assert f"run holds a run with {before} passes" in said
    assert 3 < before < stored.passes
    assert load_model(tmp_path / "run").coef_.tobytes() == stored.coef.tobytes()
    assert not file.exists()


def test_an_array_trains_one_model_for_each_c(environment, stored, tmp_path):
    grid = {**environment, "OUT": "grid", "C": "0.1 1"}
    train = ["--array=0-1", str(SLURM / "grid.sbatch"), *stored.arguments]
    answer(grid, "sbatch", *train, cwd=tmp_path)
    wait_until(lambda: not answer(grid, "squeue", "--noheader"))
    assert load_model(tmp_path / "grid" / "C-1").coef_.tobytes() == stored.coef.tobytes()
    assert load_model(tmp_path / "grid" / "C-0.1").coef_.tobytes() != stored.coef.tobytes()
