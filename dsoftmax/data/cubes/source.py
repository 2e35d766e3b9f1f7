"""Sources of cubes: one tile is one chunk."""

from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from dsoftmax.data.checks import check_shapes, every_row, require_numbers
from dsoftmax.data.cubes.cube import Cube, CubeColumn
from dsoftmax.data.cubes.grids import require_same_grid
from dsoftmax.data.memory import MemoryRows
from dsoftmax.data.missing import Missing, in_dtype, is_missing
from dsoftmax.data.rows import Rows, RowSource
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError, OptionError


def cube_source(table: Table[Any]) -> RowSource:
    """Return a source of a cube. Opening it reads metadata and coordinates.

    Parameters
    ----------
    table : Table
        X is a `Cube`, and its columns are `CubeColumn`. Weights may be one number.

    Raises
    ------
    OptionError
        A missing value cannot occur in its array.
    DataError
        Grids differ, shapes do not fit, or X is not real numbers.
    """
    X: Cube = replace(table.X, wanted=_named(table, "X", table.X.variables))
    for variable in X.variables:
        require_numbers(f"{table.names.X} {variable.name}", variable.values.dtype)
    columns: dict[str, Any] = {}
    for part, values in table.columns():
        name = getattr(table.names, part)
        if isinstance(values, CubeColumn):
            column = replace(values, variable=values.variable.squeezed(X.sizes))
            require_same_grid(X, table.names.X, column, name)
            columns[part] = replace(column, wanted=_named(table, part, (column.variable,)))
        elif isinstance(values, Real):
            columns[part] = every_row(values, X.shape[:1])
        else:
            raise DataError(
                f"{name} has no dimension names, and {table.names.X} is a cube; expected an array "
                "with the dimensions of the cube. Pass a DataArray, or a variable of the cube."
            )
    beside = tuple(one for one in columns.values() if isinstance(one, CubeColumn))
    rows = X.tiled(beside, table.names.X, table.missing_chunks)
    readers: dict[str, Rows] = {
        part: one.beside(rows.tiling, table.missing_chunks)
        if isinstance(one, CubeColumn)
        else MemoryRows(np.asarray(one))
        for part, one in columns.items()
    }
    none: dict[str, Any] = dict.fromkeys(("y", "weights", "groups"))
    found: Table[Rows] = replace(table, X=rows, **none | readers, missing=Missing())
    check_shapes(found.map(lambda one, _: one.shape))
    tile_rows = rows.tiling.tile_rows
    return RowSource(found, tile_rows, tile_rows * rows.shape[1] * rows.dtype.itemsize)


def _named(table: Table[Any], part: str, variables: Any) -> tuple[Any, ...]:
    """Return the values that the user names as missing, after a check that they can occur."""
    option = {"X": "nodata", "y": "unlabelled"}.get(part, part)
    for value in getattr(table.missing, part, ()):
        dtypes = [one.values.dtype for one in variables]
        if not is_missing(value) and all(in_dtype(value, dtype) is None for dtype in dtypes):
            raise OptionError(
                f"{option}={value!r} is no value of {getattr(table.names, part)}, which has dtype "
                f"{dtypes[0]}. Pass a value that the array can hold, in stored units."
            )
    return tuple(getattr(table.missing, part, ()))
