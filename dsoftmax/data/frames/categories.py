"""The coding of a frame's columns: by their types, by a list of names, or as in the training."""

from collections.abc import Iterable, Mapping
from typing import Any

from dsoftmax.data.coding import Coding, Column
from dsoftmax.data.frames.frame import Frame, require_columns
from dsoftmax.data.frames.types import is_category, is_number, is_text, is_value, value_type
from dsoftmax.errors import DataError, OptionError

FROM_DTYPE = "from_dtype"
"""Value of ``categorical_features`` that means every column of strings or categories."""
CURE = (
    "Pass categorical_features='from_dtype' (--categorical from_dtype) to code such columns "
    "one-hot, or leave them out."
)


def find_coding(frame: Frame, categorical: Any = None, unknown: str = "error") -> Coding:
    """Return the coding of all columns of a frame. Categories that are not given are found.

    Only columns of categories are read, once.

    Parameters
    ----------
    frame : Frame
    categorical : None, "from_dtype", iterable of str, or mapping
        Columns of categories: none, those of strings or Arrow's dictionaries, or those that are
        named. A mapping from names gives the categories of each, or None to find them.
    unknown : {"error", "ignore"}

    Raises
    ------
    OptionError
    DataError
        A column does not exist, has a type that is no feature, or no category.
    """
    types, place = frame.pieces.types, frame.pieces.place
    if not frame.columns:
        raise DataError(f"{place} has no column of features; expected one or more. Name them.")
    given = _given(frame, categorical)
    for name in frame.columns:
        kind = types[name]
        fits = is_value(kind) if name in given else is_number(kind)
        if not fits:
            cure = (
                CURE
                if is_category(kind) and is_value(kind)
                else ("Leave it out, by naming the features, or convert it.")
            )
            raise DataError(f"{place}: the column {name} is {kind}; expected numbers. {cure}")
    wanted = [name for name, values in given.items() if values is None]
    found = _found(frame, wanted)
    known = {name: values for name, values in given.items() if values is not None} | found
    columns = [Column(name, known.get(name)) for name in frame.columns]
    return Coding(tuple(columns), unknown)


def _given(frame: Frame, categorical: Any) -> dict[str, tuple[Any, ...] | None]:
    """Return the columns of categories, with those that are given."""
    if categorical is None:
        return {}
    if isinstance(categorical, str):
        if categorical != FROM_DTYPE:
            raise OptionError(
                f"categorical_features={categorical!r}; expected 'from_dtype', or names of columns "
                "in a list. Pass one of them."
            )
        types = frame.pieces.types
        return {name: None for name in frame.columns if is_category(types[name])}
    if isinstance(categorical, Mapping):
        require_columns(categorical, frame.columns, frame.pieces.place)
        return {name: _distinct(name, values) for name, values in categorical.items()}
    names = list(categorical)
    require_columns(names, frame.columns, frame.pieces.place)
    return dict.fromkeys(names)


def _distinct(name: str, values: Iterable[Any] | None) -> tuple[Any, ...] | None:
    if values is None:
        return None
    listed = [getattr(value, "item", lambda value=value: value)() for value in values]
    if not listed or len({type(one) for one in listed}) > 1 or len(set(listed)) < len(listed):
        raise OptionError(
            f"categorical_features gives the categories {listed} of {name}; expected distinct "
            "values of one type. Pass each category once, or None to find them."
        )
    return tuple(sorted(listed))


def _found(frame: Frame, names: list[str]) -> dict[str, tuple[Any, ...]]:
    """Return the categories of some columns, ascending. They are found in one reading."""
    pieces = frame.pieces
    categories: dict[str, set[Any]] = {name: set() for name in names}
    for name, values in pieces.distinct(names):
        categories[name] |= values
    for name, values in categories.items():
        if not values:
            raise DataError(
                f"{pieces.place}: the column {name} has no category, because all its values are "
                "null; expected a value in some row. Leave the column out."
            )
        if any(value != value for value in values):
            raise DataError(
                f"{pieces.place}: the column {name} has the category NaN; expected values, or "
                "nulls, whose rows are skipped. Replace NaN by null."
            )
    return {name: tuple(sorted(values)) for name, values in categories.items()}


def require_coded(frame: Frame, coding: Coding) -> None:
    """Raise unless a frame has the columns of a coding, whatever their order.

    Raises
    ------
    DataError
        A column is absent, or its type is another one than in the training.
    """
    place, types = frame.pieces.place, frame.pieces.types
    require_columns(coding.names, frame.columns, place)
    for column in coding.columns:
        kind = types[column.name]
        if column.categories is None:
            fits, wanted = is_number(kind), "numbers"
        else:
            text = isinstance(column.categories[0], str)
            fits = is_text(kind) if text else is_number(value_type(kind))
            wanted = "strings" if text else "numbers"
        if not fits:
            raise DataError(
                f"{place}: the column {column.name} is {kind}; expected {wanted}, as in the "
                "training. Convert the column."
            )
