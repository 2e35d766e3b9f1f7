"""A cube from the options that name its variables. Opening reads metadata and coordinates."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dsoftmax.cli.cube_choice import CubeChoice
from dsoftmax.data.anndata.nodes import place_of
from dsoftmax.data.cubes.cube import Cube
from dsoftmax.data.cubes.flags import class_flags
from dsoftmax.data.cubes.grids import cube_of
from dsoftmax.data.cubes.stored import Coordinates, dimension_names, stored_variable
from dsoftmax.data.kind import kind_of
from dsoftmax.data.rows import RowSource
from dsoftmax.data.source import Source
from dsoftmax.data.zarr.names import open_array
from dsoftmax.errors import OptionError

FEATURE_DIM = "--feature-dim"


def open_cube(data: str, choice: CubeChoice) -> Cube:
    """Open the variables of a Zarr store that hold the features.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    known: Coordinates = {}
    names = choice.names or (None,)
    arrays = [open_array(data, name, "--features") for name in names]
    variables = tuple(stored_variable(array, place_of(array), known) for array in arrays)
    place = variables[0].place if len(variables) == 1 else data
    there = {d for one in variables for d in one.dims}
    dims = choice.dims or tuple(d for d in choice.known if d in there)
    return cube_of(variables, dims, place, FEATURE_DIM)


def require_feature_dim(X: Any, name: str) -> None:
    """Raise if X is an array of three or more named dimensions, whose features are not named.

    Raises
    ------
    OptionError
    """
    dims = dimension_names(X) if kind_of(X) == "zarr" and X.ndim > 2 else None
    if dims is not None:
        raise OptionError(
            f"--features {name} has the dimensions {', '.join(dims)}; expected to know which of "
            f"them holds the features. Pass {FEATURE_DIM}, for example {FEATURE_DIM} {dims[0]}."
        )


def cube_record(features: Any, source: Source) -> dict[str, Any]:
    """Return what the record of a model says of the cube on which it was trained.

    It has the feature dimensions, and the names and colours of the classes.
    """
    if not isinstance(features, CubeChoice) or not isinstance(source, RowSource):
        return {}
    dims = {"feature_dim": list(features.dims)} if features.dims else {}
    return {**dims, **class_flags(source.table.y)}


def with_known_dims(features: Any, about: Mapping[str, Any]) -> Any:
    """Return the features as typed, with the feature dimensions of a model's training."""
    dims = tuple(about.get("feature_dim") or ())
    if not dims or (isinstance(features, CubeChoice) and features.dims):
        return features
    if isinstance(features, CubeChoice):
        return replace(features, known=dims)
    return CubeChoice(() if features is None else (features,), known=dims)
