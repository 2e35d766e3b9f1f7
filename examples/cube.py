"""A satellite scene as a cube of xarray: training pixels, a lazy map, its legend.

python examples/cube.py [directory]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from dsoftmax import SoftmaxRegression

BANDS = ["B02", "B03", "B04", "B08"]
NAMES = ["water", "forest", "urban area"]


def scene() -> xr.Dataset:
    """Return four bands as reflectances, and classes of 3 % of the pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:300, 0:400]
    classes = np.digitize(np.sin(y / 40) + np.cos(x / 50), [-0.6, 0.6])
    means = np.array([[0.06, 0.05, 0.04, 0.02], [0.03, 0.05, 0.03, 0.35], [0.15, 0.16, 0.18, 0.22]])
    bands = means[classes] + rng.normal(0, 0.05, (*y.shape, 4))
    known = np.where(rng.random(y.shape) < 0.03, classes + 1, 0).astype(np.uint8)
    ds = xr.Dataset(
        {name: (("y", "x"), bands[..., i]) for i, name in enumerate(BANDS)},
        {"y": 4_650_000 - 10.0 * np.arange(300), "x": 300_000 + 10.0 * np.arange(400)},
    )
    meanings = " ".join(name.replace(" ", "_") for name in NAMES)
    flags = {"flag_values": [1, 2, 3], "flag_meanings": meanings}
    return ds.assign(known=(("y", "x"), known, flags), classes=(("y", "x"), classes + 1))


def main(directory: Path) -> None:
    packed = {"dtype": "uint16", "scale_factor": 1e-4, "add_offset": -0.3, "_FillValue": 0}
    encoding = {name: {**packed, "chunks": (100, 100)} for name in BANDS}
    scene().to_zarr(directory / "cube.zarr", encoding=encoding, zarr_format=2)
    # Packed integers stay packed: their scale factors are folded into the coefficients.
    ds = xr.open_zarr(directory / "cube.zarr", mask_and_scale=False)

    model = SoftmaxRegression(unlabelled=0).fit(ds[BANDS], ds["known"])
    print(model.status_)
    print("features:", *model.feature_names_in_)
    labels = model.predict(ds[BANDS])  # lazy
    print("legend:", labels.attrs["flag_values"], labels.attrs["flag_meanings"])
    labels.to_dataset().to_zarr(directory / "map.zarr", zarr_format=2)
    found = xr.open_zarr(directory / "map.zarr", mask_and_scale=False)["labels"]
    print(f"{float((found == ds['classes']).mean()):.0%} of all pixels have their true class")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
