"""Estimators on groups of AnnData: the bits of the fit in memory, names of genes, and memory."""

import cells
import numpy as np
import pytest
import scipy.sparse
import zarr
from allocated import measured_call
from numpy.testing import assert_array_equal

from dsoftmax import SoftmaxRegression, SoftmaxRegressionCV, load_model, save_model
from dsoftmax.errors import DataError
from dsoftmax.estimators.sklearn import ConvergenceWarning

N, P = 2000, 30
KINDS = np.array(["B", "NK", "T"])
GENES = [f"gene{j}" for j in range(P)]


@pytest.fixture
def rows(rng):
    X = scipy.sparse.csr_array(rng.poisson(0.3, size=(N, P)).astype("f4"))
    y = KINDS[(X @ rng.normal(size=(P, 3)) + rng.gumbel(size=(N, 3))).argmax(axis=1)]
    return X, y


@pytest.fixture
def root(tmp_path, rows):
    X, y = rows
    group = cells.root(tmp_path / "a.zarr")
    cells.csr(group, "X", X, (700,))
    cells.put(group.create_group("layers"), "dense", X.toarray(), (300, 11))
    cells.categorical(group.create_group("obs"), "kind", y, (130,))
    cells.table(group, "var", GENES)
    return group


@pytest.mark.parametrize("chunk_bytes", [2000, 2**24])
@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_bits_are_those_of_the_fit_in_memory(root, rows, chunk_bytes, engine, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", chunk_bytes)
    ours = SoftmaxRegression(engine=engine, tol=1e-8).fit(root["X"], root["obs/kind"])
    memory = SoftmaxRegression(engine=engine, tol=1e-8).fit(*rows)
    assert_array_equal(ours.coef_, memory.coef_)
    assert_array_equal(ours.intercept_, memory.intercept_)
    assert_array_equal(ours.classes_, KINDS)
    assert_array_equal(ours.predict_proba(root["X"]), memory.predict_proba(rows[0]))
    assert ours.score(root["X"], root["obs/kind"]) == memory.score(*rows)
    assert (
        ours.uncertainty(root["X"], root["obs/kind"]).covariance.tobytes()
        == memory.uncertainty(*rows).covariance.tobytes()
    )


def test_names_of_genes_become_those_of_the_estimator_and_its_model(root, rows, tmp_path):
    for X in (root["X"], root["layers/dense"], zarr.open_group(tmp_path / "a.zarr/X", mode="r")):
        found = SoftmaxRegression().fit(X, root["obs/kind"])
        assert_array_equal(found.feature_names_in_, GENES)
    save_model(found.model_, tmp_path / "model.zarr")
    model = load_model(tmp_path / "model.zarr")
    assert_array_equal(model.feature_names, GENES)
    assert_array_equal(model.predict(root["X"]), found.predict(root["X"]))
    found.fit(*rows)
    assert not hasattr(found, "feature_names_in_")
    assert found.model_.feature_names is None
    grid = SoftmaxRegressionCV(Cs=[1.0], cv=2).fit(root["X"], root["obs/kind"])
    assert_array_equal(grid.feature_names_in_, GENES)


@pytest.mark.parametrize("path", ["X", "layers/dense"])
def test_genes_are_found_by_name(root, rows, path, rng, tmp_path):
    fitted = SoftmaxRegression().fit(root["X"], root["obs/kind"])
    expected = fitted.predict_proba(root["X"])
    order = rng.permutation(P + 2)
    wide = scipy.sparse.hstack([rows[0], scipy.sparse.csr_array(np.ones((N, 2), "f4"))])
    X = wide.tocsr()[:, order]
    other = cells.root(tmp_path / "b.zarr")
    cells.csr(other, "X", X, (700,))
    cells.put(other.create_group("layers"), "dense", X.toarray(), (300, 11))
    cells.table(other, "var", np.array([*GENES, "more", "again"])[order])
    np.testing.assert_allclose(fitted.predict_proba(other[path]), expected, rtol=1e-5)
    np.testing.assert_allclose(fitted.model_.predict_proba(other[path]), expected, rtol=1e-5)
    labels = root["obs/kind"]
    assert fitted.score(other[path], labels) == fitted.score(root["X"], labels)
    losses = [
        SoftmaxRegression(tol=1e-6).fit(root[path], labels, X_val=X_val, y_val=labels).history_
        for X_val in (root[path], other[path])
    ]
    assert losses[0][-1]["held_loss"] == pytest.approx(losses[1][-1]["held_loss"], rel=1e-6)


def test_genes_that_lack_are_named(root, rows, tmp_path):
    fitted = SoftmaxRegression().fit(root["X"], root["obs/kind"])
    other = cells.root(tmp_path / "b.zarr")
    cells.csr(other, "X", rows[0][:, :-6])
    cells.table(other, "var", ["Gene0", *GENES[1:-6]])
    with pytest.raises(
        DataError,
        match=r"X lacks 7 of the 30 features of the model: gene0, gene24, .* and 2 more. Did you",
    ):
        fitted.predict(other["X"])


def test_matrices_of_other_tables_have_no_names(root, rows):
    cells.put(root.create_group("obsm"), "X_pca", rows[0].toarray())
    assert not hasattr(
        SoftmaxRegression().fit(root["obsm/X_pca"], root["obs/kind"]), "feature_names_in_"
    )


def test_rows_are_never_made_dense(tmp_path, monkeypatch):
    """A dense chunk would have 20 times the bytes of the largest chunk in CSR."""
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2**22)
    monkeypatch.setattr("dsoftmax.data.memory.CSR_FEATURE_BYTES", 0)
    n, p, rng = 40_000, 4000, np.random.default_rng(0)
    indptr = np.arange(0, 100 * n + 1, 100)
    X = scipy.sparse.csr_array(
        (rng.random(100 * n, "f4"), rng.integers(0, p, 100 * n, "i4"), indptr), shape=(n, p)
    )
    group = cells.root(tmp_path / "a.zarr")
    cells.csr(group, "X", X, (100_000,))
    cells.categorical(group, "kind", KINDS[rng.integers(0, 3, n)], (4096,))
    estimator = SoftmaxRegression(engine="serial", max_iter=3, tol=0.0, memory_limit="4GiB")
    estimator.set_params(solver="lbfgs")
    source = estimator._source(group["X"], group["kind"], None)
    chunk = int(source.chunk_bytes.max())
    assert len(source.chunk_rows) == 4
    assert source.chunk_rows.max() * p * 4 > 19 * chunk

    def fit():
        with pytest.warns(ConvergenceWarning):
            estimator.fit(group["X"], group["kind"])

    fit()  # imports
    _, peak = measured_call(fit)
    model = 3 * (p + 1) * 8
    assert chunk < peak < 2.5 * chunk + 5 * model


def test_cells_without_a_label_or_a_weight_are_skipped(root, rows):
    X, y = rows
    blank, light = np.arange(N) % 7 == 0, np.arange(N) % 5 == 0
    labels = cells.categorical(root["obs"], "gappy", np.where(blank, None, y), (130,))
    weights = cells.nullable(root["obs"], "weight", 1 + np.arange(N) % 3, light, chunks=(90,))
    kept = ~(blank | light)
    expected = SoftmaxRegression(tol=1e-8).fit(X[kept], y[kept], 1 + np.arange(N)[kept] % 3)
    for features in (root["X"], root["layers/dense"], X):
        ours = SoftmaxRegression(tol=1e-8).fit(features, labels, weights)
        np.testing.assert_allclose(ours.coef_, expected.coef_, atol=1e-6)
        assert ours.skipped_["unlabelled"] == blank.sum()
        assert ours.skipped_["unweighted"] == (light & ~blank).sum()
        right = ours.predict(features)[~blank] == y[~blank]
        assert ours.score(features, labels) == right.mean()
