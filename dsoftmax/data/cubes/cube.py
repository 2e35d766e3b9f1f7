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

from dsoftmax.data.block import PixelOf
from dsoftmax.data.buffer import Buffer, array_in
from dsoftmax.data.cubes.tiling import Tiling, Window, lengths, tiling_of
from dsoftmax.data.cubes.variable import Variable, Windows, marks_in
from dsoftmax.data.missing import missing_rows
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
            self.variables, self.feature_dims, tiling, self.wanted, missing_chunks, self
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


@dataclass(frozen=True)
class Part:
    """A variable in the rows of a cube.

    Attributes
    ----------
    variable : Variable
    values : Windows
    order : tuple of int
        Axis of the variable for each axis of its tile: its own pixel dimensions in the order of
        the tiling, then its feature dimensions.
    along : tuple of bool
        Whether the variable has each dimension of the tiling.
    marks : tuple
        Missing values in the variable's dtype.
    first, width : int
        Number of its first feature, and of its features.
    """

    variable: Variable
    values: Windows
    order: tuple[int, ...]
    along: tuple[bool, ...]
    marks: tuple[Any, ...]
    first: int
    width: int

    def window(self, box: Window) -> Window:
        """Return the window of the variable for a tile."""
        n_own = sum(self.along)
        own = [one for one, has in zip(box, self.along, strict=True) if has]
        found = [slice(0, n) for n in self.variable.shape]
        for axis, one in zip(self.order[:n_own], own, strict=True):
            found[axis] = one
        return tuple(found)

    def fill(self, box: Window, out: NDArray) -> None:
        """Write a tile into ``out``, (*lengths(box), width)."""
        window = self.window(box)
        features = [self.variable.shape[axis] for axis in self.order[sum(self.along) :]]
        here = tuple(slice(None) if has else 0 for has in self.along)
        target = out if all(self.along) else out[here]
        tile = target.reshape(*target.shape[:-1], *features)
        direct = np.shares_memory(tile, target) if len(features) != 1 else True
        if not features:
            tile, direct = target[..., 0], True
        if not direct or tile.dtype != self.values.dtype:
            tile = np.empty(tile.shape, self.values.dtype)
            self.values.fill(window, tile.transpose(np.argsort(self.order)))
            target[...] = tile.reshape(target.shape)
        else:
            self.values.fill(window, tile.transpose(np.argsort(self.order)))
        if not all(self.along):
            out[...] = target[tuple(slice(None) if has else None for has in self.along)]


@dataclass(frozen=True)
class CubeRows(Rows):
    """The rows of variables, tile after tile.

    Attributes
    ----------
    parts : tuple of Part
    tiling : Tiling
    dtype : numpy dtype
    columns : (p,) int64 or None
        Features that are used; all of them when None.
    scaling : Scaling or None
    flat : bool
        Whether rows are single values, (n,), and not rows of features.
    """

    parts: tuple[Part, ...]
    tiling: Tiling
    kind: np.dtype
    columns: NDArray[np.int64] | None = None
    scaling: Scaling | None = None
    flat: bool = False

    @classmethod
    def of(
        cls,
        variables: tuple[Variable, ...],
        feature_dims: tuple[str, ...],
        tiling: Tiling,
        wanted: tuple[Any, ...],
        missing_chunks: str,
        cube: Cube | None = None,
    ) -> "CubeRows":
        steps, first, parts = dict(zip(tiling.dims, tiling.steps, strict=True)), 0, []
        for one in variables:
            own = [d for d in tiling.dims if d in one.dims]
            inner = [d for d in feature_dims if d in one.dims]
            marks = marks_in((*one.missing, *wanted), one.values.dtype)
            lengths = tuple(steps.get(d, n) for d, n in one.sizes.items())
            filler = one.values.fill_value
            absent = (
                filler is not None
                and bool(marks_in((filler,), one.values.dtype))
                and any(
                    missing_rows(np.asarray([filler], one.values.dtype), (mark,)) is not None
                    for mark in marks
                )
            )
            width = math.prod(one.sizes[d] for d in inner)
            order = tuple(one.dims.index(d) for d in [*own, *inner])
            along = tuple(d in one.dims for d in tiling.dims)
            values = one.values.along(lengths, missing_chunks, absent)
            parts.append(Part(one, values, order, along, marks, first, width))
            first += width
        kind = (
            np.result_type(*(one.values.dtype for one in variables))
            if cube
            else (variables[0].values.dtype)
        )
        return cls(
            tuple(parts),
            tiling,
            kind,
            None if cube is None else cube.columns,
            None if cube is None else cube.scaling,
        )

    def column(self) -> "CubeRows":
        """Return the reader of the only feature as a column."""
        return replace(self, flat=True)

    @property
    def n_all(self) -> int:
        """Number of features of all variables."""
        return sum(part.width for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        if self.flat:
            return (self.tiling.n_rows,)
        return (self.tiling.n_rows, self.n_all if self.columns is None else len(self.columns))

    @property
    def dtype(self) -> np.dtype:
        return self.kind

    @property
    def masked(self) -> bool:
        return any(part.marks for part in self.parts)

    @property
    def pixel(self) -> PixelOf:
        return self.tiling.pixel

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Any:
        whole = self.columns is None
        shape = (stop - start, self.n_all)
        out = (
            array_in(buffer if whole else None, shape, self.dtype)
            if (self.dtype.kind in "biuf")
            else np.empty(shape, self.dtype)
        )
        missing: NDArray[np.bool_] | None = None
        for tile in self.tiling.tiles(start, stop):
            box, first = self.tiling.window(tile), int(self.tiling.starts[tile])
            n = int(self.tiling.tile_rows[tile])
            low, high = max(first, start), min(first + n, stop)
            all_of_it = high - low == n
            rows = (
                out[low - start : high - start]
                if all_of_it
                else np.empty((n, self.n_all), self.dtype)
            )
            hits = self._fill(box, rows)
            if not all_of_it:
                out[low - start : high - start] = rows[low - first : high - first]
            if hits is not None:
                missing = np.zeros(len(out), bool) if missing is None else missing
                missing[low - start : high - start] = hits[low - first : high - first]
        if not whole:
            out = np.ascontiguousarray(out[:, self.columns])
        if self.flat:
            out = out[:, 0]
        if missing is None:
            return out
        mask = missing if self.flat else np.broadcast_to(missing[:, None], out.shape)
        return np.ma.MaskedArray(out, mask)

    def _fill(self, box: Window, rows: NDArray) -> NDArray[np.bool_] | None:
        """Write a tile, and return whether a value of each row is missing; None if none is."""
        used = None if self.columns is None else set(self.columns.tolist())
        missing: NDArray[np.bool_] | None = None
        tile = rows.reshape(*lengths(box), self.n_all)
        for part in self.parts:
            last = part.first + part.width
            if used is not None and not used & set(range(part.first, last)):
                continue
            part.fill(box, tile[..., part.first : last])
            if not part.marks:
                continue
            values = rows[:, part.first : last]
            if used is not None:
                values = values[:, [i - part.first for i in sorted(used) if part.first <= i < last]]
            hits = missing_rows(values, _in(part.marks, rows.dtype))
            if hits is not None:
                missing = hits if missing is None else missing | hits
        return missing

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        for part in self.parts:
            part.values.require_portable()
        return self

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return sum(part.values.kept_bytes() for part in self.parts)

    def describe(self) -> dict[str, Any]:
        abouts = [part.values.describe() for part in self.parts]
        one = self.parts[0]
        return {
            **abouts[0],
            "shape": list(one.variable.shape),
            "dims": list(one.variable.dims),
            "variables": [
                {
                    **about,
                    "name": part.variable.name,
                    "dims": list(part.variable.dims),
                    "scale": [part.variable.scale, part.variable.offset],
                    "missing": [str(value) for value in part.marks],
                }
                for part, about in zip(self.parts, abouts, strict=True)
            ],
            "tiles": list(self.tiling.steps),
            **({} if self.columns is None else {"columns": self.columns.tolist()}),
            **(
                {"missing": [str(value) for value in one.variable.missing]}
                if one.variable.missing
                else {}
            ),
        }


def _in(marks: tuple[Any, ...], dtype: np.dtype) -> tuple[Any, ...]:
    """Return missing values of a variable in the wider dtype of the rows."""
    return tuple(
        np.asarray(mark).astype(dtype)[()] if dtype.kind in "biuf" else mark for mark in marks
    )


def _word(value: Any) -> str:
    """Return a coordinate as the name of a feature."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, "auto"))
    return f"{value:g}" if isinstance(value, np.floating) else str(value)
