"""Peak memory beside the memory limit, on data ten times as large.

    python tests/benchmarks/memory.py [MiB allowed for each process]

The data are dense or CSR, on threads or on worker processes. Every case trains in its own
process. The peak is the system's own count (VmHWM) for that process and its workers.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import zarr
from rich.console import Console
from rich.table import Table
from zarr.codecs import BloscCodec

TIMES = 10
PASSES = 2
"""Passes of a case: statistics, which fill the cache, and a value and gradient."""
P_DENSE, K_DENSE = 64, 8
P_SPARSE, K_SPARSE, DENSITY = 20_000, 5, 0.02

TRAIN = """
import json, sys
from contextlib import nullcontext, suppress
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.engines.cluster.connect import local_cluster
from dsoftmax.system.process import peak_bytes
from dsoftmax.training.settings import Settings
from dsoftmax.training.loop import train
sys.path.insert(0, sys.argv[4])
import memory

class Enough(Exception):
    pass

def main():
    source, allowed, place = memory.opened(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    records = []

    def watch(record, run):
        records.append(record)
        if len(records) == memory.PASSES:
            raise Enough

    engine = nullcontext(ThreadsEngine(memory_limit=allowed))
    if place == "processes":
        engine = local_cluster(2, 3 * allowed)
    with suppress(Enough), engine as engine:
        train(source, engine, Settings(tol=0.0), watchers=[watch])
    workers = [done.peak for record in records for name, done in record.work.items() if name]
    print(json.dumps({
        "peak": max([peak_bytes(), *workers]), "driver": peak_bytes(),
        "workers": max(workers, default=0), "bytes": records[-1].bytes, "kept": records[-1].kept,
        "passes": len(records),
    }))

if __name__ == "__main__":
    main()
"""


def write_dense(folder: Path, n_bytes: int) -> None:
    """Write a Zarr group with X float32 and y. X repeats a few rows, so it needs little disk."""
    rng = np.random.default_rng(0)
    step = 4 * 2**20 // (4 * P_DENSE)
    n = -(-n_bytes // (4 * step * P_DENSE)) * step
    group = zarr.create_group(folder / "dense.zarr")
    X = group.create_array(
        "X",
        shape=(n, P_DENSE),
        dtype="f4",
        chunks=(step, P_DENSE),
        compressors=BloscCodec(cname="lz4", clevel=1),
    )
    y = group.create_array("y", shape=(n,), dtype="u1", chunks=(16 * step,))
    X[:step] = np.tile(rng.integers(0, 16, (64, P_DENSE), np.uint8), (step // 64, 1))
    for number in range(1, n // step):  # equal chunks: a copy costs less than compressing again
        (folder / f"dense.zarr/X/c/{number}").mkdir()
        shutil.copy(folder / "dense.zarr/X/c/0/0", folder / f"dense.zarr/X/c/{number}/0")
    y[:] = rng.integers(0, K_DENSE, n, np.uint8)


@cache
def csr_parts(rows: int) -> tuple[object, object, object]:
    """Return values, columns and pointers that all blocks share, so a block costs little time."""
    count = int(P_SPARSE * DENSITY)
    columns = np.sort(
        (np.arange(rows * count, dtype=np.int32) * 487 % P_SPARSE).reshape(rows, count)
    ).reshape(-1)
    return (
        (columns % 7 / 7).astype(np.float32),
        columns,
        np.arange(0, rows * count + 1, count, dtype=np.int32),
    )


def csr_block(number: int, rows: int) -> object:
    """Return a block of CSR. The same number gives the same block."""
    import scipy.sparse

    values, columns, pointers = csr_parts(rows)
    return scipy.sparse.csr_array(
        (values * np.float32(1 + number % 3), columns.copy(), pointers.copy()), (rows, P_SPARSE)
    )


def opened(what: str) -> object:
    """Return a source: a Zarr group by its path, or "csr:BYTES"."""
    from dsoftmax.data.open import open_source
    from dsoftmax.data.table import Table as Data

    if not what.startswith("csr:"):
        group = zarr.open_group(what, mode="r")
        return open_source(Data(group["X"], group["y"]))
    import dask
    import dask.array as da
    import scipy.sparse

    row_bytes = 8 * int(P_SPARSE * DENSITY)
    # dask's metadata do not tell the density, so a block is planned with 5 %.
    rows = 4 * 2**20 // row_bytes
    n_blocks = -(-int(what[4:]) // (rows * row_bytes))
    meta = scipy.sparse.csr_array((0, P_SPARSE), dtype=np.float32)
    make = dask.delayed(csr_block)
    blocks = [
        da.from_delayed(make(i, rows), (rows, P_SPARSE), np.float32, meta=meta)
        for i in range(n_blocks)
    ]
    y = np.random.default_rng(1).integers(0, K_SPARSE, n_blocks * rows)
    return open_source(Data(da.concatenate(blocks), y))


def measured(what: str, place: str, allowed: int, folder: Path) -> dict[str, float]:
    """Train in a new process and return its figures: the largest peak, and what a pass visited.

    Parameters
    ----------
    what : str
        See `opened`.
    place : {"threads", "processes"}
    allowed : int
        Memory limit of each process, in bytes.
    folder : Path
        A folder for the script.

    Raises
    ------
    RuntimeError
        The process failed; the message is its stderr.
    """
    script = folder / "train.py"
    script.write_text(TRAIN)
    command = [sys.executable, str(script), what, str(allowed), place, str(Path(__file__).parent)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def main(allowed: int) -> None:
    table = Table(title=f"{allowed / 2**20:.0f} MiB allowed for each process, two passes")
    for name in (
        "data",
        "where",
        "decoded MiB",
        "times the limit",
        "largest peak MiB",
        "of the limit",
        "from the cache",
    ):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as name:
        write_dense(Path(name), TIMES * allowed)
        for what, where in (
            (f"{name}/dense.zarr", "Zarr, dense"),
            (f"csr:{TIMES * allowed}", "dask, CSR"),
        ):
            for place in ("threads", "processes"):
                found = measured(what, place, allowed, Path(name))
                figures = (found["bytes"] / allowed, found["peak"] / 2**20, found["peak"] / allowed)
                cells = [
                    f"{found['bytes'] / 2**20:,.0f}",
                    *(f"{figure:.3g}" for figure in figures),
                    f"{found['kept']:.0%}",
                ]
                table.add_row(where, place, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(int(float(sys.argv[1]) * 2**20) if len(sys.argv) > 1 else 384 * 2**20)
