"""Stored labels, classes in scikit-learn's order, and the codes 0 … K−1 between them.

Labels are numbers or text. Text is stored as strings of fixed or variable width, as bytes, or as
Python objects. Bytes are the UTF-8 of a string, so b"oak" and "oak" name the same class.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block, RowNumbers
from dsoftmax.data.missing import is_missing
from dsoftmax.data.soft import is_soft, soft_codes
from dsoftmax.errors import DataError

MAX_CLASSES = 50_000
"""Most classes. More different labels are probably no classes but, for example, row numbers."""
SKIP_LABELS = (
    "Pass unlabelled={0} (--unlabelled {0}) to skip rows without a label, or give them a class of "
    "their own."
)
"""Advice for a label that is missing."""
TABLE_SPAN = 2**16
"""Span of integer classes below which a look-up table encodes them; beyond, bisection does."""


def plain_labels(y: NDArray, name: str = "y", first_row: int | RowNumbers = 0) -> NDArray:
    """Return labels as integers, booleans, whole floats, or strings or bytes of fixed width.

    Raises
    ------
    DataError
        A label is missing or fractional, or its dtype cannot be that of a class.
    """
    kind = y.dtype.kind
    if kind in "iubUS":
        return y
    if kind == "f":
        bad = ~np.isfinite(y)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{name} row {first_row + row:,}: the label is {y[row]}. Input {name} contains "
                f"NaN or infinity; expected a class for every row. {SKIP_LABELS.format(y[row])}"
            )
        if np.any(y != np.floor(y)):
            row = int(np.argmax(y != np.floor(y)))
            raise DataError(
                f"{name} row {first_row + row:,}: the label is {y[row]}. Unknown label type: "
                "continuous; expected classes (integers, whole floats, booleans or strings). Use a "
                "regression for real-valued targets."
            )
        return y
    if kind in "OT":  # Python objects, variable-width strings
        for row, label in enumerate(y):
            if is_missing(label):
                raise DataError(
                    f"{name} row {first_row + row:,}: the label is {label}. Input {name} "
                    "contains NaN or None; expected a class for every row. "
                    f"{SKIP_LABELS.format('nan')}"
                )
        plain = _of_one_type(y.tolist())
        if plain.dtype.kind in "US":
            return plain
        if plain.dtype.kind in "iubf" and plain.shape == y.shape:
            return plain_labels(plain, name, first_row)
    raise DataError(
        f"{name} has dtype {y.dtype}, Unknown label type: unknown; expected integers, whole "
        "floats, booleans or strings. Convert the labels, for example with astype(str)."
    )


def _of_one_type(labels: list[Any]) -> NDArray:
    """Return Python objects as an array.

    Raises
    ------
    DataError
        Some of them are text, and others are not, or strings and bytes are mixed.
    """
    for text in (str, bytes):
        if all(isinstance(label, text) for label in labels):
            return np.array(labels, dtype=text)
    _require_one_type(labels)
    return np.array(labels)


def _require_one_type(labels: Iterable[Any]) -> None:
    kinds = sorted({_type_name(label) for label in labels})
    if len(kinds) > 1 and {"str", "bytes"} & set(kinds):  # NumPy would convert 1 to "1"
        raise DataError(
            f"The labels mix {', '.join(kinds)}; expected one type. Convert them with astype(str)."
        )


def _type_name(label: Any) -> str:
    texts = (one.__name__ for one in (str, bytes) if isinstance(label, one))
    return next(texts, type(label).__name__)


def text_as(y: NDArray, classes: NDArray) -> NDArray:
    """Return plain labels as strings if the classes are strings, as bytes if they are bytes.

    Bytes and strings are converted by UTF-8. Other labels are returned unchanged. Bytes that are
    no UTF-8 become a string that equals no class.
    """
    if y.dtype.kind == "S" and classes.dtype.kind == "U":
        return np.char.decode(y, "utf-8", "surrogateescape")
    if y.dtype.kind == "U" and classes.dtype.kind == "S":
        return np.char.encode(y, "utf-8", "surrogatepass")
    return y


def label_as(label: Any, classes: NDArray) -> Any:
    """Return one label as `text_as` does."""
    if not isinstance(label, (str, bytes)):
        return label
    return text_as(np.array([label]), classes).tolist()[0]


def is_text(labels: NDArray) -> bool:
    """Return whether plain labels are strings or bytes."""
    return labels.dtype.kind in "US"


def in_json(classes: NDArray) -> list[Any]:
    """Return labels in JSON types. Bytes become strings by UTF-8, ``\\xNN`` where they are none."""
    return (
        [label.decode("utf-8", "backslashreplace") for label in classes.tolist()]
        if classes.dtype.kind == "S"
        else classes.tolist()
    )


def ordered_classes(found: Iterable[Any]) -> NDArray:
    """Return labels in the order of scikit-learn's ``classes_``: ascending.

    Raises
    ------
    DataError
        There are fewer than two classes, or their types have no common order.
    """
    labels = list(found)
    _require_one_type(labels)
    kinds = sorted({type(label).__name__ for label in labels})
    array = np.array(labels)
    # NumPy converts integers beyond int64 to floats that differ from them.
    if kinds == ["int"] and array.dtype.kind not in "iu":
        if min(labels) < 0:
            raise DataError(
                f"The labels reach from {min(labels)} to {max(labels)}; expected a range that an "
                "integer dtype holds. Give the classes smaller numbers."
            )
        array = np.array(labels, np.uint64)
    classes = np.unique(array)
    if len(classes) < 2:
        shown = classes[0].item() if len(classes) else "none"
        raise DataError(
            "This solver needs samples of at least 2 classes in the data, but the data contains "
            f"only one class: {shown!r}. Check that the labels belong to these rows."
        )
    return classes


def given_classes(classes: NDArray) -> NDArray:
    """Return given classes in ascending order, in their dtype.

    Raises
    ------
    DataError
        There are fewer than two.
    """
    ordered = ordered_classes(classes.tolist())
    return ordered.astype(classes.dtype) if classes.dtype.kind in "biuf" else ordered


def _largest(labels: NDArray, n: int) -> int:
    """Return the largest of some integers; at least ``n`` if any of them is negative."""
    if n > np.iinfo(labels.dtype).max:
        return int(labels.max()) if int(labels.min()) >= 0 else n
    # As unsigned integers, negative numbers are the largest of all.
    return int(labels.view(labels.dtype.str.replace("i", "u")).max())


def _above(labels: NDArray, low: int, high: int) -> NDArray[np.integer]:
    """Return labels between ``low`` and ``high``, minus ``low``, without overflow."""
    wide = np.uint64 if high > np.iinfo(np.int64).max else np.int64
    return labels.astype(wide) - wide(low)


@dataclass(frozen=True)
class Encoder:
    """The map from labels to codes.

    Attributes
    ----------
    classes : (K,) ndarray
        Ascending.
    trained : bool
        Whether they are the classes of a model, so that the user cannot pass others.
    """

    classes: NDArray
    trained: bool = False

    @cached_property
    def _table(self) -> tuple[int, NDArray[np.int32]] | None:
        if self.classes.dtype.kind not in "iu":
            return None
        low, high = int(self.classes[0]), int(self.classes[-1])
        if high - low >= TABLE_SPAN:
            return None
        table = np.full(high - low + 1, -1, np.int32)
        table[_above(self.classes, low, high)] = np.arange(len(self.classes))
        return low, table

    def codes(self, block: Block) -> NDArray[np.integer]:
        """Return the codes of a block's labels, (rows,) integers.

        Soft labels have the code of their most probable class.

        Raises
        ------
        DataError
            A label is not among the classes; the message names its row.
        """
        assert block.y is not None
        if is_soft(block.y.dtype):
            return soft_codes(block.y)
        y = plain_labels(block.y, block.names.y, block.origin)
        if len(y) == 0:
            return np.zeros(0, np.int64)
        if self._table is not None and y.dtype.kind in "iu":
            low, table = self._table
            if (
                low == 0
                and len(table) == len(self.classes)
                and _largest(y, len(table)) < len(table)
            ):
                return y  # the classes are 0 … K-1, so labels are their own codes
            if int(y.min()) >= low and int(y.max()) < low + len(table):
                codes: NDArray[np.integer] = table[_above(y, low, low + len(table))]
                if codes.min() >= 0:
                    return codes
        if is_text(y) != is_text(self.classes):
            self._unknown(block, y, 0)
        y = text_as(y, self.classes)
        codes = np.minimum(np.searchsorted(self.classes, y), len(self.classes) - 1)
        wrong = self.classes[codes] != y
        if wrong.any():
            self._unknown(block, y, int(np.argmax(wrong)))
        return codes

    def _unknown(self, block: Block, y: NDArray, row: int) -> None:
        shown = [str(label) for label in self.classes[:8].tolist()] + (
            ["…"] if len(self.classes) > 8 else []
        )
        cure = (
            "Pass classes that name every label, or leave classes out: the first pass finds them."
        )
        if self.trained:
            cure = (
                "The model knows these classes only. Leave out rows of other classes, or train on "
                "such rows too. Pass unlabelled=… (--unlabelled …) if this label means no class."
            )
        if block.validation:
            cure = (
                "Validation rows may only have trained classes. Leave out the others, or train on "
                "rows of them too."
            )
        raise DataError(
            f"{block.names.y} rows {block.origin + 0:,}–{block.origin + (len(y) - 1):,}: label "
            f"{y[row].item()!r} (row {block.origin + row:,}) is not among the "
            f"{len(self.classes)} classes [{' '.join(shown)}]. {cure}"
        )
