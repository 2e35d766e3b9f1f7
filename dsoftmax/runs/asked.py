"""``run.json``: what a run was asked, the data and their fingerprint, versions of the packages."""

import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dsoftmax.errors import ReadError, RunMismatchError
from dsoftmax.system.files import write_text
from dsoftmax.system.regular import read_json

FORMAT = 1
"""Format of the run directory that this version reads and writes."""
PACKAGES = ("dsoftmax", "numpy", "scipy", "zarr", "dask", "distributed")
"""Packages whose versions are written."""
COMPARED = ("objective", "data", "digest")
"""Parts of ``run.json`` that must not change when a run is resumed."""


def write_asked(path: Path, asked: Mapping[str, Any]) -> None:
    """Write ``run.json``, with the versions of the packages.

    Raises
    ------
    WriteError
    """
    about = {"dsoftmax_run": FORMAT, **asked, "versions": versions()}
    write_text(path, json.dumps(about, indent=2) + "\n")


def read_asked(path: Path) -> dict[str, Any]:
    """Return the contents of ``run.json``.

    Raises
    ------
    ReadError
        The file is missing, damaged, or of another format.
    """
    try:
        asked = read_json(path)
        found = asked["dsoftmax_run"]
        if not isinstance(asked["objective"], dict):
            raise TypeError("its objective is no object")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ReadError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Pass the directory of a "
            "run, which `dsoftmax train … --out DIRECTORY` makes."
        ) from error
    if found != FORMAT:
        raise ReadError(
            f"{path} has format {found}; expected {FORMAT}. Use the version that wrote it."
        )
    return dict(asked)


def require_same(path: Path, asked: Mapping[str, Any]) -> None:
    """Raise unless a run minimises the same objective over the same data as ``run.json`` says.

    Parameters
    ----------
    path : Path
        Path of ``run.json``.
    asked : mapping
        The parts in `COMPARED` are compared; the others may change from one call to the next.

    Raises
    ------
    RunMismatchError
        The message lists every difference.
    """
    before = read_asked(path)
    differences: list[str] = []
    for part in COMPARED:
        now = json.loads(json.dumps(asked.get(part)))
        differences += _differences(part, before.get(part), now)
    if differences:
        raise RunMismatchError(
            f"{path.parent} holds a run of another objective or other data:\n  "
            + "\n  ".join(differences)
            + "\nPass another --out, or --overwrite to begin anew here. Only tol, max-iter, "
            "engine, workers, scheduler and memory may change."
        )


def _differences(name: str, was: Any, now: Any) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}):
            yield from _differences(f"{name}.{key}", was.get(key), now.get(key))
    elif was != now:
        contents = "contents of the first or last chunk"
        label = contents if name == "digest" else name.partition(".")[2]
        yield f"{label}: was {json.dumps(was)}, is {json.dumps(now)}"


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a run's bits."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that is not installed
            found[name] = "unknown"
    return found
