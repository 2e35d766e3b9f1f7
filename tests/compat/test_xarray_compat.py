"""The private parts of xarray that `dsoftmax.compat.xarray` stands on."""

import numpy as np
import pytest
from relied_on import relied_on

from dsoftmax.compat.xarray import is_loaded

xarray = pytest.importorskip("xarray")


def test_loaded_values_are_told_from_lazy_ones(tmp_path):
    pytest.importorskip("h5netcdf")
    values = xarray.DataArray(np.ones((4, 2)), dims=("pixel", "band"), name="X")
    values.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with relied_on("xarray", "is_loaded"), xarray.open_dataset(tmp_path / "a.nc") as file:
        assert is_loaded(values)
        assert not is_loaded(values.chunk({"pixel": 2}))
        assert not is_loaded(file["X"])
        assert is_loaded(file["X"].load())
