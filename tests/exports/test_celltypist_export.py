"""CellTypist's arithmetic on the exported file gives the labels of the model.

CellTypist itself is not installed with the tests. `annotated` repeats ``Classifier.celltype`` and
``Model.predict_labels_and_prob`` of version 1.7.1.
"""

import pickle

import numpy as np
import pytest
import scipy.sparse
from exported import CLASSES, STEPS, expected, model_of
from numpy.testing import assert_array_equal

from dsoftmax.errors import DataError, OptionError

P = 50
GENES = [f"gene {number}" for number in range(P)]


def annotated(path, X, genes):
    held = pickle.loads(path.read_bytes())
    classifier, scaler = held["Model"], held["Scaler_"]
    assert {"date", "details", "source", "version"} <= held["description"].keys()
    order = [classifier.features.tolist().index(gene) for gene in genes]
    assert scaler.with_mean  # celltypist cannot subtract a number from a sparse matrix
    X = np.asarray((X - scaler.mean_[order]) / scaler.scale_[order])
    X[X > 10] = 10
    classifier.n_features_in_ = len(order)
    classifier.coef_ = classifier.coef_[:, order]
    scores = classifier.decision_function(X)
    scores = np.column_stack([-scores, scores]) if scores.ndim == 1 else scores
    return classifier.classes_[scores.argmax(axis=1)]


def counts_of(rng, n=200):
    counts = rng.poisson(rng.gamma(0.3, 2, size=(n, P))).astype(np.float32)
    counts[:, 0] += 1
    return counts, np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_labels_are_equal_also_with_genes_in_another_order(rng, tmp_path, kind, form):
    counts, logs = counts_of(rng)
    order = rng.permutation(P)
    for about, X in (({}, logs), (STEPS["counts"], counts)):
        model = model_of(CLASSES[kind], P, about, GENES)
        model.to_celltypist(tmp_path / "m.pkl", overwrite=True)
        found = annotated(tmp_path / "m.pkl", form(logs[:, order]), np.array(GENES)[order])
        assert_array_equal(found, model.predict(X, dtype="float64"))
        assert_array_equal(found, expected(model, logs)[0])
        assert found.dtype.kind == model.classes.dtype.kind or kind == "small integers"
        assert len(set(found.tolist())) > 1


def test_what_it_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "m.pkl"
    for name in ("other counts", "skipped", "categories"):
        with pytest.raises(OptionError, match="CellTypist's file cannot hold"):
            model_of(CLASSES["strings"], P, STEPS[name], GENES).to_celltypist(path)
    with pytest.raises(DataError, match="have no names"):
        model_of(CLASSES["strings"], P).to_celltypist(path)
    with pytest.raises(DataError, match="not all different"):
        model_of(CLASSES["strings"], 2, names=["a", "a"]).to_celltypist(path)
    assert not list(tmp_path.iterdir())
