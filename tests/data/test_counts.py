"""Counts are normalised as scanpy's formulas say, whatever their storage and dtype."""

import cells
import dask.array as da
import h5py
import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from opening import opened

from dsoftmax.data.counts import Normalisation
from dsoftmax.data.open import admitted, normalised
from dsoftmax.errors import DataError
from dsoftmax.testing.sources import check_source

N, P = 300, 9


@pytest.fixture
def X(rng):
    found = rng.poisson(0.8, size=(N, P))
    found[7] = 0  # a cell without counts
    return found


def expected(X, total, log1p):
    """Loops over the rows, in float64."""
    found = []
    for row in X.astype(float):
        scaled = row if total is None or row.sum() == 0 else total * row / row.sum()
        found.append([np.log(1 + x) if log1p else x for x in scaled])
    return np.array(found)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i8", "f2", "f4", ">f4", "f8"])
@pytest.mark.parametrize(("total", "log1p"), [(1e4, True), (1e4, False), (None, True)])
def test_rows_follow_the_formula_in_every_dtype(X, dtype, total, log1p):
    how, X = Normalisation(total, log1p), X.astype(dtype)
    plain = X.astype("f4") if dtype in ("f2", ">f4") else X  # SciPy has no others
    for rows in (X, scipy.sparse.csr_array(plain)):
        before = rows.copy()
        found = how.apply(rows)
        assert found.dtype == ("f8" if dtype == "f8" else "f4")
        dense = found.toarray() if scipy.sparse.issparse(found) else found
        assert_allclose(dense, expected(X, total, log1p), rtol=1e-6 if dtype != "f8" else 1e-14)
        assert (before != rows).sum() == 0


@pytest.mark.parametrize("storage", ["csr", "dense", "zarr", "hdf5"])
def test_stored_counts_are_normalised_as_they_are_read(X, storage, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
    how, X, root = Normalisation(1e4, True), X.astype("i2"), cells.root(tmp_path / "a.zarr")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(41, 4))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        array = {
            "csr": lambda: cells.csr(root, "X", X),
            "dense": lambda: cells.put(root, "X", X, (64, 4)),
            "zarr": lambda: root.create_array("X", data=X, chunks=(64, 4)),
            "hdf5": lambda: file["X"],
        }[storage]()
        source = opened(normalised(admitted(array, "X"), how, "X"))
        assert len(source.chunk_rows) > 1
        check_source(source, how.apply(scipy.sparse.csr_array(X) if storage == "csr" else X))
        assert source.describe()["arrays"]["X"]["normalize"] == 1e4


def test_a_lost_chunk_of_a_plain_array_stays_an_error(X, tmp_path):
    array = cells.root(tmp_path / "a.zarr").create_array("X", data=X, chunks=(100, P))
    (tmp_path / "a.zarr/X/c/1/0").unlink()
    source = opened(normalised(admitted(array, "X"), Normalisation(1e4), "X"))
    with pytest.raises(OSError, match="X rows 100–199"):
        [source.load(chunk) for chunk in range(len(source.chunk_rows))]


def test_without_normalisation_rows_are_as_stored(X):
    assert normalised(X, Normalisation(), "X") is X
    assert Normalisation.of({}).about() == {}


def test_dask_arrays_are_refused(X):
    with pytest.raises(DataError, match="X is a dask array, and its counts are to be normalised"):
        normalised(da.from_array(X), Normalisation(1e4), "X")


def test_rows_with_a_missing_value_stay_missing(X, tmp_path):
    """The declared value is that of the stored counts: 9 becomes another number."""
    X[[3, 200], [0, 8]] = 9
    missing = (X == 9).any(axis=1)
    array = cells.root(tmp_path / "a.zarr").create_array(
        "X", data=X, chunks=(100, P), attributes={"_FillValue": 9}
    )
    for rows in (array, np.ma.masked_equal(X, 9)):
        source = opened(normalised(admitted(rows, "X"), Normalisation(1e4, True), "X"))
        found = [source.load(chunk).counted() for chunk in range(len(source.chunk_rows))]
        assert sum(counts[0] for _, counts in found if counts is not None) == missing.sum()
        assert_allclose(
            np.concatenate([block.X for block, _ in found]),
            expected(X[~missing], 1e4, True),
            rtol=1e-6,
        )
