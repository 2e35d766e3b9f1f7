"""The groups around a Zarr group or array."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from dsoftmax.data.zarr.remote.open import open_store
from dsoftmax.data.zarr.remote.store import RemoteStore


def groups_above(node: Any) -> Iterator[tuple[zarr.Group, str]]:
    """Yield the groups around a node, the nearest first, and the path of the node in each.

    A local node may have been opened by its own path, so its groups are found by their folders.
    Consolidated metadata are not read, because older versions of Zarr cannot read all of them.

    Parameters
    ----------
    node : zarr.Group or zarr.Array
    """
    store, version = node.store_path.store, node.metadata.zarr_format
    if isinstance(store, LocalStore):
        place = (Path(store.root) / node.store_path.path).absolute()
        for folder in place.parents:
            group = _group(folder, None, version)
            if group is None:
                return
            yield group, place.relative_to(folder).as_posix()
        return
    if isinstance(store, RemoteStore):
        yield from _remote_groups(f"{store.url}/{node.store_path.path}", version)
        return
    names = [name for name in node.store_path.path.split("/") if name]
    for n in range(len(names) - 1, -1, -1):
        group = _group(store, "/".join(names[:n]), version)
        if group is None:
            return
        yield group, "/".join(names[n:])


def _remote_groups(url: str, version: int) -> Iterator[tuple[zarr.Group, str]]:
    scheme, _, place = url.partition("://")
    names = [name for name in place.split("/") if name]
    for n in range(len(names) - 1, 0, -1):
        group = _group(open_store(f"{scheme}://{'/'.join(names[:n])}"), None, version)
        if group is None:
            return
        yield group, "/".join(names[n:])


def _group(store: Any, path: str | None, version: int) -> zarr.Group | None:
    options: Any = {"zarr_format": version, "use_consolidated": False}
    try:
        return zarr.open_group(store, path=path, mode="r", **options)
    except (FileNotFoundError, ValueError):  # no group, or no group that Zarr can read
        return None
