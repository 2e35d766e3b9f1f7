"""Arrays and groups behind a URL, by the names that users type."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

import zarr
from zarr.errors import ContainsGroupError, NodeTypeValidationError

from dsoftmax.data.zarr.remote.open import open_store, require_bucket
from dsoftmax.data.zarr.remote.store import RemoteStore
from dsoftmax.errors import AccessError, DataError, OptionError, ReadError

SHOWN = 20
"""Most arrays that a message lists."""
NOT_THERE = (FileNotFoundError, KeyError, ContainsGroupError, NodeTypeValidationError)


def open_node(
    url: str, name: str | None, option: str, encodings: Collection[str]
) -> zarr.Array | zarr.Group:
    """Open an array, or a group that stands for one, read-only.

    Parameters
    ----------
    url : str
        URL of a Zarr store, or of an array if ``name`` is None.
    name : str or None
        Path of the array in the store.
    option : str
        The command-line option, for messages.
    encodings : collection of str
        Values of ``encoding-type`` of groups that stand for one array.

    Raises
    ------
    AccessError
        The storage does not exist, forbids reading, or does not answer.
    ReadError, DataError, OptionError
    """
    store = open_store(url)
    found = _opened(store, name)
    if isinstance(found, zarr.Array):
        return found
    if found is not None and found.attrs.get("encoding-type") in encodings:
        return found
    place = url if name is None else f"{url.rstrip('/')}/{name}"
    require_bucket(store)
    if found is None and (name is None or (group := _opened(store, None)) is None):
        raise ReadError(
            f"{place} is no Zarr array or group; expected one of Zarr v2 or v3. Check the address, "
            "and the name of the array."
        )
    listed = _names(found if found is not None else group)
    if found is None:
        near = get_close_matches(str(name), listed, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DataError(f"{option} {name}: {url} has no such array.{hint} It has {_shown(listed)}.")
    if name is None:
        raise OptionError(f"{option} is missing: which array of {url}? It has {_shown(listed)}.")
    inner = [f"{name}/{one}" for one in listed]
    raise DataError(f"{option} {name} is a group; expected one array. Pass one of {_shown(inner)}.")


def encoding_at(url: str) -> str:
    """Return the attribute ``encoding-type`` of the group at a URL; empty if it has none.

    Raises
    ------
    AccessError, OptionError
    """
    group = _opened(open_store(url), None)
    return str(group.attrs.get("encoding-type", "")) if isinstance(group, zarr.Group) else ""


def _opened(store: RemoteStore, name: str | None) -> zarr.Array | zarr.Group | None:
    """Return an array or a group of a store; None if it is neither."""
    options: Any = {"path": name, "mode": "r"}
    try:
        return zarr.open_array(store, **options)
    except AccessError:
        raise
    except NOT_THERE:
        pass
    except Exception as error:
        raise ReadError(
            f"{store.url}/{name or ''} is a Zarr array with unusable metadata "
            f"({type(error).__name__}: {error}). Check its codecs and dtype, or write it again."
        ) from None
    try:
        return zarr.open_group(store, use_consolidated=False, **options)
    except NOT_THERE:
        return None


def _names(group: Any) -> list[str]:
    """Return the names of the arrays of a group; none if the server lists nothing."""
    try:
        return sorted(name for name, _ in group.arrays())
    except Exception:  # lists are a courtesy: servers of plain HTTP have none
        return []


def _shown(names: list[str]) -> str:
    if not names:
        return "no arrays that could be listed"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
