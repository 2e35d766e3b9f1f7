"""Small cubes: arrays with named dimensions in a Zarr group, as xarray writes them."""

import itertools

import numpy as np
import zarr

from dsoftmax.data.cubes.cube import CubeColumn
from dsoftmax.data.cubes.grids import cube_of
from dsoftmax.data.cubes.stored import stored_variable

BANDS = ("B02", "B03", "B04")


def scene(seed=0, shape=(23, 31), dtype="f4"):
    """Reflectance (band, y, x), classes (y, x) that depend on it, and weights (y, x)."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(len(BANDS), *shape))
    score = X[0] - X[1] + 0.5 * rng.normal(size=shape)
    classes = np.digitize(score, [-0.7, 0.7]).astype("u1") + 1
    return X.astype(dtype), classes, rng.integers(1, 9, shape) / 4


def put(group, name, values, dims, chunks, **options):
    """Write an array with dimension names into a group of Zarr v2 or v3."""
    attributes = dict(options.pop("attributes", {}))
    if group.metadata.zarr_format == 2:
        attributes["_ARRAY_DIMENSIONS"] = list(dims)
    else:
        options["dimension_names"] = dims
    made = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        config={"write_empty_chunks": True},
        attributes=attributes,
        **options,
    )
    made[...] = values
    return made


def group_of(path, zarr_format=3, shape=(23, 31)):
    """A group with the coordinates of a scene."""
    group = zarr.create_group(path, zarr_format=zarr_format)
    put(group, "y", 4000.0 - 10 * np.arange(shape[0]), ("y",), (shape[0],))
    put(group, "x", 500.0 + 10 * np.arange(shape[1]), ("x",), (shape[1],))
    return group


def opened_cube(group, names, feature_dims=()):
    known = {}
    variables = tuple(stored_variable(group[name], name, known) for name in names)
    return cube_of(variables, feature_dims, "cube", "--feature-dim")


def opened_column(group, name):
    return CubeColumn(stored_variable(group[name], name, {}), name)


def tile_order(tiling, dims):
    """The pixels in the order of the rows, by loops: flat numbers in the C order of ``dims``."""
    sizes = dict(zip(tiling.dims, tiling.shape, strict=True))
    numbers = np.arange(np.prod(tiling.shape)).reshape([sizes[d] for d in dims])
    numbers = numbers.transpose([dims.index(d) for d in tiling.dims])
    starts = [range(0, n, step) for n, step in zip(tiling.shape, tiling.steps, strict=True)]
    boxes = [
        tuple(slice(low, low + step) for low, step in zip(corner, tiling.steps, strict=True))
        for corner in itertools.product(*starts)
    ]
    return np.concatenate([numbers[box].reshape(-1) for box in boxes])
