"""Sources from the options that name stored arrays. Opening reads metadata only."""

from dataclasses import replace
from typing import Any

import numpy as np

from dsoftmax.cli.missing_choice import NODATA, NONE, UNLABELLED, MissingChoice
from dsoftmax.data.missing import given_missing
from dsoftmax.data.open import open_source
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.data.zarr.names import open_array
from dsoftmax.errors import OptionError
from dsoftmax.results.no_data import Skips


def open_data(
    data: str,
    features: str | None,
    labels: str | None = None,
    weights: str | None = None,
    missing_chunks: str = "error",
    groups: str | None = None,
    missing: MissingChoice = NONE,
) -> Source:
    """Open the arrays that the options name.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    return open_source(_table(data, features, labels, weights, groups, missing_chunks, missing))


def open_features(data: str, features: str | None, missing_chunks: str, skips: Skips) -> Source:
    """Open the rows of a prediction.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    table = _table(data, features, None, None, None, missing_chunks, NONE)
    return open_source(replace(table, missing=skips.values(np.dtype(table.X.dtype))))


def _table(
    data: str,
    features: str | None,
    labels: str | None,
    weights: str | None,
    groups: str | None,
    missing_chunks: str,
    missing: MissingChoice,
) -> Table[Any]:
    """Return the table of the named arrays, with their paths as names."""
    named = (("--labels", labels), ("--weights", weights), ("--groups", groups))
    X = open_array(data, features, "--features")
    y, s, g = (None if name is None else open_array(data, name, option) for option, name in named)
    names = Names(*(_path(array) if array is not None else "" for array in (X, y, s, g)))
    labels_missing = () if y is None else missing.labels(np.dtype(y.dtype))
    named_values = given_missing(missing.features(), labels_missing, (NODATA, UNLABELLED))
    return Table(X, y, s, g, names, missing_chunks, named_values)


def open_validation(
    validation: str | None,
    training: Source,
    features: str | None,
    labels: str,
    weights: str | None = None,
    missing_chunks: str = "error",
    missing: MissingChoice = NONE,
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
    table = _table(validation, features, labels, weights, None, missing_chunks, missing)
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
