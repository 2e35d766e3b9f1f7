"""The model of a run directory, or of a path of its own."""

from pathlib import Path

from dsoftmax.errors import ReadError
from dsoftmax.results.model import Model
from dsoftmax.results.stored_model import load_model, sketch_model


def open_model(run: Path, sketch: bool = False) -> Model:
    """Return the model of a run directory, or the model stored at this path.

    Parameters
    ----------
    run : path
    sketch : bool
        Whether only the shape of the coefficients is wanted, to plan the memory that they take.

    Raises
    ------
    ReadError
    """
    if not run.exists():
        raise ReadError(
            f"{run} does not exist; expected a run directory. "
            f"`dsoftmax train … --out {run}` makes one."
        )
    read = sketch_model if sketch else load_model
    if (run / "run.json").is_file():
        return read(run / "model.zarr")
    if (run / "zarr.json").is_file():
        return read(run)
    raise ReadError(
        f"{run} is neither a run directory (it has no run.json) nor a model. "
        "`dsoftmax train … --out DIRECTORY` makes a run directory."
    )
