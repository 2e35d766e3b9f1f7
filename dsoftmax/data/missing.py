"""Missing values: which values of an array mean that its row has no data.

A row is skipped if one of its features, its label, its weight or its group is missing. The data
declare values as missing: by the mask of a NumPy or dask array, or by the fill value in the
attributes of a stored array. The user names further ones: ``nodata`` for features, ``unlabelled``
for labels.

Every other value counts. NaN that nobody has declared is an error.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.errors import DataError, OptionError

PARTS = ("X", "y", "weights", "groups")
"""Arrays of a table whose missing values skip a row, in the order of `REASONS`."""
REASONS = ("nodata", "unlabelled", "unweighted", "ungrouped")
"""Reasons to skip a row. Reason i has the code i + 1. The code of a row that counts is 0."""
TESTED_VALUES = 2**18
"""Values that are compared at a time, so that the comparison needs little memory."""

Reasons = NDArray[np.uint8]
"""Code of the reason of each row, (rows,)."""

log = logging.getLogger("dsoftmax")


@dataclass(frozen=True)
class Missing:
    """Values that are missing, by the array of the table in which they stand.

    NaN stands for every kind of missing value: NaN, None, NaT and ``pandas.NA``.

    Attributes
    ----------
    X, y, weights, groups : tuple
    """

    X: tuple[Any, ...] = ()
    y: tuple[Any, ...] = ()
    weights: tuple[Any, ...] = ()
    groups: tuple[Any, ...] = ()

    @property
    def any(self) -> bool:
        """Whether any value is missing at all."""
        return bool(self.X or self.y or self.weights or self.groups)

    def without(self, parts: Iterable[str]) -> "Missing":
        """Return these values without those of some arrays."""
        return replace(self, **dict.fromkeys(parts, ()))

    def adding(self, part: str, values: Iterable[Any]) -> "Missing":
        """Return these values and further ones of an array."""
        mine = list(getattr(self, part))
        for value in values:
            mine += [] if is_among(value, mine) else [value]
        return replace(self, **{part: tuple(mine)})


NOTHING = Missing()
"""No value is missing."""


def given_missing(
    nodata: Any, unlabelled: Any, options: tuple[str, str] = ("nodata", "unlabelled")
) -> Missing:
    """Return the missing values that a user names.

    Parameters
    ----------
    nodata : number, sequence of numbers, or None
        Values of features. NaN is one of them only if it is named.
    unlabelled : label, sequence of labels, or None
        Labels. NaN stands for None and ``pandas.NA`` too.
    options : tuple of str
        Spellings of the two options in messages.

    Raises
    ------
    OptionError
    """
    features = _listed(nodata)
    for value in features:
        if not isinstance(value, (Real, np.number)) or isinstance(value, (bool, np.bool_)):
            raise OptionError(
                f"{options[0]}={nodata!r}; expected the value of features without data, or several "
                "in a list. Pass numbers, for example nan."
            )
    labels = [np.nan if is_missing(label) else label for label in _listed(unlabelled)]
    for label in labels:
        if not isinstance(label, (Real, np.generic, str, bytes)):
            raise OptionError(
                f"{options[1]}={unlabelled!r}; expected the label of rows without a class, or "
                "several in a list. Pass labels, or nan for labels that are missing."
            )
    return Missing(X=tuple(features), y=tuple(labels))


def named_values(missing: Missing) -> dict[str, list[str]]:
    """Return the values that a user names as text, by their option, for the record of a model."""
    found = {"nodata": missing.X, "unlabelled": missing.y}
    return {name: [str(value) for value in values] for name, values in found.items() if values}


def remembered(about: Mapping[str, Any]) -> Missing:
    """Return the values of features that the record of a model names."""
    texts = about.get("nodata") or ()
    return Missing(X=tuple(float(text) for text in texts if isinstance(text, str)))


def _listed(values: Any) -> list[Any]:
    if values is None:
        return []
    many = isinstance(values, (list, tuple, set, frozenset)) or np.ndim(values) > 0
    return list(values) if many else [values]


def is_missing(value: Any) -> bool:
    """Return whether a label or group is None, NaN, NaT or ``pandas.NA``."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return not isinstance(value, (str, bytes)) and bool(value != value)


def is_among(value: Any, values: Iterable[Any]) -> bool:
    """Return whether a value is among others. All kinds of missing values are alike."""
    if is_missing(value):
        return any(is_missing(one) for one in values)
    return any(not is_missing(one) and bool(one == value) for one in values)


_TEXT = {"U": str, "S": bytes}


def _texts(value: Any) -> list[str | bytes]:
    """Return a text as string and as bytes of UTF-8, which labels do not distinguish."""
    if isinstance(value, str):
        return [value, value.encode()]
    if isinstance(value, bytes):
        return [value, value.decode("utf-8", "backslashreplace")]
    return []


def in_dtype(value: Any, dtype: np.dtype) -> Any:
    """Return a value in the dtype of an array; None if no entry of the array can equal it.

    A number is rounded as the writer of a float array has rounded it.
    """
    kind = dtype.kind
    if kind in "OT":
        return value
    if kind in "US":
        return next((one for one in _texts(value) if isinstance(one, _TEXT[kind])), None)
    if not isinstance(value, (Real, np.number, np.bool_)):
        return None
    number: Any = value
    if kind == "f":
        with np.errstate(over="ignore"):
            found = dtype.type(number)
        return None if np.isinf(found) and not np.isinf(number) else found
    if kind not in "biu" or number != number or number != np.floor(number):
        return None
    low, high = (0, 1) if kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return dtype.type(int(number)) if low <= number <= high else None


def require_in_dtype(
    values: Iterable[Any], dtype: np.dtype, name: str, option: str, sparse: bool = False
) -> tuple[Any, ...]:
    """Return the values that a user names, in the dtype of the array. NaN may be no value of it.

    Raises
    ------
    OptionError
        A value cannot occur in the array, or it is the 0 that sparse rows do not store.
    """
    found = []
    for value in values:
        own = in_dtype(value, dtype)
        if own is None and not is_missing(value):
            raise OptionError(
                f"{option}={value!r} (--{option} {value}) is no value of {name}, which has dtype "
                f"{dtype}. Pass a value that the array can hold."
            )
        if sparse and own == 0:
            raise OptionError(
                f"{option}=0 (--{option} 0) does nothing for {name}, because sparse rows do "
                "not store 0. Pass another value, or leave it out."
            )
        found += [] if own is None else [own]
    return tuple(found)


def is_masked(values: Any) -> bool:
    """Return whether the values are a NumPy masked array."""
    return isinstance(values, np.ma.MaskedArray)


def missing_rows(values: Any, marks: Iterable[Any]) -> NDArray[np.bool_] | None:
    """Return whether a value of each row is masked or among ``marks``, (rows,); None if none is.

    Parameters
    ----------
    values : (rows,) or (rows, p) ndarray, masked array or CSR
    marks : iterable
        Missing values in the dtype of ``values``.
    """
    marks = tuple(marks)
    if not (marks or is_masked(values)):
        return None
    found = np.zeros(values.shape[0], bool)
    if is_masked(values):
        if values.mask is not np.ma.nomask:
            found |= values.mask if values.ndim == 1 else values.mask.any(axis=1)
        values = values.data
    if marks and scipy.sparse.issparse(values):
        entries = np.flatnonzero(_equal(values.data, marks))
        found[np.searchsorted(values.indptr, entries, side="right") - 1] = True
    elif marks:
        width = max(values[:1].size, 1)
        step = max(TESTED_VALUES // width, 1)
        for start in range(0, len(values), step):
            hits = np.flatnonzero(_equal(values[start : start + step], marks))
            found[start + hits // width] = True  # NumPy reduces short rows slowly
    return found if found.any() else None


def _equal(values: NDArray, marks: tuple[Any, ...]) -> NDArray[np.bool_]:
    """Return whether each value is among ``marks``."""
    if values.dtype.kind in "OT":
        none = any(is_missing(mark) for mark in marks)
        words = [one for mark in marks if not is_missing(mark) for one in _texts(mark) or [mark]]
        return np.array(
            [none if is_missing(one) else one in words for one in values.tolist()], bool
        ).reshape(values.shape)
    found = np.zeros(values.shape, bool)
    for mark in marks:
        if not is_missing(mark):
            found |= values == mark
        elif values.dtype.kind == "f":
            found |= np.isnan(values)
    return found


def joined(one: Reasons | None, two: Reasons | None) -> Reasons | None:
    """Return the reason of each row from two findings. A row with two has the one of least code."""
    if one is None or two is None:
        return two if one is None else one
    both = np.minimum(one, two)
    return np.where(both > 0, both, one | two)


def skipped_line(counts: Iterable[int], n_rows: int) -> str:
    """Return the line that reports skipped rows; empty if none were skipped.

    Parameters
    ----------
    counts : iterable of int
        Skipped rows by reason, in the order of `REASONS`.
    n_rows : int
        All rows, those that are skipped included.
    """
    parts = [(int(n), why) for n, why in zip(counts, REASONS, strict=True) if n]
    if not parts:
        return ""
    listed = ", ".join(f"{n:,} {why}" for n, why in parts)
    return f"{sum(n for n, _ in parts):,} of {n_rows:,} rows skipped: {listed}"


def report_skipped(counts: Iterable[int], n_counted: int, name: str = "X") -> None:
    """Log the line of the rows that were skipped, if any.

    The line is a warning, because Python prints warnings of a logger that has no handler.

    Raises
    ------
    DataError
        No row counts.
    """
    counts = [int(n) for n in counts]
    line = skipped_line(counts, n_counted + sum(counts))
    if line and not n_counted:
        raise DataError(
            f"{name} has no row that counts: {line}. Expected rows with features and a label. "
            "Check the masks, the fill values, and the options nodata and unlabelled."
        )
    if line:
        log.warning("%s.", line)
