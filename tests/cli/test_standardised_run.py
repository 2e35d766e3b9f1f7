"""``train --scale standard``: one model, resumed to the same bits, that says its penalty."""

import numpy as np
import zarr
from commands import DATA, TRAIN, passes, refused, run, theta
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dsoftmax import load_model

SCALED = (*TRAIN, "--scale", "standard", "--tol", "1e-8")


def test_a_run_is_the_pipeline_and_resumes_to_the_same_bits(here):
    stored = zarr.open_group("data.zarr", mode="r+")
    stored["X"][:, 1] = 100 * stored["X"][:, 1] + 1e4
    assert run(*SCALED, "--max-iter", "3").exit_code == 3
    said = run(*SCALED, "--max-iter", "200")
    assert said.exit_code == 0
    assert "on coefficients of features with mean 0 and standard deviation 1" in said.stdout
    assert run(*SCALED[:-4], "--out", "whole", *SCALED[-4:]).exit_code == 0
    assert theta().tobytes() == theta("whole").tobytes()
    assert passes() == passes("whole")
    refused(run(*TRAIN, "--tol", "1e-8"), "scale: ", "standard")

    model, X = load_model("run"), stored["X"][:].astype(np.float64)
    scaler = StandardScaler().fit(X)
    theirs = LogisticRegression(tol=1e-10).fit(scaler.transform(X), stored["y"][:])
    assert_allclose(model.coef_ * scaler.scale_, theirs.coef_, atol=1e-5)
    assert_allclose(model.scaling, [scaler.mean_, scaler.scale_], rtol=1e-9)


def test_inspect_names_the_penalty_and_fixed_intercepts_are_refused(here):
    said = run("inspect", *DATA, "--scale", "standard")
    assert "on coefficients of standardised features" in said.stdout
    refused(run(*TRAIN, "--scale", "standard", "--no-intercept"), "fit_intercept=False")
