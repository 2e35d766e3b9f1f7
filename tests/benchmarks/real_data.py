"""The real data sets by name, for the benchmarks and for the tests of pass counts.

``DSOFTMAX_DATA`` names their folder. Digits come with scikit-learn and need no folder.
"Standardised" means mean 0 and standard deviation 1 of each feature. "rms" means raw features
divided by one number, their root mean square.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

DATA = os.environ.get("DSOFTMAX_DATA")
SAMPLE_ROWS = 60_000
"""Rows of Covertype in the sets whose whole would take too long."""


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes
    ----------
    name : str
    X : (n, p) ndarray or CSR
    y : (n,) int64
        Codes 0 … K-1.
    """

    name: str
    X: Any
    y: NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        return int(self.X.shape[1])

    @property
    def n_classes(self) -> int:
        return int(self.y.max()) + 1

    @property
    def n_entries(self) -> int:
        """Number of entries of θ, intercepts included."""
        return (self.n_features + 1) * self.n_classes


def folder() -> Path:
    """Return the folder of the sets.

    Raises
    ------
    SystemExit
        DSOFTMAX_DATA does not name one.
    """
    if DATA is None:
        raise SystemExit(
            "DSOFTMAX_DATA is not set; expected the folder with covtype.npz, shuttle.npz, … "
            "Set it, or ask for digits only."
        )
    return Path(DATA)


def standardised(X: NDArray) -> NDArray[np.float32]:
    """Return features of mean 0 and standard deviation 1. A constant feature becomes 0."""
    X = X.astype(np.float64)
    return ((X - X.mean(axis=0)) / X.std(axis=0).clip(1e-9)).astype(np.float32)


def by_rms(X: NDArray) -> NDArray[np.float32]:
    """Return the features divided by one number, the root mean square of all values."""
    X = X.astype(np.float64)
    return (X / np.sqrt(np.mean(np.square(X)))).astype(np.float32)


def raw(X: NDArray) -> NDArray:
    """Return the features as stored."""
    return X


def by_255(X: NDArray) -> NDArray[np.float32]:
    """Return pixels from 0 to 1."""
    return (X / np.float32(255)).astype(np.float32)


SCALES: dict[str, Callable[[NDArray], NDArray]] = {
    "raw": raw,
    "standardised": standardised,
    "rms": by_rms,
    "/255": by_255,
}


def digits() -> tuple[NDArray, NDArray]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X.astype(np.uint8), y  # integers 0 … 16


def stored(file: str, n_rows: int | None) -> tuple[NDArray, NDArray]:
    """Return all rows, or ``n_rows`` drawn without replacement, in their order."""
    X, y = arrays(file, "X", "y")
    if n_rows is None:
        return X, y
    rows = np.sort(np.random.default_rng(0).choice(len(y), n_rows, replace=False))
    return X[rows], y[rows]


def covtype_products(n_rows: int) -> tuple[NDArray, NDArray]:
    """Return Covertype with the products of its ten features that have units.

    They are standardised, multiplied by one another and by the four wilderness areas.
    """
    X, y = stored("covtype.npz", n_rows)
    units, areas = standardised(X[:, :10]), X[:, 10:14]
    left, right = np.triu_indices(10)
    by_area = (units[:, :, None] * areas[:, None, :]).reshape(len(X), -1)
    return np.column_stack([units, units[:, left] * units[:, right], by_area, X[:, 10:]]), y


def mouse_bladder() -> tuple[Any, NDArray]:
    """Return the raw counts of the cells, CSR, and their types."""
    import anndata

    cells = anndata.read_h5ad(folder() / "sc_mouse_bladder.h5ad")
    return scipy.sparse.csr_array(cells.X), np.asarray(cells.obs["cell_type"].cat.codes)


def arrays(file: str, X: str, y: str) -> tuple[NDArray, NDArray]:
    with np.load(folder() / file) as stored:
        return stored[X], stored[y]


def banking77_tfidf() -> tuple[Any, NDArray]:
    X = scipy.sparse.load_npz(folder() / "banking77_tfidf" / "X_train_tfidf.npz")
    with np.load(folder() / "banking77_tfidf" / "labels.npz") as stored:
        return scipy.sparse.csr_array(X), stored["y_train"]


def landsat() -> tuple[NDArray, NDArray]:
    """Return every pixel of the map that has a label and all bands."""
    with np.load(folder() / "landsat7_nc.npz") as stored:
        bands, labels = np.moveaxis(stored["cube"], 0, -1), stored["landclass96"]
    seen = (labels > 0) & np.isfinite(bands).all(axis=-1)
    return np.ascontiguousarray(bands[seen]), labels[seen]


_FILES: dict[str, Callable[[], tuple[Any, NDArray]]] = {
    "digits": digits,
    "covtype": partial(stored, "covtype.npz", None),
    "covtype-60k": partial(stored, "covtype.npz", SAMPLE_ROWS),
    "covtype-products": partial(covtype_products, SAMPLE_ROWS),
    "kddcup99": partial(stored, "kddcup99.npz", None),
    "kddcup99-60k": partial(stored, "kddcup99.npz", SAMPLE_ROWS),
    "mouse-bladder": mouse_bladder,
    "shuttle": partial(arrays, "shuttle.npz", "X", "y"),
    "fashion": partial(arrays, "fashion_mnist.npz", "X_train", "y_train"),
    "banking77-embedded": partial(arrays, "banking77_embedded.npz", "X_train", "y_train"),
    "banking77-tfidf": banking77_tfidf,
    "landsat": landsat,
}
_SCALED = {
    "digits": ("raw",),
    "covtype": ("raw", "standardised", "rms"),
    "covtype-60k": ("raw", "standardised", "rms"),
    "covtype-products": ("standardised",),
    "kddcup99": ("raw", "standardised"),
    "kddcup99-60k": ("raw", "standardised"),
    "mouse-bladder": ("raw",),
    "shuttle": ("raw", "standardised", "rms"),
    "fashion": ("raw", "/255"),
    "banking77-embedded": ("raw",),
    "banking77-tfidf": ("raw",),
    "landsat": ("raw", "rms"),
}
SETS: dict[str, tuple[str, str]] = {
    file if scales == ("raw",) else f"{file} {scale}": (file, scale)
    for file, scales in _SCALED.items()
    for scale in scales
}
"""File and scale of each set, by its name."""


@cache
def _stored(file: str) -> tuple[Any, NDArray]:
    return _FILES[file]()


def load(name: str) -> Data:
    """Return a set by its name in `SETS`."""
    file, scale = SETS[name]
    X, y = _stored(file)
    return Data(name, SCALES[scale](X), np.unique(y, return_inverse=True)[1].astype(np.int64))


def named(words: list[str]) -> list[str]:
    """Return the sets whose names contain any of the words; all sets for no words.

    Raises
    ------
    SystemExit
        No name contains one of the words.
    """
    for word in words:
        if not any(word in name for name in SETS):
            raise SystemExit(f"No set is named {word!r}; expected one of: {', '.join(SETS)}.")
    return [name for name in SETS if not words or any(word in name for word in words)]
