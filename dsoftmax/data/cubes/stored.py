"""Variables of a Zarr group that xarray, or another writer of named dimensions, has made."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.cubes.variable import Variable, packing
from dsoftmax.data.zarr.above import groups_above
from dsoftmax.data.zarr.declared import DIMENSIONS, declared_missing
from dsoftmax.data.zarr.windows import ZarrWindows
from dsoftmax.errors import DataError

Coordinates = dict[tuple[str, str], NDArray | None]
"""Coordinates that were read, by the place of their group and the dimension."""


def dimension_names(array: Any) -> tuple[str, ...] | None:
    """Return the names of the dimensions of a Zarr array; None if it has none.

    They are ``dimension_names`` of Zarr v3, and the attribute ``_ARRAY_DIMENSIONS`` of v2.
    """
    if array.ndim == 0:
        return ()
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(DIMENSIONS)
    if not names or any(name is None for name in names) or len(names) != array.ndim:
        return None
    return tuple(str(name) for name in names)


def stored_variable(array: Any, place: str, known: Coordinates) -> Variable:
    """Return a Zarr array as a variable, with the coordinates that stand beside it.

    Parameters
    ----------
    array : zarr.Array
    place : str
        Path of the array in messages.
    known : dict
        Coordinates that were read before; those that are read now are added.

    Raises
    ------
    DataError
        The array has no dimension names.
    """
    dims = dimension_names(array)
    if dims is None:
        raise DataError(
            f"{place} has no dimension names; expected those that xarray writes. Write it with "
            "xarray's to_zarr, or with dimension_names=… of zarr.create_array."
        )
    if len(set(dims)) < len(dims):
        raise DataError(
            f"{place} has the dimensions {', '.join(dims)}, one of them twice; expected distinct "
            "names. Rename one."
        )
    scale, offset = packing(array.attrs)
    name = str(array.store_path.path or place).rstrip("/").rpartition("/")[2]
    return Variable(
        name or place.rstrip("/").rpartition("/")[2],
        ZarrWindows(array, place),
        dims,
        place,
        declared_missing(array),
        scale,
        offset,
        _coordinates(array, dims, known),
        dict(array.attrs),
    )


def _coordinates(array: Any, dims: Iterable[str], known: Coordinates) -> dict[str, NDArray]:
    """Return the coordinates in the nearest group around an array, by dimension."""
    group, _ = next(groups_above(array), (None, ""))
    if group is None:
        return {}
    found = {}
    for d in dims:
        key = (str(group.store_path), d)
        if key not in known:
            known[key] = _coordinate(group, d)
        if (values := known[key]) is not None:
            found[d] = values
    return found


def _coordinate(group: Any, d: str) -> NDArray | None:
    """Return the 1-D array of a group that has the name of its dimension; None if there is none."""
    array = group.get(d)
    if array is None or not hasattr(array, "ndim") or dimension_names(array) != (d,):
        return None
    values = np.asarray(array[:])
    if values.dtype.kind in "OT":
        return np.array([str(value) for value in values.tolist()])
    scale, offset = packing(array.attrs)
    return values if (scale, offset) == (1.0, 0.0) else values * scale + offset
