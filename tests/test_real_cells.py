"""Real stores of AnnData, and real sparse rows stored as AnnData stores them."""

import os
from pathlib import Path

import cells
import h5py
import numpy as np
import pytest
import scipy.sparse
import zarr
from commands import run, train
from numpy.testing import assert_array_equal
from opening import opened
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression, load_model
from dsoftmax.data.counts import Normalisation
from dsoftmax.data.open import admitted, normalised

DATA = os.environ.get("DSOFTMAX_DATA")

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        DATA is None,
        reason="DSOFTMAX_DATA does not name a folder with banking77_tfidf and *.zarr",
    ),
]


def objective(coef, intercept, X, codes, C=1.0):
    """Return F by the textbook formula, in float64."""
    Z = X @ coef.T + intercept
    Z -= Z.max(axis=1, keepdims=True)
    losses = np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(len(codes)), codes]
    return float(losses.mean() + np.sum(coef**2) / (2 * C * len(codes)))


def lowest(X, y, C=1.0):
    """Return F at scikit-learn's optimum."""
    theirs = LogisticRegression(C=C, tol=1e-7, max_iter=20_000, solver="newton-cg").fit(X, y)
    codes = np.searchsorted(theirs.classes_, y)
    return objective(theirs.coef_, theirs.intercept_, X, codes, C)


@pytest.mark.parametrize("kernel", ["numpy", "fused"])
@pytest.mark.parametrize("chunk_bytes", [2**17, None])
def test_tfidf_in_an_anndata_gives_the_bits_of_the_rows_in_memory(
    tmp_path, kernel, chunk_bytes, monkeypatch
):
    if chunk_bytes is not None:
        monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr("dsoftmax.data.memory.CSR_FEATURE_BYTES", 0)
    folder = Path(str(DATA)) / "banking77_tfidf"
    X = scipy.sparse.load_npz(folder / "X_train_tfidf.npz").tocsr()
    with np.load(folder / "labels.npz") as stored:
        y = np.array([f"intent {code}" for code in stored["y_train"]])
    root = cells.root(tmp_path / "a.zarr")
    cells.csr(root, "X", X, (10_000,), shards=(100_000,))
    cells.categorical(root.create_group("obs"), "intent", y, (1000,))
    # "auto" may choose another solver for rows that are in memory.
    settings = {"C": 10.0, "tol": 1e-3, "kernel": kernel, "solver": "matrix-free"}
    ours = SoftmaxRegression(**settings).fit(root["X"], root["obs/intent"])
    memory = SoftmaxRegression(**settings).fit(X, y)
    assert_array_equal(ours.coef_, memory.coef_)
    assert_array_equal(ours.intercept_, memory.intercept_)
    assert_array_equal(ours.classes_, memory.classes_)


def test_a_sharded_store_whose_consolidated_metadata_zarr_cannot_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Path(str(DATA)) / "10x_pbmc68k_reduced.zarr"
    labels = "obs/bulk_labels"
    group = zarr.open_group(store, mode="r", use_consolidated=False)
    codes = group[f"{labels}/codes"][:]
    y = np.array(group[f"{labels}/categories"][:].tolist())[codes]
    counts = group["layers/counts"]
    parts = [counts[part][:] for part in ("data", "indices", "indptr")]
    matrices = {
        "X": group["X"][:].astype("f8"),
        "layers/counts": scipy.sparse.csr_array(tuple(parts), (700, 765)).astype("f8").toarray(),
    }
    assert run("inspect", store, "--labels", labels).exit_code == 0
    for features, X in matrices.items():
        result = train(store, features, labels, "--tol", "1e-9", "--overwrite")
        assert result.exit_code == 0, result.output
        model = load_model("run/model.zarr")
        found = objective(model.coef_, model.intercept_, X, np.searchsorted(model.classes, y))
        assert abs(found - lowest(X, y)) < 1e-6
        assert_array_equal(model.feature_names, group["var/index"][:].tolist())
        score = run("evaluate", "run", store, "--features", features, "--labels", labels, "--json")
        assert '"accuracy": 1.0' in score.stdout
        predict = ("predict", "run", store, "--features", features, "--out", "out.zarr")
        assert run(*predict, "--overwrite").exit_code == 0
        assert_array_equal(zarr.open_array("out.zarr/labels")[:], y)


def test_counts_of_a_file_are_normalised_to_the_layer_that_its_owner_stored():
    with h5py.File(Path(str(DATA)) / "sc_mouse_bladder.h5ad", "r") as file:
        names = ("X", "layers/log1p_cp10k")
        counts, stored = (admitted(file[name], name) for name in names)
        ours = opened(
            normalised(counts, Normalisation(1e4, log1p=True), "X"), file["obs/cell_type"]
        )
        found, expected = ours.load(0), opened(stored).load(0)
        expected.X.sort_indices()
        assert_array_equal(found.X.indices, expected.X.indices)
        np.testing.assert_allclose(found.X.data, expected.X.data, rtol=1e-6)
        assert len(np.unique(found.y)) == 16
