"""The stores of the tests of the command line."""

import numpy as np
import zarr

N, P, K, ROWS = 6000, 5, 4, 500
"""Rows, features and classes of the store, and rows of a chunk."""
FEW, FEW_FEATURES, FEW_CLASSES, FEW_ROWS = 600, 4, 3, 150
"""Rows, features and classes of the small store, and rows of a chunk."""


def random_rows(seed, n, p, n_classes):
    """Return features, labels of the softmax model, and the generator."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)).astype(np.float32)
    y = (X @ rng.normal(size=(p, n_classes)) + rng.gumbel(size=(n, n_classes))).argmax(axis=1)
    return X, y, rng


def write_store(path, X, y, weights):
    """Write X, y and weights, and columns that some test needs or must be refused."""
    group, rows = zarr.create_group(path), np.arange(N)
    group.create_array("cube", data=X.reshape(-1, 2, P), chunks=(ROWS, 2, P))
    group.create_array("column", data=y[:, None], chunks=(ROWS, 1))
    written = {"config": {"write_empty_chunks": True}}
    group.create_array("X", data=X, chunks=(ROWS, P), compressors=None, **written)
    group.create_array("y", data=y, chunks=(2 * ROWS,), compressors=None, **written)
    columns = {
        "extra/weights": weights,
        "scene": rows // 60,
        "place": np.where(rows == 700, np.nan, rows // 60),
        "few": rows % 2,
        "short": y[:-1],
        "same": np.full(N, 3),
    }
    for name, values in columns.items():
        group.create_array(name, data=values, chunks=(ROWS,), **written)


def write_small_store(path):
    """Write X and y of the small store."""
    X, y, _ = random_rows(5, FEW, FEW_FEATURES, FEW_CLASSES)
    group = zarr.create_group(path)
    group.create_array("X", data=X, chunks=(FEW_ROWS, FEW_FEATURES))
    group.create_array("y", data=y, chunks=(FEW_ROWS,), config={"write_empty_chunks": True})


def change(name, row, value):
    """Change one value of an array in the working directory's store."""
    zarr.open_array(f"data.zarr/{name}", mode="r+")[row] = value
