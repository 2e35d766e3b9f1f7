"""A cube from the options that name its variables. Opening reads metadata and coordinates."""

from dsoftmax.cli.cube_choice import CubeChoice
from dsoftmax.data.anndata.nodes import place_of
from dsoftmax.data.cubes.cube import Cube
from dsoftmax.data.cubes.grids import cube_of
from dsoftmax.data.cubes.stored import Coordinates, stored_variable
from dsoftmax.data.zarr.names import open_array

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
    return cube_of(variables, choice.dims, place, FEATURE_DIM)
