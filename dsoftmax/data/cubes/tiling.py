"""Tiles: the boxes of pixels in which a cube is read.

The borders of tiles are borders of stored chunks, so that every chunk is decoded once in a pass.
Rows are numbered tile after tile, and in C order inside a tile. Raster order would decode a chunk
once for each of its lines.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.rows import cut
from dsoftmax.data.source import first_rows

GROUP_BYTES = 2**20
"""Bytes of joined small chunks, because every chunk of a source has a fixed cost."""
PART_BYTES = 16 * 2**20
"""Most bytes of a tile, decoded, that is larger than a stored chunk of the features."""

Window = tuple[slice, ...]
"""A box of an array: one slice for each dimension."""
Steps = dict[str, int]
"""Length of stored chunks, by dimension."""


@dataclass(frozen=True)
class Tiling:
    """The tiles of a cube.

    Attributes
    ----------
    dims : tuple of str
        Dimensions of the pixels, in the order in which rows are counted.
    shape : tuple of int
        Number of pixels along each.
    steps : tuple of int
        Length of a tile along each. Tiles at the end may be shorter.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    steps: tuple[int, ...]

    @cached_property
    def tile_rows(self) -> NDArray[np.int64]:
        """Number of rows of each tile, (n_tiles,)."""
        found = np.ones(1, np.int64)
        for n, step in zip(self.shape, self.steps, strict=True):
            found = np.multiply.outer(found, cut(n, step)).reshape(-1)
        return found

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Number of the first row of each tile, (n_tiles,)."""
        return first_rows(self.tile_rows)

    @property
    def n_rows(self) -> int:
        return math.prod(self.shape)

    def window(self, tile: int) -> Window:
        """Return the box of a tile."""
        grid = [-(-n // step) for n, step in zip(self.shape, self.steps, strict=True)]
        places = np.unravel_index(tile, grid)
        return tuple(
            slice(int(i) * step, min((int(i) + 1) * step, n))
            for i, step, n in zip(places, self.steps, self.shape, strict=True)
        )

    def tiles(self, start: int, stop: int) -> range:
        """Return the tiles that hold rows ``start:stop``."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        return range(first, max(int(np.searchsorted(self.starts, stop)), first))

    def pixel(self, row: int) -> dict[str, int]:
        """Return the place of a row, by dimension."""
        (tile,) = self.tiles(row, row + 1)
        window = self.window(tile)
        inside = np.unravel_index(row - int(self.starts[tile]), lengths(window))
        places = zip(self.dims, window, inside, strict=True)
        return {name: int(box.start + i) for name, box, i in places}


def lengths(window: Window) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(one.stop - one.start for one in window)


def tiling_of(
    sizes: dict[str, int], row_bytes: int, features: Sequence[Steps], columns: Sequence[Steps]
) -> Tiling:
    """Return the tiles of a cube: a pure function of how its arrays are stored.

    Tiles are whole chunks of every feature variable, and of labels and weights too, unless this
    would make a tile larger than `PART_BYTES`. Then only the largest chunks of the features decide.
    Small chunks are joined to `GROUP_BYTES`, the last dimension first.

    Parameters
    ----------
    sizes : dict
        Number of pixels along each dimension, in the order of the rows.
    row_bytes : int
        Bytes of the features of a pixel.
    features, columns : sequence of dict
        Lengths of stored chunks by dimension. A dimension that an array lacks is absent.
    """

    def bounded(steps: Steps) -> Steps:
        return {name: min(steps[name], sizes[name]) for name in sizes}

    def n_bytes(steps: Steps) -> int:
        return math.prod(steps.values()) * row_bytes

    def common(steps: Steps, other: Steps) -> Steps:
        return bounded({name: math.lcm(steps[name], other.get(name, 1)) for name in sizes})

    features = [{name: min(step, sizes[name]) for name, step in one.items()} for one in features]
    largest = {name: max(one.get(name, 1) for one in features) for name in sizes}
    steps = dict.fromkeys(sizes, 1)
    for one in features:
        steps = common(steps, one)
    if n_bytes(steps) > max(PART_BYTES, n_bytes(largest)):
        steps = largest
    for one in columns:
        wider = common(steps, {name: min(step, sizes[name]) for name, step in one.items()})
        steps = wider if n_bytes(wider) <= PART_BYTES else steps
    for name in reversed(sizes):
        fit = GROUP_BYTES // max(n_bytes(steps), 1)
        steps[name] = min(steps[name] * max(fit, 1), sizes[name])
    return Tiling(tuple(sizes), tuple(sizes.values()), tuple(steps.values()))
