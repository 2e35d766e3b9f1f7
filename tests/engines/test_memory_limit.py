"""The peak memory of every process, as the system counts it, stays below the limit.

The data are ten times as large.
"""

import re
import subprocess
import sys
from pathlib import Path

import memory
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

MIB = 2**20

TRAIN = """
import sys, warnings
import zarr
from dsoftmax import SoftmaxRegression
from dsoftmax.system.process import peak_bytes
warnings.simplefilter("ignore")
group = zarr.open_group(sys.argv[1], mode="r")
options = {"engine": "threads", "max_iter": 1, "solver": "lbfgs", "kernel": "numpy"}
model = SoftmaxRegression(memory_limit=int(sys.argv[2]), **options)
try:
    model.fit(group["X"], group["y"])
except MemoryError as error:
    print(error)
else:
    print("peak", peak_bytes())
"""


def write_labels(folder: Path, kind: str) -> None:
    """Write narrow rows, and labels that take more bytes than the rows.

    The labels are in one chunk, wide, or of any length.
    """
    n = 8_000_000 if kind == "one chunk" else 800_000
    labels = {"one chunk": "i8", "wide": "<U40", "any length": str}
    group = zarr.create_group(folder)
    X = group.create_array("X", shape=(n, 2), dtype="u1", chunks=(n // 16, 2))
    y = group.create_array(
        "y", shape=(n,), dtype=labels[kind], chunks=(n if kind == "one chunk" else n // 4,)
    )
    rows = np.random.default_rng(0).integers(1, 200, (n, 2), np.uint8)
    X[:] = rows
    codes = (rows[:, 0] > 100).astype(int) + (rows[:, 1] > 100)
    names = np.array([f"a label with a long name {i:012d}" for i in range(3)])
    y[:] = codes if kind == "one chunk" else names[codes]


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (
            "one chunk",
            r"184 MiB chunks of labels\. .*, or store labels, .* 500,000:\n"
            r"  python -c .*/y-500000-rows",
        ),
        ("wide", r"or store labels and groups as whole numbers: .* take 160 bytes a row"),
        ("any length", r"or store labels and groups as whole numbers: .* take 96 bytes a row"),
    ],
)
def test_labels_that_take_more_than_the_features_are_planned_for(kind, advice, tmp_path):
    write_labels(tmp_path, kind)

    def trained(limit):
        command = [sys.executable, "-c", TRAIN, str(tmp_path), str(limit)]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=600
        ).stdout

    refused = trained(300 * MIB)
    assert re.search(advice, refused)
    enough = (int(re.search(r"Allow at least ([\d,]+) MiB", refused)[1].replace(",", "")) + 1) * MIB
    assert int(trained(enough).removeprefix("peak ")) <= enough


@pytest.mark.parametrize("cname", ["lz4", "zstd"])
def test_a_chunk_of_blosc_larger_than_the_memory_is_read_in_parts(cname, tmp_path):
    group = zarr.create_group(tmp_path)
    n = 4_000_000
    X = group.create_array(
        "X", shape=(n, 64), dtype="u2", chunks=(n, 64), compressors=BloscCodec(cname=cname)
    )
    y = group.create_array("y", shape=(n,), dtype="u1", chunks=(n // 4,))
    rows = np.random.default_rng(0).integers(0, 1000, (n, 64), np.uint16)
    X[:], y[:] = rows, (rows[:, 0] > 500).astype("u1") + (rows[:, 1] > 500)
    limit = 384 * MIB
    assert rows.nbytes > 1.2 * limit
    command = [sys.executable, "-c", TRAIN, str(tmp_path), str(limit)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    assert int(found.removeprefix("peak ")) <= limit


@pytest.mark.parametrize(
    ("kind", "place", "allowed"), [("dense", "threads", 224), ("csr", "processes", 352)]
)
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
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.system.process import resident_bytes
from dsoftmax.training.settings import Settings
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.training.loop import train

group = zarr.open_group({path!r}, mode="r")
source = open_source(Table(group["X"], group["y"]))
engine = ThreadsEngine(2, memory_limit=process_bytes() + 128 * 2**20)
before = resident_bytes()
train(source, engine, Settings(max_iter=4, kernel="numpy"))
cached = engine._cache.n_bytes
during = resident_bytes()
engine.close()
print(cached, during - before, resident_bytes() - before)
"""


def test_cached_memory_is_returned_to_the_system_when_the_engine_is_closed(tmp_path):
    memory.write_dense(tmp_path, 200 * MIB)
    script = GIVEN_BACK.format(path=str(tmp_path / "dense.zarr"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    cached, during, after = (int(word) for word in done.stdout.split())
    assert cached > 50 * MIB
    assert during > cached
    assert after < 50 * MIB
