"""Peak memory, as the system counts it, stays below what was allowed: data ten times as large, every process."""

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
