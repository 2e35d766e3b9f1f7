"""Rows of an Arrow table as rows of features, as values of a column, and as reasons to skip."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dsoftmax.data.coding import Coding, Column
from dsoftmax.data.frames.types import is_text, numpy_dtype, value_type
from dsoftmax.errors import DataError

SHOWN = 5
"""Most categories that a message lists."""


def fill_rows(
    table: Any,
    coding: Coding,
    values: NDArray,
    indices: NDArray | None,
    first_row: int,
    name: str,
) -> None:
    """Write rows of a table as features.

    A row has one value for each column. It is the number, or 1 for the feature of its category.
    Nulls become 0, and so do categories that are ignored.

    Parameters
    ----------
    table : pyarrow.Table
    coding : Coding
    values : (rows, columns) ndarray
        Written.
    indices : (rows, columns) int32 or int64, or None
        Written: numbers of the features, ascending in each row. None if there are no categories.
    first_row : int
        Number of the first row in messages.
    name : str
        Name of the frame in messages.

    Raises
    ------
    DataError
        A category is not known, and ``coding.unknown`` is "error".
    """
    for place, (column, offset) in enumerate(
        zip(coding.columns, coding.offsets.tolist(), strict=True)
    ):
        start = 0
        for chunk in table.column(column.name).chunks:
            rows = slice(start, start + len(chunk))
            start += len(chunk)
            if column.categories is None:
                values[rows, place] = _numbers(chunk)
                if indices is not None:
                    indices[rows, place] = offset
                continue
            codes, known = codes_of(chunk, column)
            if coding.unknown == "error":
                _require_known(chunk, column, known, first_row + rows.start, name)
            values[rows, place] = known
            assert indices is not None
            indices[rows, place] = offset + codes


def codes_of(chunk: Any, column: Column) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the number of each row's category, 0 for none, and whether there is one, (rows,)."""
    wanted = pa.array(list(column.categories or ()))
    dictionary = pa.types.is_dictionary(chunk.type)
    words = chunk.dictionary if dictionary else chunk
    kind = pa.large_string() if is_text(wanted.type) else wanted.type
    try:
        found = pc.index_in(words.cast(kind), value_set=wanted.cast(kind))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(
            f"The column {column.name} is {value_type(chunk.type)}, and its categories are "
            f"{wanted.type}; expected one type. Pass a column of the type of the training."
        ) from None
    if dictionary:
        found = found.take(chunk.indices)
    known = np.asarray(found.is_valid())
    return np.asarray(found.fill_null(0)), known


def _require_known(
    chunk: Any, column: Column, known: NDArray[np.bool_], first_row: int, name: str
) -> None:
    if known.all():
        return
    strange = np.flatnonzero(~known & ~nulls_of(chunk))
    if not len(strange):
        return
    row = int(strange[0])
    categories = [str(one) for one in (column.categories or ())[:SHOWN]]
    more = ", …" if len(column.categories or ()) > SHOWN else ""
    raise DataError(
        f"{name} row {first_row + row:,}: the column {column.name} is {chunk[row].as_py()!r}, "
        f"which is not among its {len(column.categories or ()):,} categories "
        f"({', '.join(categories)}{more}). Correct the value, train on rows that have it, or pass "
        "handle_unknown='ignore' (--handle-unknown ignore): all features of the column are then 0."
    )


def nulls_of(chunk: Any) -> NDArray[np.bool_]:
    """Return whether each value of a chunk is null, (rows,)."""
    if not pa.types.is_dictionary(chunk.type) or not chunk.dictionary.null_count:
        return np.asarray(chunk.is_null())
    return np.asarray(chunk.dictionary.take(chunk.indices).is_null())


def _numbers(chunk: Any) -> NDArray:
    """Return numbers, 0 for nulls, (rows,)."""
    if pa.types.is_decimal(chunk.type):
        chunk = chunk.cast(pa.float64())
    if chunk.null_count:
        chunk = chunk.fill_null(False if pa.types.is_boolean(chunk.type) else 0)
    return np.asarray(chunk.to_numpy(zero_copy_only=False))


def column_values(chunks: Iterable[Any], dtype: np.dtype) -> NDArray:
    """Return the values of a column, (rows,). Nulls are masked.

    Strings are Python objects, one for each distinct string of a dictionary.
    """
    found = [_values(chunk) for chunk in chunks] or [np.zeros(0, dtype)]
    masks = [nulls_of(chunk) for chunk in chunks] or [np.zeros(0, bool)]
    values, mask = np.concatenate(found).astype(dtype, copy=False), np.concatenate(masks)
    return np.ma.MaskedArray(values, mask) if mask.any() else values


def _values(chunk: Any) -> NDArray:
    kind = chunk.type
    if is_text(kind) and not pa.types.is_dictionary(kind):
        chunk = chunk.dictionary_encode()
    if not pa.types.is_dictionary(chunk.type):
        return _numbers(chunk)
    words = chunk.dictionary
    dtype = numpy_dtype(kind)
    if dtype.kind == "O":
        distinct: NDArray = np.array([*words.to_pylist(), None], object)
    else:
        distinct = np.append(_numbers(words), np.zeros(1, dtype)).astype(dtype)
    return distinct[np.asarray(chunk.indices.fill_null(len(words)))]


def null_rows(table: Any, names: Iterable[str]) -> NDArray[np.bool_]:
    """Return whether a value of each row is null, (rows,)."""
    found = np.zeros(table.num_rows, bool)
    for name in names:
        start = 0
        for chunk in table.column(name).chunks:
            found[start : start + len(chunk)] |= nulls_of(chunk)
            start += len(chunk)
    return found


def distinct_values(chunk: Any) -> set[Any]:
    """Return the distinct values of a chunk that occur in a row, without nulls."""
    if pa.types.is_dictionary(chunk.type):
        found = chunk.dictionary.take(pc.unique(chunk.indices).drop_null())
    else:
        found = pc.unique(chunk)
    if pa.types.is_decimal(found.type):
        found = found.cast(pa.float64())
    return set(found.to_pylist()) - {None}
