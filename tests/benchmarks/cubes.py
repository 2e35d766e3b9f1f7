"""A cube of ten times the memory allowed, beside the same pixels as rows and features.

Chunks of the cube are one band of 512 × 512 pixels. Nine tiles are random, and the files of the
others are copies of theirs. Both layouts are trained for the same passes and predicted, each in a
process of its own.

    python tests/benchmarks/cubes.py DIRECTORY [--memory 256MiB] [--times 10]
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import zarr

from dsoftmax.system.units import parse_bytes

SIDE, BANDS, CLASSES, RANDOM = 512, 8, 5, 9
PIXELS = SIDE * SIDE
OPTIONS = {"dtype": "u2", "config": {"write_empty_chunks": True}}
LABELS = {"dtype": "u1", "config": {"write_empty_chunks": True}}


def tile(rng, W):
    """Reflectances of a tile in units of 1e-4, (pixels, bands), and classes."""
    z = rng.normal(size=(PIXELS, BANDS)) * 0.3
    X = np.clip(3000 + 600 * z + 200 * rng.normal(size=(PIXELS, 1)), 0, 10000).astype("u2")
    return X, (z @ W + rng.gumbel(size=(PIXELS, CLASSES))).argmax(axis=1).astype("u1")


def write(place, n):
    """Write n × n tiles in both layouts."""
    shutil.rmtree(place, ignore_errors=True)
    cube, rows = (zarr.create_group(place / name) for name in ("cube.zarr", "rows.zarr"))
    packed = {"scale_factor": 1e-4, "add_offset": -0.1}
    X = cube.create_array(
        "X", shape=(BANDS, n * SIDE, n * SIDE), chunks=(1, SIDE, SIDE),
        dimension_names=("band", "y", "x"), attributes=packed, **OPTIONS,
    )  # fmt: skip
    y = cube.create_array(
        "y", shape=(n * SIDE, n * SIDE), chunks=(SIDE, SIDE), dimension_names=("y", "x"), **LABELS
    )
    flat = rows.create_array("X", shape=(n * n * PIXELS, BANDS), chunks=(PIXELS, BANDS), **OPTIONS)
    classes = rows.create_array("y", shape=(n * n * PIXELS,), chunks=(PIXELS,), **LABELS)
    rng = np.random.default_rng(0)
    W = rng.normal(size=(BANDS, CLASSES))
    for k in range(n * n):
        (i, j), source = divmod(k, n), k % RANDOM
        if k < RANDOM:
            values, labels = tile(rng, W)
            box = slice(i * SIDE, (i + 1) * SIDE), slice(j * SIDE, (j + 1) * SIDE)
            X[(slice(None), *box)] = values.T.reshape(BANDS, SIDE, SIDE)
            y[box] = labels.reshape(SIDE, SIDE)
            flat[k * PIXELS : (k + 1) * PIXELS] = values
            classes[k * PIXELS : (k + 1) * PIXELS] = labels
            continue
        a, b = divmod(source, n)
        for band in range(BANDS):
            copy(place / "cube.zarr/X/c" / str(band), f"{a}/{b}", f"{i}/{j}")
        copy(place / "cube.zarr/y/c", f"{a}/{b}", f"{i}/{j}")
        copy(place / "rows.zarr/X/c", f"{source}/0", f"{k}/0")
        copy(place / "rows.zarr/y/c", f"{source}", f"{k}")
    return n * n * PIXELS * BANDS * 2


def copy(folder, old, new):
    (folder / new).parent.mkdir(exist_ok=True)
    shutil.copyfile(folder / old, folder / new)


def command(*words):
    """Run a command in a process of its own, and return the largest resident bytes of it."""
    code = (
        "import resource, sys; from dsoftmax.cli.program import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code in (0, 3), end.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    words = [sys.executable, "-c", code, *map(str, words)]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(found.stdout.splitlines()[-1]), found.stdout


def seconds(run):
    """Median seconds of the passes of a run."""
    lines = (run / "history.jsonl").read_text().splitlines()
    return float(np.median([json.loads(line)["seconds"] for line in lines]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--memory", default="256MiB")
    parser.add_argument("--times", type=float, default=10)
    asked = parser.parse_args()
    limit, place = parse_bytes(asked.memory), asked.directory
    n = int(np.ceil(np.sqrt(asked.times * limit / (PIXELS * BANDS * 2))))
    n_bytes = write(place, n)
    print(f"{n_bytes / limit:.1f} times the memory: {n * n} tiles, {n * n * PIXELS:,} pixels")
    found = {}
    for name, dims in (("cube", ["--feature-dim", "band"]), ("rows", [])):
        data, run = place / f"{name}.zarr", place / f"run_{name}"
        options = ["--memory", asked.memory, "--max-iter", 3, "--tol", 0, "--solver", "lbfgs"]
        trained, _ = command(
            "train", data, "--features", "X", "--labels", "y", *dims, *options, "--out", run
        )
        predicted, said = command(
            "predict", run, data, "--features", "X", "--memory", asked.memory,
            "--out", place / f"{name}-map.zarr",
        )  # fmt: skip
        time = next(line for line in said.splitlines() if line.strip().startswith("time"))
        found[name] = seconds(run)
        print(
            f"{name}: {found[name]:.2f} s a pass, {trained / 2**20:.0f} MiB; predict "
            f"{time.split(maxsplit=1)[1]}, {predicted / 2**20:.0f} MiB"
        )
        assert max(trained, predicted) <= limit
    print(f"a pass over the cube takes {found['cube'] / found['rows']:.2f} times that over rows")


if __name__ == "__main__":
    main()
