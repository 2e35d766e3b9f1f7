"""Groups and arrays of a store, as AnnData's encodings need them."""

from collections.abc import Iterator, Mapping
from typing import Any

from dsoftmax.data.kind import kind_of
from dsoftmax.data.rows import Rows
from dsoftmax.errors import DataError

Node = Any
"""A group or an array of a store: ``zarr.Group``, ``zarr.Array``, or those of h5py."""


def encoding(node: Node) -> str:
    """Return the ``encoding-type`` of a node; empty if AnnData did not write it."""
    return str(attributes(node).get("encoding-type", ""))


def attributes(node: Node) -> Mapping[str, Any]:
    """Return the attributes of a node. A view of a dataset has none."""
    return dict(getattr(node, "attrs", {}))


def is_group(node: Node) -> bool:
    """Return whether a node is a group."""
    return hasattr(node, "keys")


def child(group: Node, name: str, place: str) -> Node:
    """Return a member of a group.

    Raises
    ------
    DataError
        The group has no such member, so it is not what its encoding says.
    """
    try:
        return group[name]
    except KeyError:
        raise DataError(
            f"{place} is encoded as {encoding(group)}, and has no {name}; expected it in every "
            "group of this encoding. The store is damaged. Write it again from its origin."
        ) from None


def reader(array: Node, name: str, missing_chunks: str) -> Rows:
    """Return a reader of the rows of an array."""
    if kind_of(array) == "h5py":
        from dsoftmax.data.hdf5.rows import hdf5_rows, with_text

        return hdf5_rows(with_text(array), name, missing_chunks)
    from dsoftmax.data.zarr.rows import ZarrRows

    return ZarrRows(array, name, missing_chunks)


def place_of(node: Node) -> str:
    """Return the path or URL of a node."""
    if kind_of(node) == "h5py":
        return f"{node.file.filename}{node.name}".rstrip("/")
    return str(node.store_path).removeprefix("file://")


def inside(node: Node) -> tuple[str, str]:
    """Return the place of the AnnData around a node, and the path of the node in it.

    Without an AnnData around it, both are the place of the node.
    """
    for group, path in above(node):
        if encoding(group) == "anndata":
            return place_of(group), path
    return place_of(node), place_of(node)


def above(node: Node) -> Iterator[tuple[Node, str]]:
    """Yield the groups around a node, the nearest first, and the path of the node in each."""
    if kind_of(node) == "zarr":
        from dsoftmax.data.zarr.above import groups_above

        yield from groups_above(node)
        return
    names = node.name.strip("/").split("/") if node.name.strip("/") else []
    for n in range(len(names) - 1, -1, -1):
        yield node.file["/".join(names[:n]) or "/"], "/".join(names[n:])
