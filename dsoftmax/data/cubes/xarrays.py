"""Cubes of xarray: a Dataset whose variables are features, or a DataArray with a feature dimension.

xarray itself is not imported. Lazy arrays are read window by window, whatever is behind them: dask,
Zarr, netCDF or HDF5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.compat.xarray import is_loaded
from dsoftmax.data.cubes.cube import Cube, CubeColumn
from dsoftmax.data.cubes.grids import cube_of
from dsoftmax.data.cubes.tiling import Window
from dsoftmax.data.cubes.variable import InMemory, Variable, Windows, marks_in, packing
from dsoftmax.data.kind import is_cube, is_dask, kind_of
from dsoftmax.data.missing import is_masked
from dsoftmax.errors import DataError, OptionError

FeatureDim = str | Sequence[str] | None
ATTRIBUTES = ("_FillValue", "missing_value")


def is_dataset(values: Any) -> bool:
    """Return whether the values are an xarray.Dataset."""
    return kind_of(values) == "xarray" and hasattr(values, "data_vars")


def is_cube_like(values: Any, feature_dim: FeatureDim) -> bool:
    """Return whether X is a cube: a Dataset, or a DataArray with a feature dimension."""
    return is_dataset(values) or (kind_of(values) == "xarray" and feature_dim is not None)


def dims_of(feature_dim: FeatureDim) -> tuple[str, ...]:
    """Return the feature dimensions that a user names.

    Raises
    ------
    OptionError
    """
    if feature_dim is None:
        return ()
    found = (feature_dim,) if isinstance(feature_dim, str) else feature_dim
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) for one in found):
        raise OptionError(
            f"feature_dim={feature_dim!r}; expected the name of a dimension, or several in a list. "
            "Pass for example 'band'."
        )
    return tuple(found)


def as_cube(values: Any, feature_dim: FeatureDim, name: str) -> Any:
    """Return a cube of xarray as a `Cube`, and other values as they are.

    Raises
    ------
    OptionError
        The feature dimension does not exist, or X has no dimensions at all.
    DataError
        Variables lie on different grids, or a Dataset has none.
    """
    if is_cube(values):
        return values
    if not is_cube_like(values, feature_dim):
        if feature_dim is not None:
            raise OptionError(
                f"feature_dim={feature_dim!r} names a dimension, and {name} is no cube; expected "
                "a DataArray or a Dataset of xarray. Leave feature_dim out, or pass one of them."
            )
        return values
    arrays = list(values.data_vars.values()) if is_dataset(values) else [values]
    if not arrays:
        raise DataError(
            f"{name} is a Dataset without variables; expected one variable per feature. Select "
            "them, for example ds[['B02', 'B03']]."
        )
    variables = tuple(variable_of(one, name) for one in arrays)
    return cube_of(variables, dims_of(feature_dim), name, "feature_dim")


def as_cube_column(values: Any, name: str, X: Cube) -> Any:
    """Return labels or weights as a `CubeColumn`, and values without a place as they are.

    An array without names of dimensions has a place only if rows have a single dimension.
    """
    if is_dataset(values) or kind_of(values) != "xarray":
        if len(X.sizes) == 1 and _is_column(values):
            variable = Variable(name, InMemory(np.asarray(values)), tuple(X.sizes), name)
            return CubeColumn(variable, name)
        return values
    return CubeColumn(variable_of(values, name), name)


def _is_column(values: Any) -> bool:
    """Return whether the values are an array of one dimension in memory, without a mask."""
    plain = kind_of(values) == "memory" and not (isinstance(values, str) or is_masked(values))
    return plain and np.ndim(values) == 1


def variable_of(array: Any, name: str) -> Variable:
    """Return a DataArray as a variable.

    NaN is missing in an array that xarray has decoded from one with a ``_FillValue``.
    """
    dtype = np.dtype(array.dtype)
    attributes, stored = dict(array.attrs), dict(array.encoding)
    stated = [attributes.get(key) for key in ATTRIBUTES]
    missing = [one for one in stated if one is not None]
    if dtype.kind == "f" and any(stored.get(key) is not None for key in ATTRIBUTES):
        missing.append(np.nan)
    scale, offset = packing(attributes)
    coords = {
        str(d): np.asarray(array.coords[d].values)
        for d in array.dims
        if d in array.coords and array.coords[d].ndim == 1
    }
    return Variable(
        str(array.name) if array.name is not None else name,
        windows_of(array, name),
        tuple(str(d) for d in array.dims),
        name,
        marks_in(tuple(missing), dtype),
        scale,
        offset,
        coords,
        attributes,
    )


def windows_of(array: Any, name: str) -> Windows:
    """Return the values of a DataArray as an array that is read by windows."""
    data: Any = array.data if array.chunks is not None or is_loaded(array) else None
    if data is None:
        return Lazily(array.variable)
    if is_dask(data):
        from dsoftmax.data.dask.windows import DaskWindows

        return DaskWindows(data, name)
    return InMemory(np.asarray(data))


@dataclass(frozen=True)
class Lazily(Windows):
    """A variable of an open file. Its backend reads a window at a time."""

    variable: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.variable.dtype)

    @property
    def stored(self) -> tuple[int, ...]:
        encoding = self.variable.encoding
        chunks = encoding.get("preferred_chunks") or dict(
            zip(self.variable.dims, encoding.get("chunksizes") or (), strict=False)
        )
        if not chunks:  # contiguous: any window can be read
            return (1,) * max(len(self.shape) - 2, 0) + (512,) * min(len(self.shape), 2)
        return tuple(
            min(int(chunks.get(d, n)), n)
            for d, n in zip(self.variable.dims, self.shape, strict=True)
        )

    def fill(self, window: Window, target: NDArray) -> None:
        target[...] = self.variable[window].values

    def describe(self) -> dict[str, Any]:
        encoding = self.variable.encoding
        return {
            "kind": "xarray",
            "store": str(encoding.get("source", "")),
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunks": list(self.stored),
        }
