"""``train`` with soft labels: --labels names probabilities, and --classes their columns."""

import numpy as np
import pytest
import zarr
from commands import passes, refused, run, theta
from numpy.testing import assert_allclose

from dsoftmax import SoftmaxRegression, load_model

SOFT = ("data.zarr", "--features", "X", "--labels", "P", "--classes", "oak,ash,elm,fir")


@pytest.fixture
def soft(here):
    """Store probabilities beside X; class fir has few."""
    group = zarr.open_group("data.zarr", mode="r+")
    rng = np.random.default_rng(0)
    P = np.exp(group["X"][:] @ rng.normal(size=(5, 4)) + rng.gumbel(size=(6000, 4)))
    P = (P / P.sum(axis=1, keepdims=True)).astype(np.float32)
    group.create_array("P", data=P, chunks=(800, 4))
    return group["X"][:], P


def test_a_run_is_the_estimators_fit_and_resumes_to_the_same_bits(soft):
    X, P = soft
    lbfgs = ("--solver", "lbfgs", "--tol", "1e-8", "--max-iter")
    assert run("train", *SOFT, *lbfgs, "3", "--out", "run").exit_code == 3
    assert run("train", *SOFT, *lbfgs, "200", "--out", "run").exit_code == 0
    assert run("train", *SOFT, *lbfgs, "200", "--out", "whole").exit_code == 0
    assert theta().tobytes() == theta("whole").tobytes()
    assert passes() == passes("whole")
    model = load_model("run")
    assert model.classes.tolist() == ["ash", "elm", "fir", "oak"]
    ours = SoftmaxRegression(classes=["oak", "ash", "elm", "fir"], tol=1e-8).fit(X, P)
    assert_allclose(model.coef_, ours.coef_, atol=1e-5)


def test_inspect_shows_soft_labels_and_mistakes_are_refused(soft):
    said = run("inspect", *SOFT)
    assert "6,000 × 4 float32, soft labels, 93.8 KiB decoded" in said.stdout
    refused(run("train", *SOFT[:-2], "--out", "run"), "need --classes, one for each column")
    refused(run("train", *SOFT[:-1], "a,b", "--out", "run"), "4 columns, and classes names 2")
    refused(run("train", *SOFT, "--unlabelled", "oak", "--out", "run"), "has soft ones")
    refused(run("train", *SOFT, "--class-weight", "balanced", "--out", "run"), "and soft labels")
