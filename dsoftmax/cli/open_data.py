"""Sources from the options that name stored arrays. Opening reads metadata only."""

from typing import Any

import numpy as np

from dsoftmax.data.open import open_source
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.data.zarr.names import open_array
from dsoftmax.errors import OptionError


def open_data(
    data: str,
    features: str | None,
    labels: str | None = None,
    weights: str | None = None,
    missing_chunks: str = "error",
    groups: str | None = None,
    fold_column: str | None = None,
) -> Source:
    """Open the arrays that the options name. A column of folds takes the place of groups.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    if groups is not None and fold_column is not None:
        raise OptionError(
            "--groups and --fold-column both choose the fold of each row. Pass only one of them."
        )
    option = "--groups" if fold_column is None else "--fold-column"
    column = groups if fold_column is None else fold_column
    return open_source(_table(data, features, labels, weights, column, missing_chunks, option))


def _table(
    data: str,
    features: str | None,
    labels: str | None,
    weights: str | None,
    groups: str | None,
    missing_chunks: str,
    grouping: str = "--groups",
) -> Table[Any]:
    """Return the table of the named arrays, with their paths as names."""
    named = (("--labels", labels), ("--weights", weights), (grouping, groups))
    X = open_array(data, features, "--features")
    y, s, g = (None if name is None else open_array(data, name, option) for option, name in named)
    names = Names(*(_path(array) if array is not None else "" for array in (X, y, s, g)))
    return Table(X, y, s, g, names, missing_chunks)


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
    return str(array.store_path).removeprefix("file://")


def label_dtype(source: Source) -> np.dtype:
    """Return the dtype of the stored labels; object if there are none."""
    found = source.dtypes.y
    return np.dtype(object) if found is None else found
