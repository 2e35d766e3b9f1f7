"""What the places train on, and the coefficients of threads."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr

from dsoftmax import SoftmaxRegression

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stored:
    """Arguments of `dsoftmax train` without --out, and what one process makes of them."""

    arguments: list[str]
    coef: np.ndarray
    passes: int


@pytest.fixture(scope="session")
def stored(tmp_path_factory) -> Stored:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4_000, 5))
    y = (X[:, :3] + rng.gumbel(size=(4_000, 3))).argmax(axis=1)
    path = tmp_path_factory.mktemp("stored") / "data.zarr"
    group = zarr.create_group(path)
    group.create_array("X", data=X, chunks=(500, 5))
    group.create_array("y", data=y, chunks=(500,))
    options = {"solver": "gradient-descent", "kernel": "numpy", "tol": 1e-13, "max_iter": 500}
    model = SoftmaxRegression(**options).fit(group["X"], group["y"])
    words = [
        word for name, value in options.items() for word in (f"--{name}".replace("_", "-"), value)
    ]
    arguments = [str(path), "--features", "X", "--labels", "y", *map(str, words)]
    return Stored(arguments, model.coef_, model.n_passes_)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run([ROOT / "cluster" / "tls.sh", folder], check=True, capture_output=True)
    return folder
