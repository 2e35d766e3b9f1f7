"""Checks that arrays lie on one grid: the same dimensions, lengths and coordinates."""

from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.cubes.cube import Cube, CubeColumn
from dsoftmax.data.cubes.variable import Variable
from dsoftmax.errors import DataError, OptionError

STEP_PART = 1e-3
"""Largest difference of two equal coordinates, in steps of the grid. Writers round coordinates."""


def cube_of(
    variables: tuple[Variable, ...], feature_dims: tuple[str, ...], place: str, option: str
) -> Cube:
    """Return the cube of some variables, after checks of its dimensions.

    Parameters
    ----------
    variables : tuple of Variable
    feature_dims : tuple of str
    place : str
        Name of the cube in messages.
    option : str
        Spelling of the option that names the feature dimensions.

    Raises
    ------
    OptionError
        A feature dimension does not exist, or is named twice.
    DataError
        Variables have a name twice, or lie on different grids. Or no dimension is left for rows.
    """
    names = [one.name for one in variables]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(
            f"{place}: the variable {twice[0]} is named twice; expected each feature once. Leave "
            "one out."
        )
    if len(set(feature_dims)) < len(feature_dims):
        raise OptionError(f"{option} names a dimension twice. Pass each once.")
    dims = list(dict.fromkeys(d for one in variables for d in one.dims))
    for d in feature_dims:
        if d not in dims:
            near = get_close_matches(d, dims, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise OptionError(
                f"{option} is {d}, but {place} has no such dimension.{hint} It has "
                f"{', '.join(dims)}."
            )
    if len(variables) == 1 and not feature_dims and len(dims) > 2:
        raise OptionError(
            f"{place} has the dimensions {', '.join(dims)}; expected to know which of them holds "
            f"the features. Pass {option}, for example {option}={dims[0]}."
        )
    if not set(dims) - set(feature_dims):
        raise DataError(
            f"{place} has the dimensions {', '.join(dims)}, and all of them hold features; "
            f"expected one more for the rows. Name fewer in {option}."
        )
    for one in variables:
        if not set(one.dims) - set(feature_dims):
            raise DataError(
                f"{place}: the variable {one.name} has the dimensions ({', '.join(one.dims)}), "
                "none of them of the rows; expected a value per pixel. Leave it out, or select "
                "the variables that are features."
            )
    seen: dict[str, Variable] = {}
    for one in variables:
        for d in one.dims:
            other = seen.setdefault(d, one)
            _require_equal(other, f"{place} {other.name}", one, f"{place} {one.name}", d)
    cube = Cube(variables, feature_dims, place)
    same = [name for name in cube.names if cube.names.count(name) > 1]
    if same:
        raise DataError(
            f"{place}: the feature {same[0]} occurs twice; expected distinct coordinates along "
            f"{', '.join(feature_dims)}. Give each feature its own name."
        )
    return cube


def require_same_grid(X: Cube, features: str, column: CubeColumn, name: str) -> None:
    """Raise unless a column lies on the grid of the rows.

    Raises
    ------
    DataError
        The message names the dimension or the coordinate that differs.
    """
    variable = column.variable
    extra = [d for d in variable.dims if d not in X.sizes]
    if extra:
        raise DataError(
            f"{name} has the dimension {extra[0]}, which the rows of {features} do not have; "
            f"expected some of {', '.join(X.sizes)}. Select one entry of it, or rename it."
        )
    if not variable.dims:
        raise DataError(
            f"{name} is one value without dimensions; expected the dimensions {', '.join(X.sizes)}."
            " Pass one value per pixel."
        )
    for d in variable.dims:
        one = next(one for one in X.variables if d in one.dims)
        _require_equal(one, features, variable, name, d)


def _require_equal(one: Variable, first: str, two: Variable, second: str, d: str) -> None:
    """Raise unless two variables have the same coordinates along a dimension."""
    if one.sizes[d] != two.sizes[d]:
        raise DataError(
            f"{second} has {two.sizes[d]:,} entries along {d}, and {first} has {one.sizes[d]:,}; "
            "expected one grid. Select or resample one of them."
        )
    a, b = one.coords.get(d), two.coords.get(d)
    if a is None or b is None or a is b:
        return
    equal = _equal(a, b)
    if not equal.all():
        place = int(np.argmin(equal))
        raise DataError(
            f"{second} differs from {first} in the coordinate {d}: entry {place:,} is {b[place]} "
            f"and {a[place]}; expected one grid. Resample one of them, for example by "
            "interp_like of xarray."
        )


def _equal(a: NDArray, b: NDArray) -> NDArray[np.bool_]:
    """Return whether each coordinate is the same, up to the rounding of its writer."""
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        step: Any = np.abs(np.diff(a.astype(np.float64))).min(initial=np.inf)
        bound = STEP_PART * step if np.isfinite(step) else 1e-9
        return np.abs(a.astype(np.float64) - b.astype(np.float64)) <= bound
    found: NDArray[np.bool_] = np.asarray(a == b)
    return found if found.shape == a.shape else np.zeros(a.shape, bool)
