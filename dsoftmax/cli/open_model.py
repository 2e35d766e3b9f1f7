"""The model of a run directory, or of a path of its own."""

from pathlib import Path

from dsoftmax.errors import ReadError
from dsoftmax.results.model import Model
from dsoftmax.results.stored_model import load_model


def open_model(run: Path) -> Model:
    """Return the model of a run directory, or the model stored at this path.

    Raises
    ------
    ReadError
    """
    if not run.exists():
        raise ReadError(
            f"{run} does not exist; expected a run directory. "
            f"`dsoftmax train … --out {run}` makes one."
        )
    if (run / "run.json").is_file():
        return load_model(run / "model.zarr")
    if (run / "zarr.json").is_file():
        return load_model(run)
    raise ReadError(
        f"{run} is neither a run directory (it has no run.json) nor a model. "
        "`dsoftmax train … --out DIRECTORY` makes a run directory."
    )
