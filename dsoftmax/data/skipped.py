"""The search of a table for rows that do not count: their reasons become a column.

Arrays in memory are searched once, before the first pass. Stored and lazy arrays are searched in
every block that is loaded.
"""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse

from dsoftmax.data.checks import require_numbers
from dsoftmax.data.features import dense_or_csr
from dsoftmax.data.kind import kind_of
from dsoftmax.data.missing import (
    PARTS,
    Missing,
    is_masked,
    joined,
    missing_rows,
    require_in_dtype,
)
from dsoftmax.data.table import Table

OPTIONS = {"X": "nodata", "y": "unlabelled"}
"""Option that names the missing values of an array."""


def with_known_rows(table: Table[Any]) -> Table[Any]:
    """Return a table whose arrays in memory were searched: they have no mask any more.

    Stored and lazy arrays stay as they are.

    Raises
    ------
    OptionError
        A value that the user names cannot occur in its array.
    """
    wanted: dict[str, Any] = {}
    missing = table.missing
    for part in PARTS:
        values, marks = getattr(table, part), getattr(missing, part)
        if values is None or isinstance(values, Real) or kind_of(values) != "memory":
            continue
        if not (marks or is_masked(values)):
            continue
        name, n_dimensions = getattr(table.names, part), 2 if part == "X" else 1
        array = dense_or_csr(values) if scipy.sparse.issparse(values) else np.asanyarray(values)
        if array.ndim != n_dimensions:  # refused later, with its shape
            continue
        if part == "X":
            require_numbers(name, array.dtype)
        sparse = scipy.sparse.issparse(array)
        own = require_in_dtype(marks, array.dtype, name, OPTIONS.get(part, part), sparse)
        missing, wanted[part] = replace(missing, **{part: own}), array
    if len({array.shape[0] for array in wanted.values()}) != 1:  # none, or refused later
        return table
    found = searched(replace(table, **wanted, missing=missing), tuple(wanted))
    return replace(found, missing=missing.without(wanted))


def searched(table: Table[Any], parts: Sequence[str] = PARTS) -> Table[Any]:
    """Return plain arrays, with the reason of each row that is skipped.

    Parameters
    ----------
    table : Table of ndarray, masked array or CSR
        Its missing values are in the dtypes of the arrays. Rows of X that are not decoded yet are
        not searched, and their missing values stay in the table.
    parts : sequence of str
        Arrays to search.
    """
    reasons, plain = table.skipped, {}
    for code, part in enumerate(PARTS, start=1):
        values = getattr(table, part)
        if values is None or part not in parts:
            continue
        if part != "X":
            values = np.asanyarray(values)
        elif not (isinstance(values, np.ndarray) or scipy.sparse.issparse(values)):
            continue
        rows = missing_rows(values, getattr(table.missing, part))
        plain[part] = values.data if is_masked(values) else values
        if rows is not None:
            reasons = joined(reasons, rows.astype(np.uint8) * np.uint8(code))
    return replace(table, **plain, skipped=reasons, missing=table.missing.without(plain))


def in_dtypes(missing: Missing, dtypes: Table[np.dtype], sparse: bool = False) -> Missing:
    """Return the values that a user names, in the dtypes of the arrays of a table.

    Raises
    ------
    OptionError
        A value cannot occur in its array.
    """
    found = Missing()
    for part, dtype in dtypes.items():
        if part in PARTS:
            marks = require_in_dtype(
                getattr(missing, part),
                dtype,
                getattr(dtypes.names, part),
                OPTIONS.get(part, part),
                sparse and part == "X",
            )
            found = found.adding(part, marks)
    return found
