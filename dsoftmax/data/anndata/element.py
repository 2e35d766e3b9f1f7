"""Elements of AnnData: what one group or array of a store means."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.anndata.columns import CategoricalRows, NullableRows
from dsoftmax.data.anndata.nodes import (
    Node,
    above,
    attributes,
    child,
    encoding,
    inside,
    is_group,
    place_of,
    reader,
)
from dsoftmax.data.anndata.sparse import SparseRows, value_dtype
from dsoftmax.data.kind import kind_of
from dsoftmax.data.missing import is_masked
from dsoftmax.data.rows import Rows, Stored
from dsoftmax.errors import DataError

ARRAYS = ("array", "string-array")
SPARSE, CATEGORICAL = "csr_matrix", "categorical"
NULLABLE = ("nullable-integer", "nullable-boolean", "nullable-string-array")
GROUPS = (SPARSE, CATEGORICAL, *NULLABLE)
"""Encodings whose groups are read as one array."""
KNOWN = (*GROUPS, "csc_matrix")
"""Encodings whose groups stand for one array, read or refused."""
PARTS = {
    "codes": (CATEGORICAL,),
    "categories": (CATEGORICAL,),
    "values": NULLABLE,
    "mask": NULLABLE,
    "data": (SPARSE, "csc_matrix"),
    "indices": (SPARSE, "csc_matrix"),
    "indptr": (SPARSE, "csc_matrix"),
}
"""Names of the arrays in such a group, each with the encodings that have it."""


@dataclass(frozen=True)
class Element(Stored):
    """An array of AnnData, which is one stored array or a group of several.

    Stored chunks that are absent hold the fill value, because AnnData's writers leave out chunks
    of nothing else: sorted codes of the first category, masks without a missing value. The values
    and columns of a CSR matrix are the exception. Writers store no zeros there, so an absent chunk
    is a loss unless ``missing_chunks`` says otherwise.

    Attributes
    ----------
    node : zarr.Group, zarr.Array, or those of h5py
    """

    node: Node

    @property
    def encoding(self) -> str:
        """Name of the encoding."""
        return encoding(self.node)

    @property
    def sparse(self) -> bool:
        return self.encoding == SPARSE

    @property
    def place(self) -> str:
        return place_of(self.node)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        if self.sparse:
            n, p = attributes(self.node)["shape"]
            return int(n), int(p)
        return tuple(self._main.shape)

    @cached_property
    def dtype(self) -> np.dtype:
        if self.sparse:
            return value_dtype(np.dtype(self._main.dtype))
        if self.encoding == CATEGORICAL:
            return self._categories.dtype
        return np.dtype(self._main.dtype)

    @cached_property
    def _main(self) -> Node:
        """The array with one entry per row, or per value of a matrix."""
        if not is_group(self.node):
            return self.node
        part = {SPARSE: "data", CATEGORICAL: "codes"}.get(self.encoding, "values")
        return child(self.node, part, self.place)

    @cached_property
    def _categories(self) -> NDArray:
        return values_of(child(self.node, "categories", self.place))

    def rows(self, name: str, missing_chunks: str) -> Rows:
        strict = self.sparse or not self.encoding
        main = reader(self._main, name, missing_chunks if strict else "fill")
        if self.sparse:
            indices, indptr = (child(self.node, part, self.place) for part in ("indices", "indptr"))
            pointers = reader(indptr, f"{name}/indptr", "fill")
            return SparseRows.of(
                main,
                reader(indices, name, missing_chunks),
                np.asarray(pointers.read(0, pointers.shape[0])),
                (self.shape[0], self.shape[1]),
                name,
            )
        if self.encoding == CATEGORICAL:
            return CategoricalRows(main, self._categories, name)
        if self.encoding in NULLABLE:
            mask = child(self.node, "mask", self.place)
            masked = reader(mask, f"{name}/mask", "fill")
            return NullableRows(main, masked)
        return main


def element_of(node: Node, name: str) -> Element | None:
    """Return a node as an element of AnnData; None if AnnData did not write it.

    Parameters
    ----------
    node : zarr.Group or zarr.Array
    name : str
        Name of the array in messages.

    Raises
    ------
    DataError
        The node is a part of an element, such as the codes of a categorical column. Or it is an
        element that is not read as one array, such as a CSC matrix or a whole table.
    """
    found = encoding(node)
    if not is_group(node):
        _require_whole(node, name)
        return Element(node) if found in ARRAYS else None
    if found in GROUPS:
        return Element(node)
    if found == "csc_matrix":
        _refuse_columns(node, name)
    return None


def _refuse_columns(node: Node, name: str) -> None:
    """Raise if a CSC matrix lies in an AnnData, which can store it again by rows."""
    root, path = inside(node)
    if root != path:
        key = path.rpartition("/")[2]
        read = "read_h5ad" if kind_of(node) == "h5py" else "read_zarr"
        matrix = f"adata.layers[{key!r}]" if path.startswith("layers/") else "adata.X"
        raise DataError(
            f"{name} is a CSC matrix of AnnData ({path}), stored by columns; expected rows: a CSR "
            f"matrix or a dense array. Store it again by rows: adata = anndata.{read}({root!r}),"
            f" {matrix} = {matrix}.tocsr(), adata.write_zarr(NEW)."
        )


def _require_whole(array: Node, name: str) -> None:
    """Raise if an array is a part of a group that is an element."""
    part = place_of(array).rstrip("/").rpartition("/")[2]
    if part not in PARTS:
        return
    group, _ = next(above(array), (None, ""))
    if group is None or encoding(group) not in PARTS[part]:
        return
    column = inside(group)[1]
    why = {
        "codes": "its codes, where −1 means missing",
        "categories": "its categories, one for each class and not for each row",
        "values": "its values, which mean nothing where the mask is true",
    }.get(part, f"its {part}")
    whole = "matrix" if "matrix" in encoding(group) else "column"
    raise DataError(
        f"{name} is a part of {column}, which AnnData encodes as {encoding(group)}: {why}; "
        f"expected the {whole} itself. Pass {column}."
    )


def values_of(node: Node) -> NDArray:
    """Return all values of a short array: categories, or names. Strings have a fixed width.

    Raises
    ------
    DataError
        A value is missing.
    """
    place = place_of(node)
    element = element_of(node, place) if is_group(node) else Element(node)
    if element is None:
        raise DataError(
            f"{place} is a group in an unknown encoding; expected an array. Write the store again "
            "with a released version of anndata."
        )
    rows = element.rows(place, "fill")
    values = rows.read(0, element.shape[0])
    if is_masked(values):
        raise DataError(
            f"{place} has rows without a value; expected a category or a name in every row. Write "
            "the store again from its origin."
        )
    values = np.asarray(values)
    return values if values.dtype.kind in "biufUS" else np.array(values.tolist(), dtype=str)
