"""A reader of the rows of a cube, tile after tile."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import PixelOf
from dsoftmax.data.buffer import Buffer, array_in
from dsoftmax.data.cubes.tiling import Tiling, Window, lengths
from dsoftmax.data.cubes.variable import Variable, Windows, marks_in
from dsoftmax.data.missing import missing_rows
from dsoftmax.data.rows import Rows
from dsoftmax.data.scaling import Scaling


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
    kind : numpy dtype
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
        columns: NDArray[np.int64] | None = None,
        scaling: Scaling | None = None,
    ) -> "CubeRows":
        """Return the reader of variables in the tiles of a cube.

        Parameters
        ----------
        variables : tuple of Variable
        feature_dims : tuple of str
        tiling : Tiling
        wanted : tuple
            Values that the user names as missing.
        missing_chunks : {"error", "fill"}
        columns, scaling
            See the attributes.
        """
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
        dtypes = [one.values.dtype for one in variables]
        kind = dtypes[0] if len(dtypes) == 1 else np.result_type(*dtypes)
        return cls(tuple(parts), tiling, kind, columns, scaling)

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
