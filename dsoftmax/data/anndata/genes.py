"""The names of the columns of a matrix of AnnData."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.anndata.element import Element, values_of
from dsoftmax.data.anndata.nodes import above, attributes, child, encoding, place_of
from dsoftmax.data.rows import Stored

TABLES = ("anndata", "raw")
"""Encodings of a group with X, layers and the table of genes, ``var``."""


def gene_names(X: Stored) -> NDArray[np.object_] | None:
    """Return the names of the genes of ``X`` or of a layer, (p,); None if they have none.

    They are the index of ``var`` in the group around the matrix. Other matrices, such as those in
    ``obsm``, have columns without names.
    """
    while not isinstance(X, Element):
        X = X.whole  # type: ignore[attr-defined]
    for group, path in above(X.node):
        if encoding(group) not in TABLES:
            continue
        if path != "X" and not path.startswith("layers/"):
            return None
        names = _index(group)
        return names if names is not None and len(names) == X.shape[1] else None
    return None


def _index(group: Any) -> NDArray[np.object_] | None:
    if "var" not in group:
        return None
    table = group["var"]
    index = str(attributes(table).get("_index", "_index"))
    return values_of(child(table, index, place_of(table))).astype(object)
