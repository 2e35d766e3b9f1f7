"""The model of a packed cube takes decoded values in the formats too."""

import json

import numpy as np
import pandas as pd
import xarray as xr
from cubes import BANDS, scene
from numpy.testing import assert_allclose
from scipy.special import softmax

from dsoftmax import SoftmaxRegression

PACKED = {
    "B02": {"dtype": "uint16", "scale_factor": 1e-3, "add_offset": -10.0, "_FillValue": 65535},
    "B03": {"dtype": "int16", "scale_factor": 2e-3, "add_offset": 4.0, "_FillValue": -9999},
    "B04": {"dtype": "uint16", "scale_factor": 5e-4, "add_offset": -9.0, "_FillValue": 0},
}


def test_decoded_pixels_have_the_probabilities_of_the_map(tmp_path):
    X, classes, _ = scene()
    bands = {name: (("y", "x"), values) for name, values in zip(BANDS, X, strict=True)}
    made = xr.Dataset({**bands, "landcover": (("y", "x"), classes)})
    made.to_zarr(tmp_path / "a.zarr", zarr_format=2, encoding=PACKED)
    cube = xr.open_zarr(tmp_path / "a.zarr", chunks=None)
    pixels = cube[list(BANDS)]
    decoded = np.stack([pixels[name].values.ravel() for name in BANDS], axis=1).astype(float)
    ours = SoftmaxRegression(dtype="float64", engine="serial").fit(pixels, cube["landcover"])
    found = ours.predict_proba(pixels).transpose("y", "x", ...).values.reshape(-1, 3)
    theirs = ours.to_sklearn().predict_proba(pd.DataFrame(decoded, columns=BANDS))
    assert_allclose(theirs, found, rtol=0, atol=1e-12)
    ours.model_.to_json(tmp_path / "m.json")
    held = json.loads((tmp_path / "m.json").read_text())
    assert held["feature_names"] == list(BANDS)
    P = softmax(decoded @ np.transpose(held["coef"]) + held["intercept"], axis=1)
    assert_allclose(P, found, rtol=0, atol=1e-12)
