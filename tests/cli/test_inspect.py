"""``dsoftmax inspect`` reads metadata only, and names a sufficient memory limit."""

import re
import shutil
from pathlib import Path

from command_data import P
from commands import DATA, refused, run

from dsoftmax.engines.limits import process_bytes
from dsoftmax.solvers.auto import SURROGATE_ENTRIES


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
    assert "limit 1.0 GiB" in said
    assert "float32, which holds every float32 exactly" in said
    assert run("inspect", *DATA, "--workers", "2", "--memory", "1GiB").exit_code == 0
    assert run("inspect", *DATA, "--engine", "serial", "--solver", "newton").exit_code == 0
    elastic = run("inspect", *DATA, "--l1-ratio", "0.25", "--solver", "proximal-newton")
    assert "elastic net with 25 % L1, C = 1" in " ".join(elastic.stdout.split())


def test_inspect_says_which_solver_auto_becomes_with_an_l1_part(here):
    said = " ".join(run("inspect", *DATA, "--l1-ratio", "0.25").stdout.split())
    most = SURROGATE_ENTRIES // (P + 1)
    assert f"proximal-newton for up to {most} classes, matrix-free for more" in said


def most_classes(*memory):
    """Return the largest number of classes with which "auto" is the surrogate solver."""
    said = " ".join(run("inspect", *DATA, *memory).stdout.split())
    return int(re.search(r"surrogate for up to (\d+) classes", said)[1])


def test_inspect_says_which_solver_auto_becomes(here):
    unlimited = most_classes()
    assert unlimited == SURROGATE_ENTRIES // (P + 1)
    limit = process_bytes() // 2**20 + 150
    assert unlimited > most_classes("--memory", f"{limit}MiB") >= 4


def sufficient_mib(result):
    """Return the limit that a refusal recommends, in MiB."""
    said = " ".join(refused(result, "Allow at least").stderr.split())
    return int(re.search(r"Allow at least ([\d,]+) MiB", said)[1].replace(",", ""))


def test_inspect_names_a_sufficient_memory_limit(here):
    for where in ((), ("--workers", "2"), ("--workers", "3")):
        inspect = ("inspect", *DATA, *where, "--memory")
        enough = sufficient_mib(run(*inspect, "64MiB"))
        assert run(*inspect, f"{enough}MiB").exit_code == 0
        assert sufficient_mib(run(*inspect, f"{int(0.9 * enough)}MiB")) == enough
