"""Peak memory, as the system counts it, stays below what was allowed: data ten times as large, every process."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import memory

MIB = 2**20


@pytest.mark.parametrize(("kind", "place", "allowed"), [("dense", "threads", 224), ("csr", "processes", 288)])
def test_no_process_takes_more_than_it_is_allowed(kind, place, allowed, tmp_path):
    limit = allowed * MIB
    what = f"csr:{memory.TIMES * limit}"
    if kind == "dense":
        memory.write_dense(tmp_path, memory.TIMES * limit)
        what = str(tmp_path / "dense.zarr")
    found = memory.measured(what, place, limit, tmp_path)
    assert found["bytes"] >= 9.9 * limit
    assert found["peak"] <= limit


GIVEN_BACK = """
import numpy as np
import scipy.linalg  # imported here, and not while memory is counted
import zarr
from dsoftmax.engine.memory import process_bytes
from dsoftmax.engine.threads import ThreadsEngine
from dsoftmax.process import resident_bytes
from dsoftmax.settings import Settings
from dsoftmax.sources import open_source
from dsoftmax.training import train

group = zarr.open_group({path!r}, mode="r")
source = open_source(group["X"], group["y"])
engine = ThreadsEngine(2, memory_limit=process_bytes() + 128 * 2**20)
before = resident_bytes()
train(source, engine, Settings(max_iter=4, kernel="numpy"))
kept = engine._cache.n_bytes
during = resident_bytes()
engine.close()
print(kept, during - before, resident_bytes() - before)
"""


def test_what_an_engine_kept_is_given_back_to_the_system_when_it_is_closed(tmp_path):
    memory.write_dense(tmp_path, 200 * MIB)
    script = GIVEN_BACK.format(path=str(tmp_path / "dense.zarr"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    kept, during, after = (int(word) for word in done.stdout.split())
    assert kept > 50 * MIB
    assert during > kept
    assert after < 50 * MIB
