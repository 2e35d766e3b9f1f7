"""A cube as rows and features, and a column beside it.

The features of a cube are its variables, or the entries of a variable along the feature
dimensions, or both: all entries of the first variable, then all of the second. Dimensions that a
variable lacks are broadcast, as xarray broadcasts them.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.cubes.rows import CubeRows
from dsoftmax.data.cubes.tiling import Tiling, tiling_of
from dsoftmax.data.cubes.variable import Variable
from dsoftmax.data.rows import Rows, Stored
from dsoftmax.data.scaling import Scaling


@dataclass(frozen=True)
class Cube(Stored):
    """Features, (n, p), in variables with named dimensions.

    Attributes
    ----------
    variables : tuple of Variable
    feature_dims : tuple of str
        Dimensions whose entries are features.
    place : str
        Path or name of the cube in messages.
    columns : (p,) int64 or None
        Features that are used, in this order; all of them when None.
    wanted : tuple
        Values that the user names as missing, in addition to the declared ones.
    """

    variables: tuple[Variable, ...]
    feature_dims: tuple[str, ...]
    place: str = "X"
    columns: NDArray[np.int64] | None = None
    wanted: tuple[Any, ...] = ()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of pixels along each dimension of the rows."""
        found: dict[str, int] = {}
        for one in self.variables:
            found |= {d: n for d, n in one.sizes.items() if d not in self.feature_dims}
        first = max(self.variables, key=lambda one: len(one.dims))
        order = [d for d in first.dims if d in found]
        return {d: found[d] for d in [*order, *(d for d in found if d not in order)]}

    @property
    def widths(self) -> list[int]:
        """Number of features of each variable."""
        return [
            math.prod(n for d, n in one.sizes.items() if d in self.feature_dims)
            for one in self.variables
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        p = sum(self.widths) if self.columns is None else len(self.columns)
        return math.prod(self.sizes.values()), p

    @cached_property
    def dtype(self) -> np.dtype:
        return np.result_type(*(one.values.dtype for one in self.variables))

    @cached_property
    def names(self) -> list[str]:
        """Names of the features: the variable, the coordinate, or both."""
        found = []
        for one in self.variables:
            dims = [d for d in self.feature_dims if d in one.dims]
            labels: list[str] = [""]
            for d in dims:
                at = one.coords.get(d)
                values = range(one.sizes[d]) if at is None else [_word(value) for value in at]
                labels = [
                    f"{left}_{value}" if left else f"{value}" for left in labels for value in values
                ]
            alone = len(self.variables) == 1 and dims
            found += [
                label if alone else "_".join(filter(None, (one.name, label))) for label in labels
            ]
        return found if self.columns is None else [found[i] for i in self.columns]

    @cached_property
    def scaling(self) -> Scaling | None:
        """The map from stored to meant features; None if they are the same."""
        if not any(one.packed for one in self.variables):
            return None
        each = [
            np.repeat([getattr(one, part) for one in self.variables], self.widths)
            for part in ("scale", "offset")
        ]
        scale, offset = each if self.columns is None else (part[self.columns] for part in each)
        return Scaling(scale.astype(np.float64), offset.astype(np.float64))

    def rows(self, name: str, missing_chunks: str) -> "CubeRows":
        return self.tiled((), name, missing_chunks)

    def tiled(self, beside: tuple["CubeColumn", ...], name: str, missing_chunks: str) -> "CubeRows":
        """Return a reader of the rows, tile after tile.

        Parameters
        ----------
        beside : tuple of CubeColumn
            Columns that are read with the rows, whose chunks the tiles respect if they can.
        """
        row_bytes = self.shape[1] * self.dtype.itemsize
        features = [
            {d: n for d, n in one.steps.items() if d in self.sizes} for one in self.variables
        ]
        others = [one.variable.steps for one in beside]
        tiling = tiling_of(self.sizes, row_bytes, features, others)
        return CubeRows.of(
            self.variables,
            self.feature_dims,
            tiling,
            self.wanted,
            missing_chunks,
            self.columns,
            self.scaling,
        )

    def named(self, wanted: Any) -> "Cube":
        """Return the cube with these features, in this order. All of them must be there."""
        mine = self.names
        places = {name: place for place, name in enumerate(mine)}
        found = np.array([places[str(one)] for one in wanted], np.int64)
        columns = found if self.columns is None else self.columns[found]
        whole = np.array_equal(columns, np.arange(sum(self.widths)))
        return replace(self, columns=None if whole else columns)


@dataclass(frozen=True)
class CubeColumn(Stored):
    """Labels, weights or groups, (n,), in a variable with named dimensions.

    Attributes
    ----------
    variable : Variable
    place : str
    """

    variable: Variable
    place: str = "y"
    wanted: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (math.prod(self.variable.shape),)

    @property
    def dtype(self) -> np.dtype:
        return self.variable.values.dtype

    def rows(self, name: str, missing_chunks: str) -> Rows:
        """Return a reader of the values in the order of the dimensions' own tiles."""
        return Cube((self.variable,), (), self.place).rows(name, missing_chunks).column()

    def beside(self, tiling: Tiling, missing_chunks: str) -> "CubeRows":
        """Return a reader of one value for each row of a tiling."""
        return CubeRows.of((self.variable,), (), tiling, self.wanted, missing_chunks).column()


def _word(value: Any) -> str:
    """Return a coordinate as the name of a feature."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, "auto"))
    return f"{value:g}" if isinstance(value, np.floating) else str(value)
