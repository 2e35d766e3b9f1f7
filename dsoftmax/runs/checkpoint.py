"""Frozen states as .npz files, replaced atomically and read without pickle."""

import dataclasses
import typing
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import ReadError
from dsoftmax.system.files import replacing

MEMBER_BYTES = 512
"""Estimate of the bytes of an array in an .npz beside its values: headers of array and archive."""


def to_arrays(state: Any) -> dict[str, NDArray]:
    """Flatten a dataclass into arrays, one for each value; a dot joins nested names.

    Fields may be arrays, tuples of arrays, numbers, strings and dataclasses.
    """
    arrays: dict[str, NDArray] = {}
    for one in dataclasses.fields(state):
        value = getattr(state, one.name)
        if dataclasses.is_dataclass(value):
            arrays |= {f"{one.name}.{name}": inner for name, inner in to_arrays(value).items()}
        elif isinstance(value, tuple):
            arrays |= {f"{one.name}.{number}": part for number, part in enumerate(value)}
        else:
            arrays[one.name] = np.asarray(value)
    return arrays


def from_arrays(kind: type, arrays: Mapping[str, NDArray]) -> Any:
    """Rebuild the dataclass that `to_arrays` flattened, with the types and bits of its fields."""
    hints = typing.get_type_hints(kind)
    values = {}
    for one in dataclasses.fields(kind):
        hint = hints[one.name]
        if dataclasses.is_dataclass(hint):
            prefix = f"{one.name}."
            inner = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            values[one.name] = from_arrays(typing.cast(type, hint), inner)
        elif typing.get_origin(hint) is tuple:
            parts: list[NDArray] = []
            while (name := f"{one.name}.{len(parts)}") in arrays:
                parts.append(arrays[name])
            values[one.name] = tuple(parts)
        else:
            array = arrays[one.name]
            values[one.name] = hint(array.item()) if hint in (int, float, str, bool) else array
    return kind(**values)


def write_arrays(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write an .npz that appears whole or not at all. An array is copied in slices of about 16 MiB.

    Raises
    ------
    WriteError
    """
    with replacing(path, sum(array.nbytes + MEMBER_BYTES for array in arrays.values())) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    ReadError
        The file is missing or damaged.
    """
    try:
        # Opened as an archive first: np.load would leave a file open that is none.
        with path.open("rb") as file, zipfile.ZipFile(file):
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ReadError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Restore it from a copy, or "
            "remove it to begin anew."
        ) from error
