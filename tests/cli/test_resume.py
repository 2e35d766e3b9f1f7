"""``dsoftmax train`` resumes a stopped or killed run to the same bits, and keeps other runs."""

import os
import shlex
import signal
from pathlib import Path

import pytest
from command_data import change
from commands import DATA, TRAIN, passes, refused, run, theta, train
from faulty_disk import drafts
from processes import start, wait_for_passes

MANY_PASSES = (*DATA, "--solver", "gradient-descent", "--tol", "0", "--max-iter", "150")


def test_the_same_command_again_says_that_the_run_has_ended(here):
    first = run(*TRAIN)
    before = theta()
    again = run(*TRAIN)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "already ended" in again.stdout
    assert theta().tobytes() == before.tobytes()


def test_a_run_stopped_at_max_iter_resumes_and_ends_with_the_bits_of_one_run(here):
    stopped = run(*TRAIN, "--tol", "1e-6", "--max-iter", "3")
    assert stopped.exit_code == 3
    assert "max_iter" in stopped.stdout
    assert run(*TRAIN, "--tol", "1e-6", "--max-iter", "3").exit_code == 3
    assert run(*TRAIN, "--tol", "1e-4", "--engine", "serial").exit_code == 0
    assert run(*TRAIN, "--tol", "1e-6", "--memory", "2GiB").exit_code == 0
    assert run(*TRAIN[:-1], "whole", "--tol", "1e-6").exit_code == 0
    assert theta().tobytes() == theta("whole").tobytes()
    assert passes() == passes("whole")


@pytest.fixture(scope="module")
def uninterrupted(original, tmp_path_factory):
    """A run of many passes that nothing disturbed."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert run("train", str(original), *MANY_PASSES[1:], "--out", path).exit_code == 3
    return path


def test_a_killed_run_resumes_to_the_same_bits(here, uninterrupted):
    for n in (4, 40):
        process = start("train", *MANY_PASSES, "--out", "run")
        wait_for_passes(process, n)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not Path("run/model.zarr").exists()
    engine = ("--engine", "serial")  # another engine, the same bits
    result = run("train", *MANY_PASSES, "--out", "run", *engine)
    assert result.exit_code == 3
    assert theta().tobytes() == theta(uninterrupted).tobytes()
    assert passes() == passes(uninterrupted)
    assert not drafts("run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_checkpoint_and_prints_the_command_that_continues(
    here, uninterrupted, number
):
    command = ("train", *MANY_PASSES, "--out", "run")
    process = start(*command)
    wait_for_passes(process, 5)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3, stderr
    assert "Traceback" not in stderr
    assert "is saved in run" in stderr
    assert stderr.strip().splitlines()[-1].strip() == shlex.join(["dsoftmax", *command])
    assert run(*command).exit_code == 3
    assert theta().tobytes() == theta(uninterrupted).tobytes()


def test_an_interruption_before_the_run_is_read_says_that_it_is_unchanged(here, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dsoftmax.cli.training_run.fingerprint", interrupt)
        new = run(*TRAIN)
        assert (new.exit_code, Path("run").exists()) == (3, False)
        assert "This run has not begun." in new.stderr
    assert run(*TRAIN).exit_code == 0
    monkeypatch.setattr("dsoftmax.cli.training_run.fingerprint", interrupt)
    again = run(*TRAIN)
    assert again.exit_code == 3
    assert "has not begun" not in again.stderr
    assert "The earlier run in run is unchanged. To continue:" in again.stderr


def test_worker_processes_give_the_same_bits(here):
    assert run(*TRAIN, "--engine", "serial").exit_code == 0
    process = start(*TRAIN[:-1], "cluster", "--engine", "cluster", "--workers", "2")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "2 workers" in stdout
    assert theta("cluster").tobytes() == theta().tobytes()


def test_a_run_of_other_data_or_another_objective_is_not_changed(here):
    assert run(*TRAIN).exit_code == 0
    before = theta().tobytes()
    refused(run(*TRAIN, "--C", "2"), "C: ", '"1.0"', '"2.0"', "--overwrite")
    elastic = run(*TRAIN, "--l1-ratio", "0.5", "--solver", "proximal-newton")
    refused(elastic, "l1_ratio: ", "0.0", "0.5")
    refused(run(*TRAIN, "--solver", "newton", "--no-intercept"), "solver: ", "intercept: ")
    refused(train(labels="same"), "data.zarr/same")
    change("X", (0, 0), 3.25)
    refused(run(*TRAIN), "first or last chunk")
    assert theta().tobytes() == before
    Path("run/notes.txt").write_text("mine")
    assert run(*TRAIN, "--overwrite", "--C", "2").exit_code == 0
    assert theta().tobytes() != before
    assert Path("run/notes.txt").read_text() == "mine"


def test_overwrite_changes_nothing_if_the_data_cannot_be_read(here):
    assert run(*TRAIN).exit_code == 0
    before = theta().tobytes()
    Path("data.zarr/X/c/0/0").unlink()
    refused(run(*TRAIN, "--overwrite"), "c/0/0")
    assert theta().tobytes() == before
