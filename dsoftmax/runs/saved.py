"""The runs of all models on disk: ``statistics.npz`` once, ``checkpoint.npz`` after every pass."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import ReadError
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.runs.checkpoint import from_arrays, read_arrays, to_arrays, write_arrays
from dsoftmax.solvers.table import solver_entry
from dsoftmax.training.run import Run

STATE = "state."
"""Prefix of the fields of the solver's state, after the prefix ``i/`` of model i."""


def save_runs(checkpoint: Path, statistics: Path, runs: Sequence[Run]) -> None:
    """Write the runs of all models; the statistics after the first pass alone.

    Raises
    ------
    WriteError
    """
    n_passes = max(one.n_passes for one in runs)
    if n_passes == runs[0].statistics.n_passes:
        write_arrays(statistics, to_arrays(runs[0].statistics))
    flat = {
        f"{i}/{name}": array for i, one in enumerate(runs) for name, array in _flat(one).items()
    }
    counts = {"n_passes": np.asarray(n_passes), "n_models": np.asarray(len(runs))}
    write_arrays(checkpoint, {**counts, **flat})


def load_runs(checkpoint: Path, statistics: Path) -> list[Run]:
    """Return the runs of all models.

    Raises
    ------
    ReadError
        A file is missing, damaged, or of another version.
    """
    arrays, known = read_arrays(checkpoint), read_arrays(statistics)
    try:
        all_rows = from_arrays(Statistics, known)
        runs = [_run(_below(f"{i}/", arrays), all_rows) for i in range(int(arrays["n_models"]))]
        shapes = {run.state.theta.shape for run in runs}
        if shapes != {all_rows.class_sums.shape}:
            raise ValueError(f"θ has the shapes {shapes}, not {all_rows.class_sums.shape}")
        return runs
    except Exception as error:  # other fields, or other types of them
        raise ReadError(
            f"{checkpoint} is damaged, or another version wrote it ({type(error).__name__}: "
            f"{error}). Use the version that wrote it, or pass --overwrite to begin anew."
        ) from error


def count_passes(checkpoint: Path) -> int:
    """Return the passes that a checkpoint knows.

    Raises
    ------
    ReadError
    """
    try:
        return int(read_arrays(checkpoint)["n_passes"])
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError(
            f"{checkpoint} does not say how many passes it knows. Pass --overwrite to begin anew."
        ) from error


def _below(prefix: str, arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _plain_fields() -> list[str]:
    return [one.name for one in dataclasses.fields(Run) if one.name not in ("statistics", "state")]


def _flat(run: Run) -> dict[str, NDArray]:
    """Return a run as arrays, without its statistics."""
    state = {f"{STATE}{name}": array for name, array in to_arrays(run.state).items()}
    return {**{name: np.asarray(getattr(run, name)) for name in _plain_fields()}, **state}


def _run(arrays: Mapping[str, NDArray], statistics: Statistics) -> Run:
    """Return the run that `_flat` flattened."""
    kind, hints = solver_entry(str(arrays["solver"])).state, typing.get_type_hints(Run)
    plain: dict[str, Any] = {}
    for name in _plain_fields():
        scalar = hints[name] in (int, float, str, bool)
        plain[name] = hints[name](arrays[name].item()) if scalar else arrays[name]
    state = from_arrays(kind, _below(STATE, arrays))
    return Run(statistics=statistics, state=state, **plain)
