"""The run directory: what was asked, what happened, where to go on. Whole files only, at any moment.

=================  ===================================================================================
``run.json``       what was asked, the data and their fingerprint, versions; written before the first pass
``history.jsonl``  a line a pass
``statistics.npz`` what the first pass learnt; written once
``checkpoint.npz`` the solver's state after the last pass; replaced after every pass
``scores.json``    of a grid: loss and accuracy by fold and C, once it has ended
``model.zarr``     the model, once the run has ended; of a grid the one with the best C, on all rows
=================  ===================================================================================

In a pass the line of history comes first and the checkpoint second: after a crash between the two, history knows more
than the checkpoint, and what is more is cut off.
"""

import dataclasses
import json
import platform
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OptionError, OutputExistsError, ReadError, RunMismatchError, WriteError
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.runs.checkpoint import from_arrays, read_arrays, to_arrays, write_arrays
from dsoftmax.solvers.table import solver_entry
from dsoftmax.system.files import exists, make_directory, remove, write_text, writing
from dsoftmax.system.locks import lock
from dsoftmax.training.run import Run

FORMAT = 1
PACKAGES = ("dsoftmax", "numpy", "scipy", "zarr", "dask", "distributed")
FILES = (
    "run.json",
    "history.jsonl",
    "statistics.npz",
    "checkpoint.npz",
    "scores.json",
    "model.zarr",
)
LOCK = ".lock"


class RunDirectory:
    """The files of one run.

    Parameters
    ----------
    path : Path
        Need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entered = False
        """Whether ``run.json`` says what this process was asked: a checkpoint that stands here is then on its way."""

    def file(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        return self.path / name

    def is_run(self) -> bool:
        """Return whether a run has begun here."""
        return self.file("run.json").is_file()

    def require_free(self) -> None:
        """Raise if something else stands here; an empty directory, or a run that broke off in its first file, does not.

        Raises
        ------
        OutputExistsError
        """
        if self.is_run() or not exists(self.path):
            return
        foreign = (
            next((entry.name for entry in self.path.iterdir() if not _ours(entry)), None)
            if self.path.is_dir()
            else ""
        )
        if foreign is not None:
            found = f"it holds {foreign}" if foreign else "it is a file"
            raise OutputExistsError(
                f"{self.path} exists and is not a run directory ({found}, and no run.json). Pass another --out; what is there "
                "is not touched."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory, which is made where it does not exist, against another process that would train in it.

        Raises
        ------
        OutputExistsError
            Another process holds it.
        WriteError
        """
        make_directory(self.path)
        with writing(self.file(LOCK), 0):
            held = self.file(LOCK).open("a")
        with held:
            if (
                lock(held.fileno()) is False
            ):  # a file system without locks is no reason not to train
                raise OutputExistsError(
                    f"Another process is training in {self.path} right now. Wait for it, stop it, or pass another --out."
                )
            yield

    def clear(self) -> None:
        """Remove the files of a run but ``run.json``, which the next one replaces, and nothing else.

        The model goes first, which nobody should take for the next run's, then the checkpoint: whatever else is left after
        an interruption is a run that begins anew.

        Raises
        ------
        WriteError
        """
        for name in (
            "model.zarr",
            "scores.json",
            "checkpoint.npz",
            "statistics.npz",
            "history.jsonl",
        ):
            if not remove(self.file(name)):
                raise WriteError(
                    f"{self.file(name)} of the run before cannot be removed. Remove it yourself, or pass another --out."
                )
        self.remove_drafts()

    def remove_drafts(self) -> None:
        """Remove what a killed process left half written."""
        for entry in self.path.iterdir():
            if entry.name != LOCK and _ours(entry) and entry.name not in FILES:
                remove(entry)

    def write_asked(self, asked: Mapping[str, Any]) -> None:
        """Write ``run.json``: what was asked, with the versions of the packages that answer."""
        make_directory(self.path)
        about = {"dsoftmax_run": FORMAT, **asked, "versions": versions()}
        write_text(self.file("run.json"), json.dumps(about, indent=2) + "\n")
        self.entered = True

    def read_asked(self) -> dict[str, Any]:
        """Return ``run.json``.

        Raises
        ------
        ReadError
            It is missing, damaged, or of another format.
        """
        path = self.file("run.json")
        try:
            asked = json.loads(path.read_text(encoding="utf-8"))
            found = asked["dsoftmax_run"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ReadError(
                f"{path} cannot be read ({type(error).__name__}: {error}). Needed is the directory of a run, which "
                "`dsoftmax train … --out DIRECTORY` makes."
            ) from error
        if found != FORMAT:
            raise ReadError(
                f"{path} has format {found}; this version reads {FORMAT}. Use the version that wrote it."
            )
        return dict(asked)

    def require_same(self, asked: Mapping[str, Any]) -> None:
        """Raise unless the run here minimises the same objective over the same data.

        Parameters
        ----------
        asked : mapping
            ``objective``, ``data`` and ``digest`` are compared; the rest may change from one call to the next.

        Raises
        ------
        RunMismatchError
            Listing every difference.
        """
        before = self.read_asked()
        differences = []
        for part in ("objective", "data", "digest"):
            differences += list(
                _differences(part, before.get(part), json.loads(json.dumps(asked.get(part))))
            )
        if differences:
            raise RunMismatchError(
                f"{self.path} holds a run of another objective or other data:\n  "
                + "\n  ".join(differences)
                + "\nPass another --out, or --overwrite to begin anew here. Only tol, max-iter, engine, workers, scheduler and memory "
                "may change."
            )

    def has_checkpoint(self) -> bool:
        """Return whether there is a pass to go on from."""
        return self.file("checkpoint.npz").is_file() and self.file("statistics.npz").is_file()

    def passes(self) -> int:
        """Return the passes that the checkpoint knows; 0 where there is none."""
        return (
            int(read_arrays(self.file("checkpoint.npz"))["n_passes"])
            if self.has_checkpoint()
            else 0
        )

    def kernel(self) -> str | None:
        """Return the kernel of the run here; None where there is no pass to go on from.

        Raises
        ------
        ReadError
        """
        return str(self.read_asked()["objective"]["kernel"]) if self.has_checkpoint() else None

    def save(self, record: Any, run: Run | Sequence[Run]) -> None:
        """Watch a run, or the runs of a grid: write the checkpoint of the pass that was just made."""
        runs = [run] if isinstance(run, Run) else run
        n_passes = max(one.n_passes for one in runs)
        if n_passes == 1:
            write_arrays(self.file("statistics.npz"), to_arrays(runs[0].statistics))
        flat = {
            f"{i}/{name}": array for i, one in enumerate(runs) for name, array in _flat(one).items()
        }
        write_arrays(
            self.file("checkpoint.npz"),
            {"n_passes": np.asarray(n_passes), "n_models": np.asarray(len(runs)), **flat},
        )

    def load(self) -> list[Run]:
        """Return where the models of the run stand.

        Raises
        ------
        ReadError
            A file is missing or damaged.
        """
        arrays = read_arrays(self.file("checkpoint.npz"))
        statistics = read_arrays(self.file("statistics.npz"))
        try:
            known = from_arrays(Statistics, statistics)
            found = []
            for i in range(int(arrays["n_models"])):
                prefix = f"{i}/"
                mine = {
                    name.removeprefix(prefix): array
                    for name, array in arrays.items()
                    if name.startswith(prefix)
                }
                found.append(_run(mine, known))
            return found
        except (KeyError, OptionError) as error:
            raise ReadError(
                f"{self.file('checkpoint.npz')} lacks {error}: another version wrote it. Use that version, or pass --overwrite "
                "to begin anew."
            ) from error


STATE = "state."


def _flat(run: Run) -> dict[str, NDArray]:
    """Return a run as arrays, without its statistics."""
    fields = {
        one.name: getattr(run, one.name)
        for one in dataclasses.fields(run)
        if one.name not in ("statistics", "state")
    }
    state = {f"{STATE}{name}": array for name, array in to_arrays(run.state).items()}
    return {**{name: np.asarray(value) for name, value in fields.items()}, **state}


def _run(arrays: Mapping[str, NDArray], statistics: Statistics) -> Run:
    """Return the run that `_flat` flattened."""
    kind = solver_entry(str(arrays["solver"])).state
    state = {
        name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)
    }
    hints = typing.get_type_hints(Run)
    plain: dict[str, Any] = {
        one.name: hints[one.name](arrays[one.name].item())
        if hints[one.name] in (int, float, str, bool)
        else arrays[one.name]
        for one in dataclasses.fields(Run)
        if one.name not in ("statistics", "state")
    }
    return Run(statistics=statistics, state=from_arrays(kind, state), **plain)


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a run's bits."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that was not installed
            found[name] = "unknown"
    return found


def _differences(name: str, was: Any, now: Any) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}):
            yield from _differences(f"{name}.{key}", was.get(key), now.get(key))
    elif was != now:
        label = (
            "contents of the first or last chunk" if name == "digest" else name.partition(".")[2]
        )
        yield f"{label}: was {json.dumps(was)}, is {json.dumps(now)}"


def _ours(entry: Path) -> bool:
    """A file of a run, its draft (``.NAME.…``), or the lock."""
    return (
        entry.name == LOCK
        or entry.name in FILES
        or any(entry.name.startswith(f".{name}.") for name in FILES)
    )
