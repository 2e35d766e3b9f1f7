"""Out of core: a Zarr store several times larger than the memory limit.

Writing, training and prediction each visit one chunk at a time. The rows are never all in memory.

    python examples/out_of_core.py [directory]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr

from dsoftmax import SoftmaxRegression
from dsoftmax.system.process import peak_bytes

LIMIT = 320 * 2**20
N_ROWS, N_FEATURES, CHUNK_ROWS = 4_000_000, 64, 20_000
NAMES = ["bare", "crop", "forest", "urban", "water"]


def write_rows(path: Path) -> zarr.Group:
    """Write 1.0 GB of synthetic rows, one chunk at a time."""
    group = zarr.create_group(path)
    X = group.create_array(
        "X",
        shape=(N_ROWS, N_FEATURES),
        chunks=(CHUNK_ROWS, N_FEATURES),
        dtype=np.float32,
        compressors=None,
    )
    y = group.create_array("y", shape=(N_ROWS,), chunks=(CHUNK_ROWS,), dtype=np.int8)
    truth = (
        np.random.default_rng(0).standard_normal((N_FEATURES, len(NAMES))).astype(np.float32) / 4
    )
    for start in range(0, N_ROWS, CHUNK_ROWS):
        rng = np.random.default_rng(start)
        rows = rng.standard_normal((CHUNK_ROWS, N_FEATURES), dtype=np.float32)
        X[start : start + CHUNK_ROWS] = rows
        y[start : start + CHUNK_ROWS] = (
            rows @ truth + rng.gumbel(size=(CHUNK_ROWS, len(NAMES)))
        ).argmax(axis=1)
    return group


def main(directory: str) -> None:
    group = write_rows(Path(directory) / "rows.zarr")
    X, y = group["X"], group["y"]
    model = SoftmaxRegression(memory_limit=LIMIT).fit(X, y)
    print(model.status_)
    print("rows of each class predicted:", *np.bincount(model.predict(X), minlength=len(NAMES)))
    print(
        f"data {X.nbytes / 2**20:,.0f} MiB, memory limit {LIMIT / 2**20:,.0f} MiB,"
        f" peak {peak_bytes() / 2**20:,.0f} MiB"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(scratch)
