"""Zarr arrays by the names that users type: in a store, in its groups, or in another store."""

import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import zarr

from dsoftmax.data.zarr.remote.node import encoding_at, open_node
from dsoftmax.errors import DataError, OptionError, ReadError
from dsoftmax.system.regular import read_json

METADATA = ("zarr.json", ".zarray", ".zgroup")
"""Names of Zarr's metadata files."""
WALKED, DEPTH, ENTRIES = 10_000, 32, 100_000
"""Most directories in which arrays are looked for, most levels of them, and most entries of one."""
SHOWN = 20
"""Most arrays that a message lists."""
Encodings = Collection[str]
SPARSE = ("data", "indices", "indptr")
"""Names of the arrays of a group that holds a sparse matrix."""


def open_array(
    store: str, name: str | None, option: str = "--features", encodings: Encodings = ()
) -> zarr.Array | zarr.Group:
    """Open an array read-only. Only the metadata of this array is read, never a consolidated copy.

    Parameters
    ----------
    store : str
        Path or URL of a Zarr store, v2 or v3.
    name : str or None
        An array in the store (``X``, ``group/X``), or the path of another store that is an array.
        None if the store itself is an array.
    option : str
        The command-line option, for messages.
    encodings : collection of str
        Values of the attribute ``encoding-type`` of groups that stand for one array. Such a group
        is returned as it is.

    Raises
    ------
    ReadError
        The store does not exist or is not Zarr.
    DataError
        The array does not exist. The message lists the arrays of the store and the nearest name.
    """
    if "://" in store:
        return _open_remote(store, name, option, encodings)
    root = Path(store).expanduser().resolve()
    if not root.exists():
        near = get_close_matches(root.name, _siblings(root), n=1, cutoff=0.5)
        hint = f" Did you mean {Path(store).parent / near[0]}?" if near else ""
        raise ReadError(f"{store} does not exist.{hint} Pass the path of a Zarr store.")
    if root.is_file():
        raise ReadError(f"{store} is a file; expected the directory of a Zarr store.")
    if name is None:
        if _is_array(root):
            return _open(root)
        if encoding_of(root) in encodings:
            return _open_group(root)
        if _is_sparse(names := array_names(root, encodings)):
            raise DataError(f"{store}: {_sparse_on_disk(root)}")
        raise OptionError(f"{option} is missing: which array of {store}? It has {_listed(names)}.")
    inside = root / name.strip("/")
    for place in (inside, Path(name).expanduser().resolve()):
        if _is_array(place):
            return _open(place)
        if encoding_of(place) in encodings:
            return _open_group(place)
    raise DataError(_not_found(store, root, name, option, encodings))


def _not_found(store: str, root: Path, name: str, option: str, encodings: Encodings) -> str:
    names = array_names(root, encodings)
    if not names and not any((root / one).exists() for one in METADATA):
        return (
            f"{store} is not a Zarr store: it has no {' or '.join(METADATA)}, and no array "
            "below it; pass a store of Zarr v2 or v3."
        )
    other = Path(name).expanduser()
    for place in (root / name.strip("/"), other):
        if place.is_dir() and (below := array_names(place, encodings)):
            if _is_sparse(below):
                return f"{option} {name}: {_sparse_on_disk(place)}"
            inner = [f"{name.rstrip('/')}/{one}" for one in below]
            return f"{option} {name} is a group; expected one array. Pass one of {_listed(inner)}."
    if other.exists():
        return (
            f"{option} {name} is a path, but not of a Zarr array; pass an array of {store}, or the "
            "path of a store that is an array."
        )
    last = name.strip("/").rpartition("/")[2]
    near = (
        get_close_matches(name, names, n=1, cutoff=0.5)
        or [one for one in names if one.rpartition("/")[2] == last][:1]
    )
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{option} {name}: {store} has no such array.{hint} It has {_listed(names)}."


def require_no_group(values: Any, name: str) -> None:
    """Raise if the values are a Zarr group.

    Raises
    ------
    DataError
        The message lists the arrays of the group.
    """
    if not isinstance(values, zarr.Group):
        return
    arrays, groups = sorted(values.array_keys()), sorted(values.group_keys())
    if _is_sparse(arrays):
        raise DataError(
            f"{name} is a Zarr group that holds a sparse matrix ({', '.join(SPARSE)}); expected "
            "one array, or a matrix of SciPy. With g for the group, pass "
            f"{_sparse_line(values.attrs)}, which reads it whole. If the group is one of AnnData, "
            "anndata.experimental.read_elem_lazy(g) makes a dask array of it."
        )
    cure = (
        f"Pass one of them: group[{name if name in arrays else arrays[0]!r}]"
        if arrays
        else "Pass an array"
    )
    if not arrays and groups:
        cure = f"Pass an array of one of them: group[{groups[0]!r}][…]"
    listed = _listed(arrays + [f"{one}/" for one in groups])
    raise DataError(f"{name} is a Zarr group; expected one array. It has {listed}. {cure}.")


def _is_sparse(names: Iterable[str]) -> bool:
    return set(SPARSE) <= set(names)


def _sparse_line(attributes: Mapping[str, Any]) -> str:
    """Return the expression that makes a SciPy matrix of a group ``g`` with these attributes."""
    kind = "csc" if attributes.get("encoding-type") == "csc_matrix" else "csr"
    shape = "g.attrs['shape']" if "shape" in attributes else "(rows, features)"
    return (
        f"scipy.sparse.{kind}_array((g['data'][:], g['indices'][:], g['indptr'][:]), shape={shape})"
    )


def _sparse_on_disk(place: Path) -> str:
    attributes: Mapping[str, Any] = {}
    with suppress(OSError, ValueError):  # a folder may hold arrays and be no group
        attributes = zarr.open_group(place, mode="r", use_consolidated=False).attrs
    return (
        f"this group holds a sparse matrix ({', '.join(SPARSE)}); expected one array of rows and "
        "features. In Python, pass it to SoftmaxRegression().fit, with g = "
        f"zarr.open_group({str(place)!r}, mode='r'), as {_sparse_line(attributes)}."
    )


def array_names(root: Path, encodings: Encodings = ()) -> list[str]:
    """Return the names of the arrays below a directory, and of groups that stand for one array.

    Only metadata files are read; chunks are not listed.
    """
    return sorted(_walk(root, "", encodings, itertools.count()))


def _walk(
    directory: Path, prefix: str, encodings: Encodings, visited: Iterator[int]
) -> Iterator[str]:
    """Yield names below a directory. Links are not followed, and ``visited`` counts directories."""
    if next(visited) >= WALKED or prefix.count("/") > DEPTH:
        return
    try:
        with os.scandir(directory) as scan:
            entries = sorted(
                entry.name
                for entry in itertools.islice(scan, ENTRIES)
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
    except OSError:
        return
    for entry in entries:
        place = directory / entry
        if _is_array(place) or (encodings and encoding_of(place) in encodings):
            yield f"{prefix}{entry}"
        else:
            yield from _walk(place, f"{prefix}{entry}/", encodings, visited)


def _is_array(path: Path) -> bool:
    if (path / ".zarray").is_file():
        return True
    return _metadata(path / "zarr.json").get("node_type") == "array"


def encoding_of(place: str | Path) -> str:
    """Return the attribute ``encoding-type`` of a group or array; empty if it has none.

    Parameters
    ----------
    place : str or Path
        A path, or the URL of a group.
    """
    if "://" in str(place):
        return encoding_at(str(place))
    path = Path(place)
    found = _metadata(path / "zarr.json").get("attributes") or _metadata(path / ".zattrs")
    return str(found.get("encoding-type", "")) if isinstance(found, dict) else ""


def _metadata(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _require_regular_metadata(path: Path) -> None:
    """Raise where Zarr would wait for a writer, because metadata is a pipe."""
    for file in (path / name for name in (*METADATA, ".zattrs", ".zmetadata")):
        if file.exists() and not file.is_file():
            raise ReadError(
                f"{file} is no regular file; expected metadata of Zarr. Write it again."
            )


def _open_group(path: Path) -> zarr.Group:
    _require_regular_metadata(path)
    version = 3 if (path / "zarr.json").is_file() else 2
    try:
        return zarr.open_group(path, mode="r", zarr_format=version, use_consolidated=False)
    except Exception as error:
        raise ReadError(
            f"{path} is a Zarr group with unusable metadata ({type(error).__name__}: {error}). "
            "Write it again."
        ) from error


def _open(path: Path) -> zarr.Array:
    _require_regular_metadata(path)
    version = 3 if (path / "zarr.json").is_file() else 2
    try:
        return zarr.open_array(path, mode="r", zarr_format=version)
    except Exception as error:
        raise ReadError(
            f"{path} is a Zarr array with unusable metadata ({type(error).__name__}: {error}). "
            "Check its codecs and dtype, or write it again."
        ) from error


def _open_remote(
    store: str, name: str | None, option: str, encodings: Encodings
) -> zarr.Array | zarr.Group:
    if name is not None and "://" in name:
        store, name = name, None
    return open_node(store, None if name is None else name.strip("/"), option, encodings)


def _siblings(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []


def _listed(names: list[str]) -> str:
    if not names:
        return "no arrays"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
