"""Files that AnnData wrote as HDF5 give the rows that were stored."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import DataError
from dsoftmax.testing.sources import check_source

N, P = 500, 6
KINDS = np.array(["B", "NK", "T"])


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(N, P)).astype("f4") * (rng.random((N, P)) < 0.5)
    return X, KINDS[rng.integers(0, 3, N)]


@pytest.fixture
def cells(rows, tmp_path):
    """An AnnData, and its open file."""
    X, y = rows
    obs = pd.DataFrame(
        {"kind": pd.Categorical(y), "count": pd.array(np.arange(N) % 5, "Int64"), "flag": y == "B"},
        index=[f"cell{i}" for i in range(N)],
    )
    made = anndata.AnnData(
        scipy.sparse.csr_matrix(X), obs, pd.DataFrame(index=[f"gene{j}" for j in range(P)])
    )
    made.layers["dense"] = X
    made.write_h5ad(tmp_path / "a.h5ad", compression="gzip")
    with h5py.File(tmp_path / "a.h5ad", "r") as file:
        yield made, file


def test_elements_of_h5ad_files_are_read_as_those_of_zarr(cells, rows):
    _, file = cells
    X, y = rows
    check_source(opened(file["X"], file["obs/kind"]), X, y)
    check_source(opened(file["layers/dense"], file["obs/count"]), X, np.arange(N) % 5)
    check_source(opened(file["X"], file["obs/flag"], groups=file["obs/_index"]), X, y == "B")
    with pytest.raises(DataError, match=r"y is a part of obs/kind, .*Pass obs/kind"):
        opened(file["X"], file["obs/kind/codes"])
    with pytest.raises(
        DataError, match=r"y is a group of HDF5; expected one dataset. It has _index, "
    ):
        opened(file["X"], file["obs"])


@pytest.mark.parametrize("matrix", ["X", "dense"])
def test_backed_matrices_are_read_by_chunks(cells, rows, matrix, tmp_path):
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    X = backed.X if matrix == "X" else backed.layers["dense"]
    found = SoftmaxRegression(tol=1e-8).fit(X, backed.obs["kind"])
    memory = SoftmaxRegression(tol=1e-8).fit(
        scipy.sparse.csr_array(rows[0]) if matrix == "X" else rows[0], rows[1]
    )
    assert_array_equal(found.coef_, memory.coef_)
    if matrix == "X":
        assert_array_equal(found.feature_names_in_, backed.var_names)
    assert_array_equal(found.predict(X), memory.predict(rows[0]))
    with pytest.raises(DataError, match=r"X is an AnnData; .* adata.X and adata.obs"):
        found.fit(backed, rows[1])


def test_a_cluster_reads_elements_of_h5ad_files(cells, rows):
    from dask.distributed import Client, LocalCluster

    _, file = cells
    threads = SoftmaxRegression(tol=1e-8).fit(file["X"], file["obs/kind"])
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        found = SoftmaxRegression(tol=1e-8, engine=client).fit(file["X"], file["obs/kind"])
    assert_array_equal(found.coef_, threads.coef_)
