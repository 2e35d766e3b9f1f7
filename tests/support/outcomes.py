"""What a run leaves behind, bit for bit, but for what depends on the machine and the moment."""

import json
from pathlib import Path

from dsoftmax.results.stored_model import load_model
from dsoftmax.runs.checkpoint import read_arrays
from dsoftmax.runs.directory import RunDirectory

MEASURED = ("seconds", "kept", "work")
"""What history says of a pass that depends on the machine and the moment."""


def outcome(path):
    """All that a run decides, bit for bit."""
    directory = RunDirectory(Path(path))
    model = load_model(directory.file("model.zarr"))
    lines = directory.file("history.jsonl").read_text().splitlines()
    history = [
        {name: value for name, value in json.loads(line).items() if name not in MEASURED}
        for line in lines
    ]
    arrays = {
        name: {
            key: (value.dtype.str, value.shape, value.tobytes())
            for key, value in read_arrays(directory.file(name)).items()
        }
        for name in ("checkpoint.npz", "statistics.npz")
    }
    return model.theta.tobytes(), model.classes.tolist(), model.about, history, arrays
