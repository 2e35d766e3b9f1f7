"""Types of Arrow columns: numbers, categories, and others that are no features."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from dsoftmax.errors import DataError

Type = Any
"""A ``pyarrow.DataType``."""


def is_text(kind: Type) -> bool:
    """Return whether the values of a column are strings, dictionary-encoded or not."""
    kind = value_type(kind)
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def is_number(kind: Type) -> bool:
    """Return whether the values of a column are numbers or booleans."""
    return bool(
        kinds.is_boolean(kind)
        or kinds.is_integer(kind)
        or kinds.is_floating(kind)
        or kinds.is_decimal(kind)
    )


def is_category(kind: Type) -> bool:
    """Return whether a column has categories by its type: strings, or a dictionary."""
    return is_text(kind) or bool(kinds.is_dictionary(kind))


def value_type(kind: Type) -> Type:
    """Return the type of the values of a column that may be dictionary-encoded."""
    return kind.value_type if kinds.is_dictionary(kind) else kind


def is_value(kind: Type) -> bool:
    """Return whether a column can be labels, groups or categories."""
    return is_text(kind) or is_number(value_type(kind))


def numpy_dtype(kind: Type) -> np.dtype:
    """Return the dtype of the values of a column as NumPy reads them: object for strings."""
    kind = value_type(kind)
    if is_text(kind):
        return np.dtype(object)
    if kinds.is_decimal(kind):
        return np.dtype(np.float64)
    return np.dtype(kind.to_pandas_dtype())


def common_type(found: Iterable[Type], name: str, place: str) -> Type:
    """Return the type that holds the values of a column in all files.

    Raises
    ------
    DataError
        Some files have numbers there and others something else.
    """
    distinct = list(dict.fromkeys(found))
    if len(distinct) == 1:
        return distinct[0]
    if all(is_text(kind) for kind in distinct):
        return pa.dictionary(pa.int32(), pa.large_string())
    if all(is_number(kind) for kind in distinct):
        return pa.from_numpy_dtype(np.result_type(*(numpy_dtype(kind) for kind in distinct)))
    raise DataError(
        f"{place}: the column {name} is {' in one file and '.join(map(str, distinct[:2]))} in "
        "another; expected one type in all files. Write the files again with one type."
    )


def matrix_dtype(types: Iterable[Type], sparse: bool) -> np.dtype:
    """Return the dtype of rows that hold the numbers of these columns exactly.

    Parameters
    ----------
    types : iterable of pyarrow.DataType
        Types of the columns of numbers.
    sparse : bool
        Whether rows are CSR, whose values are float32 or float64.
    """
    dtypes = [numpy_dtype(kind) for kind in types]
    found = np.result_type(*dtypes) if dtypes else np.dtype(np.float32)
    if not sparse:
        return found
    exact = np.can_cast(found, np.float32, "safe")
    return np.dtype(np.float32 if exact else np.float64)
