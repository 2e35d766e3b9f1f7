"""Sources from the options that name stored arrays. Opening reads metadata only."""

from typing import Any

import numpy as np

from dsoftmax.data.anndata.element import KNOWN
from dsoftmax.data.kind import kind_of
from dsoftmax.data.open import open_source, opened_array
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.data.zarr.names import encoding_of, open_array
from dsoftmax.errors import OptionError


def open_data(
    data: str,
    features: str | None,
    labels: str | None = None,
    weights: str | None = None,
    missing_chunks: str = "error",
    groups: str | None = None,
) -> Source:
    """Open the arrays that the options name.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    return open_source(_table(data, features, labels, weights, groups, missing_chunks))


def _table(
    data: str,
    features: str | None,
    labels: str | None,
    weights: str | None,
    groups: str | None,
    missing_chunks: str,
) -> Table[Any]:
    """Return the table of the named arrays, with their paths as names."""
    if features is None and "://" not in data and encoding_of(data) == "anndata":
        features = "X"
    named = (("--labels", labels), ("--weights", weights), ("--groups", groups))
    X = _opened(data, features, "--features")
    y, s, g = (None if name is None else _opened(data, name, option) for option, name in named)
    names = Names(*(_path(array) if array is not None else "" for array in (X, y, s, g)))
    return Table(X, y, s, g, names, missing_chunks)


def _opened(data: str, name: str | None, option: str) -> Any:
    found = open_array(data, name, option, KNOWN)
    return opened_array(found, f"{option} {name or data}")


def open_validation(
    validation: str | None,
    training: Source,
    features: str | None,
    labels: str,
    weights: str | None = None,
    missing_chunks: str = "error",
) -> Source | None:
    """Open a validation set: a second store whose arrays have the names of the training arrays.

    Returns
    -------
    Source or None
        None if ``validation`` is None.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    if validation is None:
        return None
    table = _table(validation, features, labels, weights, None, missing_chunks)
    names = table.names
    for option, path in (
        ("--features", names.X),
        ("--labels", names.y),
        ("--weights", names.weights),
    ):
        if path and path in vars(training.names).values():
            raise OptionError(
                f"--validation {validation}: {option} names {path}, which is a training array. "
                "Pass a store that has other rows in arrays of the same names as DATA."
            )
    return open_source(table)


def _path(array: Any) -> str:
    if kind_of(array) == "stored":
        return str(array.place)
    return str(array.store_path).removeprefix("file://")


def label_dtype(source: Source) -> np.dtype:
    """Return the dtype of the stored labels; object if there are none."""
    found = source.dtypes.y
    return np.dtype(object) if found is None else found
