"""HDF5 data sets by the names that users type."""

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import h5py

from dsoftmax.errors import DataError, OptionError, ReadError

SHOWN = 20
"""Most names that a message lists."""


def open_hdf5(file: str, name: str | None, option: str, encodings: Collection[str]) -> Any:
    """Open a data set, or a group that stands for one array, read-only.

    Parameters
    ----------
    file : str
        Path of the HDF5 file, such as an ``.h5ad``.
    name : str or None
        Path inside the file.
    option : str
        The command-line option, for messages.
    encodings : collection of str
        Values of the attribute ``encoding-type`` of such groups.

    Raises
    ------
    ReadError
        The file is not HDF5.
    OptionError, DataError
        The name is missing or unknown. The message lists the names of the file.
    """
    try:
        root = h5py.File(Path(file).expanduser(), "r")
    except OSError as error:
        raise ReadError(
            f"{file} cannot be opened as HDF5 ({error}); expected an HDF5 file such as .h5ad, or "
            "the directory of a Zarr store. Check the path and the file."
        ) from error

    def is_array(node: Any) -> bool:
        return isinstance(node, h5py.Dataset) or node.attrs.get("encoding-type") in encodings

    if name is not None and (inside := name.strip("/")) in root:
        if is_array(root[inside]):
            return root[inside]
        below = _listed(_names(root[inside], f"{inside}/", is_array))
        raise DataError(f"{option} {name} is a group; expected one array. Pass one of {below}.")
    names = _names(root, "", is_array)
    listed = _listed(names)
    if name is None:
        raise OptionError(f"{option} is missing: which array of {file}? It has {listed}.")
    last = name.strip("/").rpartition("/")[2]
    same = [one for one in names if one.rpartition("/")[2] == last][:1]
    near = get_close_matches(name, names, n=1, cutoff=0.5) or same
    hint = f" Did you mean {near[0]}?" if near else ""
    raise DataError(f"{option} {name}: {file} has no such array.{hint} It has {listed}.")


def encoding_of_file(file: str) -> str:
    """Return the attribute ``encoding-type`` of a file's root; empty if it has none."""
    try:
        with h5py.File(Path(file).expanduser(), "r") as root:
            return str(root.attrs.get("encoding-type", ""))
    except OSError:
        return ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _names(group: Any, prefix: str, is_array: Any) -> list[str]:
    found = []
    for key, node in sorted(group.items()):
        found += [f"{prefix}{key}"] if is_array(node) else _names(node, f"{prefix}{key}/", is_array)
    return found
