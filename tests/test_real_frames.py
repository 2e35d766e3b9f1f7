"""Covertype as Parquet with two columns of words: every command, and scikit-learn's optimum."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run
from frames import write_parts
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import dsoftmax

DATA = os.environ.get("DSOFTMAX_DATA")
AREAS = np.array(["Rawah", "Neota", "Comanche", "Cache"])

pytestmark = [
    pytest.mark.data,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(DATA is None, reason="DSOFTMAX_DATA does not name a folder of covtype.npz"),
]


@pytest.fixture(scope="module")
def rows():
    """Every 53rd row. The one-hot columns of the file are words again."""
    with np.load(Path(str(DATA)) / "covtype.npz") as stored:
        X, y, names = stored["X"][::53], stored["y"][::53], stored["feature_names"]
    found = pd.DataFrame(X[:, :10], columns=[str(name) for name in names[:10]])
    found["area"] = AREAS[X[:, 10:14].argmax(axis=1)]
    found["soil"] = np.char.add("soil ", X[:, 14:].argmax(axis=1).astype(str))
    return found.assign(cover=y)


def plain_objective(coef, intercept, X, y):
    """Return F for C = 1 by the textbook formula, in float64."""
    Z = X @ coef.T + intercept
    Z -= Z.max(axis=1, keepdims=True)
    losses = np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(len(y)), y]
    return losses.mean() + np.sum(coef**2) / (2 * len(y))


def test_covertype_with_words(rows, tmp_path):
    folder = write_parts(rows, tmp_path / "cover", parts=4, group=2000)
    options = ("--labels", "cover", "--categorical", "from_dtype")
    found = run("inspect", folder, *options)
    assert found.exit_code == 0
    out = tmp_path / "run"
    found = run("train", folder, *options, "--tol", "1e-6", "--out", out)
    assert found.exit_code == 0, found.output
    model = dsoftmax.load_model(out)

    X = rows.drop(columns="cover")
    coding = make_column_transformer(
        ("passthrough", list(X.columns[:10])),
        (OneHotEncoder(sparse_output=False), ["area", "soil"]),
        verbose_feature_names_out=False,
    )
    solver = LogisticRegression(solver="newton-cholesky", tol=1e-7, max_iter=100)
    theirs = make_pipeline(coding, solver).fit(X, rows.cover)
    names = theirs[:-1].get_feature_names_out()
    assert names.tolist() == model.feature_names.tolist()
    plain, y = theirs[:-1].transform(X).astype(float), rows.cover.to_numpy()
    best = plain_objective(solver.coef_, solver.intercept_, plain, y)
    ours = plain_objective(model.coef_, model.intercept_, plain, y)
    assert abs(ours - best) < 1e-6

    scores = run("evaluate", out, folder, "--labels", "cover", "--json")
    assert json.loads(scores.output)["accuracy"] == pytest.approx(
        theirs.score(X, rows.cover), abs=5e-4
    )
    labels = tmp_path / "labels.parquet"
    assert run("predict", out, folder, "--out", labels).exit_code == 0
    predicted = pd.read_parquet(labels).label
    assert (predicted == theirs.predict(X)).mean() > 0.999
