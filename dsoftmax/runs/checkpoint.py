"""Frozen states as .npz files, replaced atomically and read without pickle."""

import dataclasses
import math
import typing
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import ReadError
from dsoftmax.system.files import replacing
from dsoftmax.system.regular import open_regular

NAMES = "names"
"""Name of the array that lists the names of all others, so that a lost one is noticed."""
SLICE_BYTES = 2**24
"""Bytes of an array that are read at once."""
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

    The archive has a checksum of every array, and the names of all arrays.

    Raises
    ------
    WriteError
    """
    listed = {**arrays, NAMES: np.array(sorted(arrays), str)}
    with replacing(path, sum(array.nbytes + MEMBER_BYTES for array in listed.values())) as file:
        np.savez(file, allow_pickle=False, **listed)


def read_arrays(path: Path) -> dict[str, NDArray]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    ReadError
        The file is missing or damaged, or it is no file that `write_arrays` wrote.

    Notes
    -----
    No array takes more memory than its bytes in the file: nothing is decompressed, and the shape
    in a header is compared with the bytes that follow.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            n_most = path.stat().st_size
            arrays = {
                one.filename.removesuffix(".npy"): _read_member(archive, one, n_most)
                for one in archive.infolist()
            }
        listed = arrays.pop(NAMES).tolist()
        if listed != sorted(arrays):
            raise ValueError(f"arrays are lost: {sorted(set(listed) ^ set(arrays))[:3]}")
        return arrays
    except Exception as error:  # a damaged archive raises almost anything
        raise ReadError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Restore it from a copy, or "
            "remove it to begin anew."
        ) from error


def _read_member(archive: zipfile.ZipFile, one: zipfile.ZipInfo, n_most: int) -> NDArray:
    """Return an array of an archive, after checks of its size and of its checksum.

    An array of more than ``n_most`` bytes is an error.
    """
    if one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size:
        raise ValueError(f"{one.filename} is compressed")
    if one.file_size > n_most:
        raise ValueError(f"{one.filename} claims {one.file_size:,} bytes")
    with archive.open(one) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{one.filename} has the format {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        n_bytes = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or n_bytes != one.file_size - file.tell():
            raise ValueError(f"{one.filename} has the shape {shape} of {dtype}, but other bytes")
        values = np.empty(math.prod(shape), dtype)
        raw = values.view(np.uint8)
        for start in range(0, n_bytes, SLICE_BYTES):
            raw[start : start + SLICE_BYTES] = np.frombuffer(file.read(SLICE_BYTES), np.uint8)
    return values.reshape(shape, order="F" if fortran else "C")
