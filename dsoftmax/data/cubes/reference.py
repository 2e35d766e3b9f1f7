"""What places the pixels of a cube on earth: coordinates and the grid mapping, to be copied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.cubes.rows import CubeRows
from dsoftmax.data.cubes.stored import dimension_names
from dsoftmax.data.zarr.above import groups_above
from dsoftmax.data.zarr.declared import DIMENSIONS

MAPPING, COORDINATES, USUAL = "grid_mapping", "coordinates", "spatial_ref"
MOST_VALUES = 2**24
"""Most values of a coordinate of several dimensions that is copied."""


@dataclass(frozen=True)
class Coordinate:
    """An array that is copied beside a prediction.

    Attributes
    ----------
    dims : tuple of str
    values : ndarray
        As stored.
    attributes : dict
    """

    dims: tuple[str, ...]
    values: NDArray
    attributes: Mapping[str, Any] = field(default_factory=dict)


def coordinates_of(rows: CubeRows) -> tuple[dict[str, Coordinate], str | None]:
    """Return the coordinates of the rows of a stored cube, and the name of its grid mapping.

    Coordinates are those of the dimensions, those that the attribute ``coordinates`` names, and
    the grid mapping. They are read from the nearest group around the first variable.
    """
    variable = rows.parts[0].variable
    array = getattr(variable.values, "array", None)
    if array is None or not hasattr(array, "store_path"):
        return {}, None
    group, _ = next(groups_above(array), (None, ""))
    if group is None:
        return {}, None
    named = str(variable.attributes.get(COORDINATES, group.attrs.get(COORDINATES, ""))).split()
    mapping = str(variable.attributes.get(MAPPING, USUAL)).split(":")[0]
    found = {}
    for name in dict.fromkeys([*rows.tiling.dims, *named, mapping]):
        one = group.get(name)
        if one is None or not hasattr(one, "ndim"):
            continue
        dims = dimension_names(one)
        small = one.ndim < 2 or one.size <= MOST_VALUES
        if dims is None or not small or not set(dims) <= set(rows.tiling.dims):
            continue
        attributes = {key: value for key, value in dict(one.attrs).items() if key != DIMENSIONS}
        found[name] = Coordinate(dims, np.asarray(one[...]), attributes)
    return found, mapping if mapping in found else None
