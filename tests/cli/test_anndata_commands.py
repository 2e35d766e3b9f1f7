"""Commands on stores of AnnData: features and labels by the names that its owner gave them."""

import dataclasses
import re

import anndata
import cells as hand_written
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from commands import refused, run, train
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from dsoftmax.results.stored_model import load_model, save_model

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in ("Writing zarr v2", "Consolidated metadata", "Transforming to str")
]

N, P = 600, 12
KINDS = np.array(["NK cell", "B cell", "T cell"])


def made(rng, n=N):
    """An AnnData of sparse counts, whose kinds of cells follow a softmax model."""
    X = rng.poisson(0.7, size=(n, P)).astype("f4")
    y = (X @ rng.normal(size=(P, 3)) + rng.gumbel(size=(n, 3))).argmax(axis=1)
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(KINDS[y]),
            "gappy": pd.Categorical(pd.Series(KINDS[y]).where(np.arange(n) >= 50)),
            "batch": pd.array(np.arange(n) // 20, dtype="Int64"),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    cells = anndata.AnnData(
        scipy.sparse.csr_matrix(X), obs, pd.DataFrame(index=[f"gene{j}" for j in range(P)])
    )
    cells.layers["doubled"] = 2 * X
    return cells


@pytest.fixture(params=[2, 3, "h5ad"])
def cells(request, tmp_path, monkeypatch, rng):
    """The AnnData in memory; the working directory holds it as ``data.zarr``.

    That is a store of Zarr, or a file of HDF5.
    """
    found = made(rng)
    monkeypatch.chdir(tmp_path)
    if request.param == "h5ad":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(anndata.AnnData, "write_zarr", anndata.AnnData.write_h5ad)
            found.write_h5ad("data.zarr")
            yield found
        return
    with anndata.settings.override(
        zarr_write_format=request.param, auto_shard_zarr_v3=request.param == 3
    ):
        found.write_zarr("data.zarr")
        yield found


def expected(cells):
    """scikit-learn's optimum."""
    X = cells.X.astype("f8")  # in float32 it stops 1e-3 away
    return LogisticRegression(tol=1e-9, max_iter=10_000).fit(X, cells.obs["kind"])


def test_train_evaluate_and_predict_by_the_names_of_genes_and_columns(cells):
    result = train("data.zarr", None, "obs/kind", "--tol", "1e-8")
    assert result.exit_code == 0, result.output
    model, theirs = load_model("run/model.zarr"), expected(cells)
    assert_array_equal(model.classes, sorted(KINDS))
    assert_array_equal(model.feature_names, cells.var_names)
    assert_allclose(model.coef_, theirs.coef_, atol=1e-5)
    score = run("evaluate", "run", "data.zarr", "--labels", "obs/kind", "--json")
    assert f'"accuracy": {theirs.score(cells.X, cells.obs["kind"])}' in score.stdout
    # The genes in another order, and more of them, in a dense layer.
    more = anndata.concat(
        [cells, cells.copy()[:, :3].copy()], axis=1, merge="first", index_unique="-"
    )
    more.var_names = [*cells.var_names, "x", "y", "z"]
    shuffled = more[:, np.random.default_rng(0).permutation(P + 3)].copy()
    shuffled.layers["dense"] = shuffled.X.toarray()
    shuffled.write_zarr("other.zarr")
    for features in ("X", "layers/dense"):
        predict = run(
            *("predict", "run", "other.zarr", "--features", features, "--out", "out.zarr"),
            "--overwrite",
        )
        assert predict.exit_code == 0, predict.output
        assert_array_equal(zarr.open_array("out.zarr/labels")[:], theirs.predict(cells.X))


def test_a_layer_and_groups_of_a_nullable_column(cells):
    options = ("--groups", "obs/batch", "--folds", "3", "--C", "0.1,1", "--tol", "1e-6")
    assert train("data.zarr", "layers/doubled", "obs/kind", *options).exit_code == 0
    said = run("inspect", "data.zarr", "--labels", "obs/kind", "--features", "layers/doubled")
    assert "600 × 12 float32, 28.1 KiB decoded" in " ".join(said.stdout.split())
    said = " ".join(run("inspect", "data.zarr", "--labels", "obs/kind").stdout.split())
    assert re.search(rf"600 × 12 float32, CSR of {cells.X.nnz:,} values, .* decoded", said)
    assert re.search(r"600 int8, codes of 3 categories", said)


def test_cells_without_a_label_are_skipped_and_counted(cells):
    said = " ".join(run("inspect", "data.zarr", "--labels", "obs/gappy").stdout.split())
    assert "declares code −1 as missing: rows are skipped" in said
    result = train("data.zarr", "X", "obs/gappy", "--tol", "1e-8")
    assert result.exit_code == 0, result.output
    assert f"50 of {N} rows skipped: 50 unlabelled" in result.output
    assert_allclose(load_model("run/model.zarr").coef_, expected(cells[50:]).coef_, atol=1e-5)


def test_values_before_a_normalisation_have_no_names(cells):
    refused(
        train("data.zarr", "X", "obs/kind", "--nodata", "7", "--log1p"),
        "--nodata names values of features, which --normalize and --log1p change while they are",
    )
    assert train("data.zarr", "X", "obs/kind", "--log1p").exit_code == 0
    refused(
        run("predict", "run", "data.zarr", "--features-nodata", "7", "--out", "out.zarr"),
        "--features-nodata names values of features",
    )


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ("X", "obs/gappy/codes", "--labels obs/gappy/codes is a part of obs/gappy"),
        ("X", "obs/batch/values", "Pass obs/batch."),
        ("X/data", "obs/kind", "--features X/data is a part of X"),
        ("X", "kind", "has no such array. Did you mean obs/kind? It has X, layers/doubled, obs/_"),
        ("X", "obs/kinds", "Did you mean obs/kind?"),
        ("X", "obs", "--labels obs is a group; expected one array. Pass one of obs/_index, obs/b"),
        ("layers/double", "obs/kind", "Did you mean layers/doubled?"),
        ("X", "X", "data.zarr/X is sparse, of shape (600, 12); expected one value per row"),
    ],
)
def test_wrong_names_are_refused_with_the_right_ones(cells, features, labels, message):
    refused(train("data.zarr", features, labels), message)


def test_a_store_without_some_genes_is_refused_by_their_names(cells):
    assert train("data.zarr", "X", "obs/kind").exit_code == 0
    less = cells[:, 2:].copy()
    less.var_names = ["Gene2", *less.var_names[1:]]
    less.write_zarr("less.zarr")
    refused(
        run("evaluate", "run", "less.zarr", "--labels", "obs/kind"),
        "less.zarr/X lacks 3 of the 12 features of the model: gene0, gene1, gene2. Did you mean",
    )
    cells.var_names = ["gene0", *cells.var_names[:-1]]
    cells.write_zarr("twice.zarr")
    refused(
        run("predict", "run", "twice.zarr", "--out", "out.zarr"),
        "the name 'gene0' stands twice among the names of its columns",
    )


def test_a_matrix_by_columns_is_refused_and_its_cure_works(cells):
    cells.layers["c"] = cells.X.tocsc()
    cells.write_zarr("columns.zarr")
    message = refused(train("columns.zarr", "layers/c", "obs/kind"), "is a CSC matrix").stderr
    cure = re.search(r"Store it again by rows: (.*)\.$", message.strip())[1]
    names = {"anndata": anndata, "NEW": "rows.zarr"}
    exec(cure.replace(", adata", "; adata"), names)
    assert train("rows.zarr", "layers/c", "obs/kind").exit_code == 0


def test_chunks_that_are_not_stored_are_counted_and_reported(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    y = KINDS[np.sort(np.arange(N) % 3)]
    X = rng.poisson(1.0, size=(N, P)).astype("f4") + 5 * np.eye(3, P)[np.sort(np.arange(N) % 3)]
    root = hand_written.root("data.zarr")
    hand_written.csr(root, "X", X)
    hand_written.categorical(root, "kind", np.where(y == "B cell", "A", y), (40,))
    hand_written.nullable(root, "batch", np.arange(N) // 20, np.zeros(N), chunks=(60,))
    options = ("--groups", "batch", "--folds", "3")
    result = train("data.zarr", "X", "kind", *options)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "data.zarr/kind: 5 of 15 chunks are not stored: they hold 0." in said
    assert "data.zarr/batch: 10 of 10 chunks of the mask are not stored: they hold False." in said
    said = run("inspect", "data.zarr", "--features", "X", "--labels", "kind").stdout
    assert "5 of 15 chunks are not stored: they hold 0" in " ".join(said.split())


def normal(X):
    """scanpy's normalize_total and log1p, by their formulas, in float64."""
    X = X.astype("f8").toarray()
    return np.log1p(1e4 * X / X.sum(axis=1, keepdims=True).clip(1e-300))


def test_counts_are_normalised_on_the_way_and_the_model_does_the_same(cells):
    options = ("--normalize", "1e4", "--log1p", "--tol", "1e-9")
    result = train("data.zarr", None, "obs/kind", *options)
    assert result.exit_code == 0, result.output
    model, X = load_model("run/model.zarr"), normal(cells.X)
    theirs = LogisticRegression(tol=1e-9, max_iter=10_000).fit(X, cells.obs["kind"])
    assert_allclose(model.coef_, theirs.coef_, atol=1e-4)
    assert (model.about["normalize"], model.about["log1p"]) == (1e4, True)
    assert_array_equal(model.predict(cells.X), theirs.predict(X))
    score = run("evaluate", "run", "data.zarr", "--labels", "obs/kind", "--json")
    assert f'"accuracy": {theirs.score(X, cells.obs["kind"])}' in score.stdout
    assert run("predict", "run", "data.zarr", "--out", "out.zarr").exit_code == 0
    assert_array_equal(zarr.open_array("out.zarr/labels")[:], theirs.predict(X))
    refused(train("data.zarr", None, "obs/kind", "--normalize", "1e4"), "log1p: was true, is")
    refused(train("data.zarr", None, "obs/kind", "--normalize", "0"), "--normalize is 0; expected")


def test_rows_are_divided_by_the_sum_of_all_genes_not_only_of_those_that_the_model_has(cells):
    few = cells[:, 4:].copy()
    few.X = scipy.sparse.csr_matrix(normal(cells.X)[:, 4:])
    few.write_zarr("few.zarr")
    assert train("few.zarr", None, "obs/kind", "--tol", "1e-8").exit_code == 0
    model = load_model("run/model.zarr")
    counts = dataclasses.replace(model, about={**model.about, "normalize": 1e4, "log1p": True})
    save_model(counts, "counts.zarr")
    assert run("predict", "counts.zarr", "data.zarr", "--out", "out.zarr").exit_code == 0
    assert_array_equal(zarr.open_array("out.zarr/labels")[:], model.predict(few.X))


def test_a_plain_file_of_hdf5(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    X = rng.normal(size=(N, 3))
    words = np.array(["a", "é", "none"])[(X @ rng.normal(size=(3, 3))).argmax(axis=1)]
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(100, 3))
        file.create_dataset("y", data=words.astype(object), dtype=h5py.string_dtype())
    result = train("a.h5", "X", "y", "--unlabelled", "none", "--tol", "1e-8")
    assert result.exit_code == 0, result.output
    kept = words != "none"
    assert f"{N - kept.sum()} of {N} rows skipped" in result.output
    theirs = LogisticRegression(tol=1e-9).fit(X[kept], words[kept])
    assert_allclose(load_model("run/model.zarr").coef_, theirs.coef_, atol=1e-5)
    said = run("predict", "run", "a.h5", "--features", "X", "--out", "out.zarr")
    assert said.exit_code == 0, said.output
    assert_array_equal(zarr.open_array("out.zarr/labels")[:], theirs.predict(X))
    refused(train(str(tmp_path / "a.h5"), "X", "X", "--overwrite"), "Store one of its columns")
